"""`saeborzoi clean` on a project that is really made: what goes comes back the same."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from saeborzoi.pipeline import NODE_TABLES
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi.settings.load import FILE_NAME
from saeborzoi_assets.commands import removal
from saeborzoi_assets.commands.instance import HOME_VARIABLE, ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import PipelineStep, next_step, steps
from tests.assets.small_project import KEY, N_NODES
from tests.made_project import Project, failure_of

GONE = [3, 7, 8]


@pytest.fixture
def project(
    made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A copy of the made project with an instance beside it that knows what was made."""
    monkeypatch.setenv(HOME_VARIABLE, "")
    monkeypatch.delenv(HOME_VARIABLE)
    shutil.copytree(made_project, tmp_path / "project")
    home = ensure_home(tmp_path / "project")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        project = Project(tmp_path / "project" / FILE_NAME, instance)
        for step in _steps(project)[:4]:
            for asset, key in itertools.product(step.assets, step.partitions):
                made = dg.AssetMaterialization(asset, partition=str(key))
                instance.report_runless_asset_event(made)
        yield project


def _steps(project: Project) -> list[PipelineStep]:
    settings = project.platform.settings
    return steps(settings, settings.wanted()[0])


def _make(project: Project, step: PipelineStep) -> None:
    result = project.materialize(step)
    assert result.success, failure_of(result)


def _lacking(project: Project) -> PipelineStep | None:
    settings = project.platform.settings
    return next_step(settings, project.platform.catalog, settings.wanted()[0])


def _tables(project: Project) -> dict[str, pd.DataFrame]:
    return {name: project.platform.catalog.rows(name, KEY) for name in NODE_TABLES}


def _made(project: Project, asset: str) -> set[str]:
    return project.instance.get_materialized_partitions(dg.AssetKey(asset))


def test_nodes_and_then_the_layer_go_and_come_back(project: Project) -> None:
    before, batch_files = _tables(project), _batch_files(project)
    everything = {f"{KEY}|n{node:04d}" for node in range(N_NODES)}
    message = removal.remove(project.settings_file, KEY, GONE, for_good=False)
    assert "made from these nodes, too, and kept: " in message
    assert "motif_evidence" in message
    assert _tables(project)["seqlet"].equals(before["seqlet"])

    message = removal.remove(project.settings_file, KEY, GONE, for_good=True)
    keys = {f"{KEY}|n{node:04d}" for node in GONE}
    for asset in ("seqlets", "meme_motifs", "tomtom_matches"):
        assert _made(project, asset) == everything - keys
        catalogued = project.platform.catalog.partitions_made(asset, KEY)
        assert set(map(str, catalogued)) == everything - keys
    for name, frame in _tables(project).items():
        left = before[name][~before[name]["node"].isin(GONE)].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame, left)
    # what the other nodes' rows stand on is there, and holds just them
    for table in ("seqlet", "node_selection"):
        in_files = pd.concat(
            pd.read_parquet(file) for file in _batch_files(project) if file.stem == table
        )
        assert set(in_files["node"]) == set(_tables(project)[table]["node"])
    assert len(batch_files) == len(_batch_files(project))

    lacking = _lacking(project)
    assert lacking is not None
    assert (lacking.first, lacking.last) == (PartitionKey(KEY, 3), PartitionKey(KEY, 8))
    assert f"--partition-range '{KEY}|n0003...{KEY}|n0008'" in message
    _make(project, lacking)
    for name, frame in _tables(project).items():
        pd.testing.assert_frame_equal(frame, before[name])
    assert _made(project, "seqlets") == everything
    lacking = _lacking(project)
    assert lacking is not None
    assert lacking.name == "pages", "what came back the same made nothing stale"

    removal.remove(project.settings_file, "conv", for_good=True)
    lacking = _lacking(project)
    assert lacking is not None
    assert lacking.name == "normalization"
    store = project.platform.store.root
    left = [path for path in store.rglob("*") if path.is_file() and KEY in str(path)]
    assert left == []
    assert not list(store.glob("layers/*"))
    assert list(project.instance.get_dynamic_partitions(HYPERPARAMETERS)) == []
    assert _made(project, "normalization_constants") == _made(project, "trained_sae") == set()
    assert project.platform.catalog.whole("materialization").empty
    project.instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    for step in _steps(project)[:2]:
        _make(project, step)
    assert _made(project, "trained_sae") == {KEY}


def _batch_files(project: Project) -> list[Path]:
    folder = project.platform.store.sae_artifact(KEY, "seqlets")
    return sorted(folder.rglob("*.parquet"))
