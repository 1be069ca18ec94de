"""What keeps the house in order beyond import directions, which `make lint` checks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import saeborzoi

ROOT = Path(__file__).parents[1]
CHOSEN_BY_USERS = {"borzoi_pytorch", "mlflow", "anndata"}
"""What a user asks for by name (`[model] loader`, `saeborzoi push`), and what asks for an older
pandas than the pins; where one is not installed, an error says so, and which extra brings it."""
PACKAGE = Path(saeborzoi.__file__).parent
MAX_LINES = 400


def test_at_most_ten_files_lie_at_the_top_of_the_package() -> None:
    """A newcomer tells science from plumbing by the rooms; a file belongs into one of them."""
    files = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(files) <= 10, files


def test_no_file_is_longer_than_people_read() -> None:
    """A file of more holds several things; each has a name by which it is found."""
    long = {
        str(file.relative_to(ROOT)): n
        for folder in (
            "saeborzoi",
            "saeborzoi_resources",
            "saeborzoi_assets",
            "tests",
            "benchmarks",
        )
        for ending in ("py", "js", "css", "html")
        for file in (ROOT / folder).rglob(f"*.{ending}")
        if not {"node_modules", "joined"} & set(file.parts)  # made, not written
        and (n := len(file.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_every_import_is_declared() -> None:
    """What is imported and not declared comes with another package, until it does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        _normal(re.split(r"[\[<>=~!; ]", requirement)[0])
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in group
    }
    own = {"saeborzoi", "saeborzoi_resources", "saeborzoi_assets"}
    distributions = packages_distributions()
    undeclared = {
        (str(file.relative_to(ROOT)), name)
        for package in own
        for file in (ROOT / package).rglob("*.py")
        for name in _imported(file) - own - CHOSEN_BY_USERS - sys.stdlib_module_names
        if not {_normal(d) for d in distributions.get(name, [name])} & declared
    }
    assert not undeclared


def test_the_citation_names_this_version() -> None:
    """`__version__` is the version; the citation's format needs a copy."""
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {saeborzoi.__version__}\n" in citation


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def _imported(file: Path) -> set[str]:
    """Top-level packages that a file imports, within functions too."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    parts = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    return {name.partition(".")[0] for name in plain | parts}
