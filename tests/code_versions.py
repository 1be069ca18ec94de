"""Which source each artifact's result rests on, and whether a change of it was told.

A result is current while its code version is; so whoever changes the code that makes it bumps the
version, or says that results stay as they are. `code_versions.json` beside this file records what
was told last; `test_code_versions.py` compares it with what stands.

    python -m tests.code_versions                     # after a version was bumped
    python -m tests.code_versions --no-effect "why"   # where no result changes

Source here is the modules of `saeborzoi` that the asset's module, or its stage's, imports, at any
remove; without comments, docstrings and layout, which change no result.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from saeborzoi.pipeline import ARTIFACTS

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".json")
_IGNORED = {
    "saeborzoi/__init__.py",  # the door for notebooks
    "saeborzoi/catalog/columns.py",
    "saeborzoi/catalog/effect_tables.py",
    "saeborzoi/catalog/schema.py",  # names columns, whose values are made elsewhere
    "saeborzoi/catalog/variant_tables.py",
    "saeborzoi/catalog/scope.py",  # names rows
    "saeborzoi/errors.py",  # what is said, not what is made
    "saeborzoi/pipeline.py",  # the versions themselves
    "saeborzoi/settings/load.py",
    "saeborzoi/settings/sections.py",  # a result's data version holds the settings' values
    "saeborzoi/settings/artifacts.py",  # which artifacts there are
    "saeborzoi/settings/model_sections.py",
    "saeborzoi/settings/variant_sections.py",
    "saeborzoi/settings/compute_sections.py",
    "saeborzoi/settings/sae_sections.py",
}
"""Nearly every artifact's modules import them, and no result is made there."""
_STATIC = Path("saeborzoi/browser/static")
"""The pages' own files, which `saeborzoi.browser.site` puts into the result."""


class Artifact(NamedTuple):
    """One artifact, its code version, and the modules that make it."""

    name: str
    version: str
    modules: tuple[str, ...]


def artifacts() -> list[Artifact]:
    """Every artifact with its code version: the one place that knows where versions stand."""
    made = []
    for declared in ARTIFACTS:
        stage = f"saeborzoi.stages.{declared.name}" if declared.is_job else None
        modules = (f"saeborzoi_assets.assets.{declared.name}", *([stage] if stage else []))
        made.append(Artifact(declared.name, declared.code_version, modules))
    return made


def files_of(artifact: Artifact, root: Path = ROOT) -> list[str]:
    """Files that the artifact's result rests on, relative to the root, sorted."""
    files: set[str] = set()
    waiting = [file for name in artifact.modules if (file := _file_of(name, root))]
    while waiting:
        file = waiting.pop()
        if file in files or file in _IGNORED:
            continue
        files.add(file)
        for name in _imports_of((root / file).read_text()):
            if name.split(".")[0] == "saeborzoi" and (other := _file_of(name, root)):
                waiting.append(other)
    if "saeborzoi/browser/site.py" in files:
        files |= {
            str(path.relative_to(root))
            for path in (root / _STATIC).rglob("*")
            if path.is_file()
        }  # fmt: skip
    return sorted(files)


def _file_of(module: str, root: Path) -> str | None:
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (root / candidate).is_file():
            return candidate.as_posix()
    return None


@cache
def _imports_of(text: str) -> tuple[str, ...]:
    """Modules that a file of this text imports: most artifacts rest on the same files."""
    return tuple(_imported(ast.parse(text)))


def _imported(tree: ast.AST) -> Iterator[str]:
    """Modules that run when the file does: what only types need is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node)


def hash_of(path: Path) -> str:
    """Fingerprint of what a file does; of its bytes where it is not Python."""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return _hash_of_text(path.read_text())


@cache
def _hash_of_text(text: str) -> str:
    return hashlib.sha256(repr(_meaning(ast.parse(text))).encode()).hexdigest()[:16]


def _meaning(node: Any) -> Any:
    """What a syntax tree says, without strings that stand alone: docstrings. Empty fields are
    left out, as Python versions differ in which there are."""
    if isinstance(node, list):
        return [_meaning(each) for each in node if not _stands_alone(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        (name, _meaning(value)) for name, value in ast.iter_fields(node) if value not in (None, [])
    ]
    return type(node).__name__, fields


def _stands_alone(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def state(root: Path = ROOT) -> dict[str, Any]:
    """What stands: hash of each file, and version and files of each artifact."""
    made = {artifact.name: artifact for artifact in artifacts()}
    files = {name: files_of(artifact, root) for name, artifact in made.items()}
    return {
        "artifacts": {
            name: {"version": made[name].version, "files": files[name]} for name in sorted(made)
        },
        "files": {
            file: hash_of(root / file) for file in sorted({f for fs in files.values() for f in fs})
        },
    }


def untold(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, list[str]]:
    """Artifacts whose source changed while their version did not, each with the files."""
    return {
        name: changed
        for name, artifact in now["artifacts"].items()
        if (before := recorded["artifacts"].get(name))
        and before["version"] == artifact["version"]
        and (changed := _changed(before, artifact, recorded["files"], now["files"]))
    }


def _changed(
    before: dict[str, Any], after: dict[str, Any], old: dict[str, str], new: dict[str, str]
) -> list[str]:
    either = sorted({*before["files"], *after["files"]})
    both = {*before["files"]} & {*after["files"]}
    return [file for file in either if file not in both or old[file] != new[file]]


def explanation(changes: dict[str, list[str]]) -> str:
    """What a person is to do about changes that were not told."""
    lines = [
        f"{name}: changed since its code version was recorded: {', '.join(files)}"
        for name, files in changes.items()
    ]
    return "\n".join(
        [
            *lines,
            "Results made before would show as current. Either they differ: bump the artifact's "
            "code version and run `make code-versions`. Or none of them changes: run "
            '`python -m tests.code_versions --no-effect "why"`, or `make code-versions WHY="why"`.',
        ]
    )


def record(why: str | None, recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is to be recorded now.

    Raises
    ------
    ValueError
        Where source changed, a version did not, and no reason is given.
    """
    changes = untold(recorded, now)
    if changes and not why:
        raise ValueError(explanation(changes))
    reasons = list(recorded.get("no_effect", []))
    if changes:
        files = sorted({file for changed in changes.values() for file in changed})
        reasons.append({"why": why, "artifacts": sorted(changes), "files": files})
    return {**now, "no_effect": reasons}


def read_record() -> dict[str, Any]:
    """The recorded state."""
    if not RECORD.exists():
        return {"artifacts": {}, "files": {}}
    recorded: dict[str, Any] = json.loads(RECORD.read_text())
    return recorded


def main() -> int:
    """Record what stands, or say what has to be told first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-effect", metavar="WHY", help="why no result changes")
    options = parser.parse_args()
    try:
        wanted = record(options.no_effect, read_record(), state())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    RECORD.write_text(json.dumps(wanted, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
