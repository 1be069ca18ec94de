"""Nothing is left to compile for a project once `saeborzoi compile` ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi import caches
from saeborzoi.stages import compilation
from tests.made_project import make


def test_compiling_is_told_once() -> None:
    numba = pytest.importorskip("numba")
    lines: list[str] = []
    caches.announce_compilation(lines.append)
    for factor in (2, 3):
        assert numba.njit(lambda x, factor=factor: x * factor)(2) == 2 * factor
    assert lines == ["compiling loops, once; `saeborzoi compile` does it beforehand"]


@pytest.mark.slow
def test_project_compiles_nothing_afterwards(tmp_path: Path) -> None:
    compilation._matching_and_sae()
    compilation._motifs_and_map()
    lines: list[str] = []
    caches.announce_compilation(lines.append)
    make(tmp_path / "project")
    assert lines == []
