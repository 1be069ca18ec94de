"""The notebooks of `examples/` and the README's lines run on a small project, as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saeborzoi.settings.load import PROJECT_VARIABLE

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FIGURES = {"demo": 7, "what_is_node": 2}
MAX_BYTES = 200_000
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient

source, target = sys.argv[1:]
notebook = nbformat.read(source, 4)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, target)
"""


def test_both_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(FIGURES)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem == "demo" else [])
        for path in NOTEBOOKS
    ],
)
def test_the_notebook_runs_and_shows_its_figures(
    path: Path, made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install 'saeborzoi[dev]'")
    monkeypatch.setenv(PROJECT_VARIABLE, str(made_project))
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path), str(tmp_path / "done.ipynb")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in nbformat.read(tmp_path / "done.ipynb", 4).cells if is_code(cell)]
    empty = [cell.source for cell in cells if not cell.outputs]
    assert empty == []
    streams = [
        output for cell in cells for output in cell.outputs if output.output_type == "stream"
    ]
    assert streams == [], "a warning would stand between the figures"
    kinds = [kind for cell in cells for output in cell.outputs for kind in output.data]
    assert kinds.count("image/png") == FIGURES[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_can_be_read(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install 'saeborzoi[dev]'")
    text = path.read_text()
    assert len(text) < MAX_BYTES
    assert re.findall(r"/(?:home|Users|tmp|work)/[^\"\\ ]*", text) == []
    cells = nbformat.read(path, 4).cells
    assert [cell.source for cell in cells if is_code(cell) and cell.source.count("\n") > 7] == []
    n_text = sum(not is_code(cell) for cell in cells)
    assert n_text >= 0.4 * len(cells)
    assert cells[0].source.startswith("# ")


def is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code")


def test_the_readme_s_lines_run(
    made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (ROOT / "README.md").read_text().partition("## In a notebook")[2]
    snippet = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert snippet is not None
    lines = [line for line in snippet[1].splitlines() if line and not line.startswith("import")]
    assert len(lines) == 5
    monkeypatch.setenv(PROJECT_VARIABLE, str(made_project))
    monkeypatch.chdir(tmp_path)
    there: dict[str, Any] = {}
    exec("\n".join(["import saeborzoi", *lines[:-1], f"last = {lines[-1]}"]), there)
    assert (tmp_path / "node.pdf").read_bytes().startswith(b"%PDF")
    assert there["last"].matrix.shape == (500, there["sae"].n_nodes)
    assert there["node"].name is not None
