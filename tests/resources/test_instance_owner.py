"""Two projects under one DAGSTER_HOME are refused before anything is written or removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.errors import SettingsError, StoreError
from saeborzoi_assets.commands.instance import (
    HOME_VARIABLE,
    ensure_home,
    forget,
    known_partitions,
    unfinished_runs,
)
from saeborzoi_assets.commands.opened import opened_instance
from saeborzoi_assets.partitions import HYPERPARAMETERS

KEY = "conv_x3_k0.25_lr0.003_s0"


def _project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dagster_project.toml").touch()
    return folder


def test_another_projects_instance_is_refused_and_keeps_its_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _project(tmp_path / "first"), _project(tmp_path / "second")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    with dg.DagsterInstance.from_config(str(ensure_home(first))) as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    message = rf"belongs to the project {first}, not to {second}.*unset DAGSTER_HOME"
    with pytest.raises(SettingsError, match=message):
        ensure_home(second)
    with pytest.raises(SettingsError, match=message):
        known_partitions(second)
    with pytest.raises(SettingsError, match=message):
        forget(second, [KEY], [], lambda _: True)
    assert known_partitions(first) == [KEY]
    # a project that was moved takes its instance along; one that is gone leaves it
    moved = first.rename(tmp_path / "moved")
    assert known_partitions(moved) == [KEY]
    with pytest.raises(SettingsError, match=f"belongs to the project {moved}"):
        ensure_home(second)


def test_a_copied_project_has_the_instance_that_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    first = _project(tmp_path / "first")
    home = ensure_home(first)
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    monkeypatch.delenv(HOME_VARIABLE)
    assert ensure_home(copy) == copy / ".dagster"
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    with pytest.raises(SettingsError, match=f"belongs to the project {first}, not to {copy}"):
        ensure_home(copy)


@pytest.mark.parametrize("name", ["history/runs.db", "history/runs/index.db", "dagster.yaml"])
def test_damaged_files_of_dagster_are_told_with_what_moving_them_away_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    project = _project(tmp_path / "project")
    home = ensure_home(project)
    assert known_partitions(project) == []
    damaged = [path for path in home.rglob("*.db") if "runs.db" in path.name]
    if name == "dagster.yaml":
        damaged = [home / name]
    elif "index" in name:
        damaged = [path for path in home.rglob("*.db") if path not in damaged]
    assert damaged
    for path in damaged:
        path.write_bytes(b"\t: {not: [a database]" * 5000)
        for more in ("-wal", "-shm"):
            path.with_name(path.name + more).unlink(missing_ok=True)
    with pytest.raises(StoreError, match=r"Dagster's own files are damaged.*which costs: history"):
        unfinished_runs(project, [KEY])
    for entry in home.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    assert known_partitions(project) == []


def test_a_database_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    """As the storage of PostgreSQL says it, which need not be installed here."""
    refused = type(
        "DagsterPostgresException", (Exception,), {"__module__": "dagster_postgres.utils"}
    )
    with (
        pytest.raises(
            StoreError, match=r"does not answer \(connection refused\).*dagster\.yaml"
        ) as error,
        opened_instance(tmp_path),
    ):
        raise refused("too many retries") from OSError("connection refused\nmore")
    assert "\n" not in str(error.value)
