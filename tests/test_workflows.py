"""What other workflow managers run: Nextflow's scripts in task folders as it would have them, and
the Snakefile where Snakemake is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assets.small_project import KEY, make_small_project

WORKFLOWS = Path(__file__).parents[1] / "examples" / "workflows"
LAYER = KEY.partition("_x")[0]


def _task(process: str, folder: Path, inputs: dict[str, str | Path]) -> Path:
    """Run a process of main.nf as Nextflow does: its script under `bash -ue`, in a folder of its
    own with links to its input files. The path of its output."""
    text = (WORKFLOWS / "main.nf").read_text()
    body = text.partition(f"process {process} {{")[2].partition("\n}\n")[0]
    head, _, script = body.partition("script:")
    script = script.split('"""')[1].replace("\\\\", "\\")
    folder.mkdir(parents=True)
    values = {"projectDir": str(WORKFLOWS), "launchDir": str(folder.parents[1]), "task.cpus": "1"}
    for name, given in inputs.items():
        kind = "path" if isinstance(given, Path) else "val"
        assert re.search(rf"{kind}[ (]{name}\b", head), (process, name)
        if isinstance(given, Path):
            (folder / given.name).symlink_to(given)
        values[name] = given.name if isinstance(given, Path) else given
    script = re.sub(r"\$\{([\w.]+)\}", lambda match: values[match[1]], script)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ue", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = re.findall(r"path[ (]'(\w+)'", head.partition("output:")[2])
    assert (folder / name).is_dir()
    return folder / name


def _constants(settings: Path, folder: Path) -> Path:
    inputs: dict[str, str | Path] = {"settings": str(settings), "layer": LAYER}
    return _task("NORMALIZATION_CONSTANTS", folder, inputs)


def test_a_process_of_nextflow(tmp_path: Path) -> None:
    """No Dagster and no catalogue."""
    settings = make_small_project(tmp_path / "project")
    constants = _constants(settings, tmp_path / "work" / "1")
    assert (constants / "channel_max.json").exists()
    result = json.loads((tmp_path / "work" / "1" / "job" / "result.json").read_text())
    assert result["status"] == "success"
    assert not list((tmp_path / "project").rglob("catalog.duckdb"))


@pytest.mark.slow
def test_the_processes_of_nextflow_make_an_sae(tmp_path: Path) -> None:
    settings = make_small_project(tmp_path / "project")
    work = tmp_path / "work"
    constants = _constants(settings, work / "1")
    given: dict[str, str | Path] = {
        "settings": str(settings), "key": KEY, "constants": constants
    }  # fmt: skip
    sae = _task("TRAINED_SAE", work / "2", given)
    made = _task("TOP_ACTIVATIONS", work / "3", {**given, "sae": sae})
    assert (made / "top_activations.parquet").exists()
    assert (tmp_path / "jobs" / KEY / "result.json").exists(), "each attempt has the same folder"


def test_nextflow_can_parse_its_file() -> None:
    """By RefTrace, which has the grammar of Groovy; Nextflow's own parser needs Nextflow."""
    reftrace = pytest.importorskip("reftrace", reason="needs reftrace (pip install reftrace)")
    module = reftrace.Module.from_file(str(WORKFLOWS / "main.nf"))
    assert {process.name for process in module.processes} == {
        "NORMALIZATION_CONSTANTS", "TRAINED_SAE", "TOP_ACTIVATIONS"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake on PATH")
def test_the_snakefile_makes_an_sae(tmp_path: Path) -> None:
    settings = make_small_project(tmp_path / "project")
    command = [
        "snakemake", "--snakefile", str(WORKFLOWS / "Snakefile"), "--cores", "2", "--config",
        f"settings={settings}", f"layer={LAYER}", f"saes=[{KEY}]",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "results" / KEY / "top_activations" / "top_activations.parquet"
    assert made.exists()
    again = subprocess.run(
        [*command, "--dry-run"], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Nothing to be done" in again.stdout + again.stderr
