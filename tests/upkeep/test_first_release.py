"""A project of the first release opens with its trainings: what is unchanged is not made again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from saeborzoi.catalog.rebuild import rebuild
from saeborzoi.catalog.rows import RECORD
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.errors import CatalogError, StoreError
from saeborzoi.jobs.fingerprint import fingerprint_of
from saeborzoi.jobs.provenance import PROVENANCE, require_whole
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.first_release import former_fingerprint, take_over
from saeborzoi_resources.upkeep.trace import trace

KEY = "conv1d_1_x1_k0.5_lr0.003_s0"
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv1d_1"
n_channels = 2
bp_per_position = 2
train = { shards = "shards", windows = "windows.bed" }
[[sae]]
layer = "conv1d_1"
expansion = 1
topk = 0.5
"""
_ROWS = pd.DataFrame(
    {"channel": [0, 1], "activation_max": [0.5, 2.0], "activation_max_seen": [0.5, 2.0]}
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Constants, an SAE and its top activations as the first release left them."""
    folder = tmp_path / "project"
    (folder / "shards").mkdir(parents=True)
    for name in ("shards/activations_0.h5", "windows.bed", "genome.fa"):
        (folder / name).write_text(name)
    (folder / "dagster_project.toml").write_text(_SETTINGS)
    _make(folder, "normalization_constants", Scope(layer="conv1d_1"))
    for name in ("trained_sae", "top_activations"):
        _make(folder, name, Scope(sae_key=KEY))
    return folder


def _make(project: Path, name: str, scope: Scope) -> None:
    platform = _platform(project)
    place = platform.store.sae_artifact if scope.layer is None else platform.store.layer_artifact
    artifact = place(scope.owner, name)
    version = platform.version_of(name, scope.owner)
    made_from = {**version.made_from, "files": former_fingerprint(version.files)}
    digest = fingerprint_of(made_from)
    tables = {} if scope.layer is None else {"channel_normalization": _ROWS}
    artifact.mkdir(parents=True)
    (artifact / "weights").write_text(name)
    job = {"job_id": f"{name}-{scope.owner}-{digest}", "together": {}}
    (artifact / PROVENANCE).write_text(json.dumps({"job": job, "code_version": "0.1.0"}))
    code = version.made_from["code"]
    platform.catalog.replace(Made(name, "run", code, digest, artifact, made_from), scope, tables)
    (artifact / RECORD).unlink()
    shutil.rmtree(artifact / "catalogued", ignore_errors=True)


def _platform(project: Path) -> Platform:
    return Platform(settings_file=str(project / "dagster_project.toml"))


def _states(project: Path) -> dict[str, str]:
    links = trace(_platform(project), KEY).links
    return {link.asset: link.state for link in links if link.state != "not made"}


def test_nothing_is_stale_where_the_files_are_those_of_then(project: Path, tmp_path: Path) -> None:
    assert set(_states(project).values()) == {"stale"}
    lines: list[str] = []
    take_over(_platform(project), lines.append)
    assert len(lines) == 1
    assert "3 artifacts have checksums" in lines[0]
    assert "3 of 3 results were made from files that are still the same" in lines[0]
    assert _states(project) == dict.fromkeys(
        ("normalization_constants", "trained_sae", "top_activations"), "current"
    )
    take_over(_platform(project), lines.append)
    assert len(lines) == 1, "once"
    # the content counts from now on
    os.utime(project / "windows.bed", (1, 1))
    moved = Path(shutil.copytree(project, tmp_path / "moved"))
    assert set(_states(moved).values()) == {"current"}
    (moved / "windows.bed").write_text("other")
    assert _states(moved)["trained_sae"] == "stale"


def test_files_with_other_times_may_be_others_and_stay_stale(project: Path) -> None:
    os.utime(project / "windows.bed", (1, 1))
    lines: list[str] = []
    take_over(_platform(project), lines.append)
    assert "1 of 3 results" in lines[0]
    states = _states(project)
    assert states["normalization_constants"] == "current"
    assert states["trained_sae"] == "stale"


def test_its_catalogue_can_be_made_again(project: Path) -> None:
    catalog = _platform(project).catalog
    take_over(_platform(project), lambda _: None)
    before = catalog.whole("materialization")
    catalog.path.unlink()
    assert rebuild(catalog).problems == ()
    pd.testing.assert_frame_equal(catalog.whole("materialization"), before)
    assert catalog.whole("channel_normalization")["activation_max"].tolist() == [0.5, 2.0]
    assert set(_states(project).values()) == {"current"}


def test_its_artifacts_have_checksums_from_then_on(project: Path) -> None:
    take_over(_platform(project), lambda _: None)
    artifact = _platform(project).artifact("trained_sae", KEY)
    (artifact / "weights").write_text("trained_saE")
    with pytest.raises(StoreError, match="weights: is damaged"):
        _platform(project).artifact("trained_sae", KEY)


def test_weights_that_no_row_names_are_not_read(project: Path) -> None:
    """They lie there where a run was killed before it could catalogue its first result."""
    _platform(project).catalog.remove(Scope(sae_key=KEY))
    with pytest.raises(CatalogError, match=r"trained_sae of .* is not made yet"):
        _platform(project).artifact("trained_sae", KEY)


def test_an_artifact_of_another_result_than_its_row_is_not_taken_over(project: Path) -> None:
    """A run that was killed before it could catalogue left other weights than the rows say."""
    artifact = _platform(project).store.sae_artifact(KEY, "trained_sae")
    job = {"job_id": f"trained_sae-{KEY}-0123456789abcdef", "together": {}}
    (artifact / PROVENANCE).write_text(json.dumps({"job": job}))
    take_over(_platform(project), lambda _: None)
    assert _states(project)["trained_sae"] == "artifact differs"
    assert not (artifact / RECORD).exists()
    (data_version,) = _platform(project).catalog.data_versions("trained_sae", KEY)
    with pytest.raises(StoreError, match="holds another result"):
        require_whole(artifact, data_version)


def test_a_kill_between_artifacts_and_rows_is_made_good_by_the_next_opening(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saeborzoi.catalog import first_release

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(first_release, "connected", killed)
    with pytest.raises(KeyboardInterrupt):
        take_over(_platform(project), lambda _: None)
    monkeypatch.undo()
    assert set(_states(project).values()) == {"stale"}
    take_over(_platform(project), lambda _: None)
    assert set(_states(project).values()) == {"current"}
