"""The demo, made once for all of its tests; they do not write into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi.demo import make_demo
from saeborzoi.settings.load import Settings, load_settings


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


@pytest.fixture(scope="session")
def settings(demo: Path) -> Settings:
    return load_settings(demo / "dagster_project.toml")
