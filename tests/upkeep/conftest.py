"""A project with two SAEs for the tests of cleaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi_assets.commands.instance import HOME_VARIABLE
from tests.upkeep.two_saes import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv(HOME_VARIABLE, "")  # noted, so that what a test sets is undone after it
    monkeypatch.delenv(HOME_VARIABLE)
    return Project(tmp_path)
