"""The documentation site builds, strictly: no page is missing and no link is dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """The pages of settings and API are made from docstrings."""
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    settings = (tmp_path / "settings.html").read_text()
    assert "bp_per_position" in settings
    assert "MotifDatabase" in settings
