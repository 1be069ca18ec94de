"""Files that change make what was made from them, and nothing else, stale in Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.load import load_settings
from saeborzoi.settings.user_files import observed_groups
from saeborzoi_assets.assets import input_files
from saeborzoi_assets.common import depends_on_files
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform
from tests.dagster_own import CachingStaleStatusResolver, LoadingContextForTest, StaleStatus

KEY = "conv1d_1_x1_k0.5_lr0.003_s0"
NODE = f"{KEY}|n0001"
MADE = {
    "normalization_constants": ("conv1d_1", "conv1d_2"),
    "trained_sae": (KEY,),
    "seqlets": (NODE,),
    "annotation_overlaps": (KEY,),
}
_LAYER = """
[[layer]]
name = "{name}"
n_channels = 4
bp_per_position = 2
train = {{ shards = "{name}", windows = "windows.bed" }}
"""
_SETTINGS = f"""
[project]
name = "test"
[data]
genome = "genome.fa"
annotation = [{{ name = "marks", path = "marks.bed" }}]
motif_database = [{{ name = "known", source = "known.meme" }}]
{_LAYER.format(name="conv1d_1")}
{_LAYER.format(name="conv1d_2")}
[[sae]]
layer = "conv1d_1"
expansion = 1
topk = 0.5
"""


class Host:
    """The project's graph with assets that only say that they were made."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder = folder
        self.instance = instance
        self.cursor: str | None = None
        self.settings_file = folder / "dagster_project.toml"
        partitions = Partitions.of(load_settings(self.settings_file))
        instance.add_dynamic_partitions("hyperparameters", [KEY])
        self.assets = [
            input_files.build(partitions),
            *(_made(name, partitions) for name in MADE),
        ]

    def observe(self) -> list[str]:
        """Groups that the sensor reports."""
        platform = Platform(settings_file=str(self.settings_file))
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, resources={"platform": platform}
        )
        result = input_files.sensor()(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events:
            assert isinstance(event, dg.AssetObservation)
            self.instance.report_runless_asset_event(event)
        return [str(event.partition) for event in result.asset_events]

    def make_all(self) -> None:
        for name, keys in MADE.items():
            for key in keys:
                dg.materialize(
                    self.assets, selection=[name], partition_key=key, instance=self.instance,
                    resources={"platform": Platform(settings_file=str(self.settings_file))},
                )  # fmt: skip

    def stale(self) -> set[str]:
        graph = dg.Definitions(
            assets=self.assets,
            resources={"platform": Platform(settings_file=str(self.settings_file))},
        ).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(
            self.instance, graph, LoadingContextForTest(self.instance)
        )
        return {
            f"{name} {key}"
            for name, keys in MADE.items()
            for key in keys
            if resolver.get_status(dg.AssetKey(name), key) == StaleStatus.STALE
        }


def _made(name: str, partitions: Partitions) -> dg.AssetsDefinition:
    """An asset that depends on the files that the artifact of its name reads, and is just made."""
    declared = ARTIFACT[name]

    @dg.asset(
        name=name,
        partitions_def=partitions.of_grain(declared.grain),
        deps=depends_on_files(declared, partitions),
    )
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("made"))

    return made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    for name in ("conv1d_1/activations_0.h5", "conv1d_2/activations_0.h5", "windows.bed",
                 "genome.fa", "marks.bed", "known.meme"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Host(tmp_path, instance)


def test_what_was_made_from_changed_files_is_stale(host: Host) -> None:
    assert len(host.observe()) == 5
    host.make_all()
    assert host.stale() == set()
    assert host.observe() == []
    (host.folder / "genome.fa").write_text("another genome")
    assert host.observe() == ["genome"]
    assert host.stale() == {f"seqlets {NODE}"}
    host.make_all()
    (host.folder / "conv1d_2" / "activations_1.h5").write_text("one more shard")
    assert host.observe() == ["conv1d_2 activations"]
    # Dagster cannot know of which layer an SAE is
    assert host.stale() == {
        "normalization_constants conv1d_2", f"trained_sae {KEY}", f"seqlets {NODE}",
        f"annotation_overlaps {KEY}",
    }  # fmt: skip
    host.make_all()
    assert host.stale() == set()


def test_results_made_before_the_first_look_are_not_called_stale(host: Host) -> None:
    host.make_all()
    host.observe()
    assert host.stale() == set()


def test_a_missing_file_is_a_change_and_no_error(host: Host) -> None:
    host.observe()
    (host.folder / "marks.bed").unlink()
    assert host.observe() == ["annotation"]
    assert input_files.versions(load_settings(host.settings_file))["annotation"] == "missing"


@pytest.mark.parametrize("background", ["seqlets", "genome"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_asset_depends_on_just_the_groups_whose_files_it_is_made_from(
    host: Host, background: str, checkpoint: bool
) -> None:
    """Derived from the files in each asset's version, not from what the pipeline declares."""
    text = host.settings_file.read_text().replace(
        "topk = 0.5", "topk = 0.5" + ('\ncheckpoint = "best_model.pt"' if checkpoint else "")
    )
    host.settings_file.write_text(f'{text}\n[motifs]\nbackground = "{background}"\n')
    (host.folder / "best_model.pt").write_text("weights")
    platform = Platform(settings_file=str(host.settings_file))
    observed = observed_groups(platform.settings)
    expected = {}
    for artifact in artifacts_of(platform.settings):
        owner = {"layer": "conv1d_1", "project": PROJECT}.get(artifact.grain, KEY)
        files = platform.version_of(artifact.name, owner).files
        groups = {group for group, of_group in observed.items() if set(files) & set(of_group)}
        assert set(files) <= {file for group in groups for file in observed[group]}
        if groups:
            # of the layers, that of the SAE stands for all; the windows are of both
            expected[artifact.name] = groups - {"conv1d_2 activations"}
    graph = build_definitions(host.settings_file).resolve_asset_graph()
    groups_read = {}
    for key in graph.get(dg.AssetKey(input_files.NAME)).child_keys:
        mapping = graph.get(key).partition_mappings[dg.AssetKey(input_files.NAME)]
        if isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
            # of the layers, that of the SAE stands for all
            groups_read[key.path[-1]] = set(mapping.partition_keys) - {"conv1d_2 activations"}
        else:
            assert isinstance(mapping, dg.StaticPartitionMapping)
            groups_read[key.path[-1]] = {"conv1d_1 activations"}
    assert groups_read == expected
    assert ("meme_motifs" in groups_read) == (background == "genome")
    assert ("checkpoints" in groups_read["trained_sae"]) == checkpoint
    assert groups_read["feature_browser"] == {"motif_database"}


def test_a_group_is_observed_by_hand(host: Host) -> None:
    definitions = build_definitions(host.settings_file)
    graph = definitions.resolve_asset_graph()
    job = dg.define_asset_job("look", selection=[input_files.NAME]).resolve(asset_graph=graph)
    result = job.execute_in_process(
        partition_key="genome",
        instance=host.instance,
        resources={"platform": Platform(settings_file=str(host.settings_file))},
    )
    (event,) = result.get_asset_observation_events()
    now = input_files.versions(load_settings(host.settings_file))["genome"]
    assert event.asset_observation_data.asset_observation.data_version == now
