"""Each set of variants is a partition: what changes of one leaves the others as they are."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pytest

from saeborzoi.catalog.rebuild import rebuild
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.errors import PartitionKeyError, StoreError
from saeborzoi.jobs.provenance import require_whole, write_artifact
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi_assets.commands.lanes import Lanes
from saeborzoi_assets.commands.launch import Ended
from saeborzoi_assets.commands.outcome import Outcome
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.commands.removal import parse_target
from saeborzoi_assets.costs import Costs
from saeborzoi_assets.lacking import Range, missing_of, work_of
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.plan import PipelineStep, next_steps
from saeborzoi_assets.sensors import automation, schedule
from saeborzoi_assets.sensors.stale_results import stale_results
from saeborzoi_resources.backfills import BulkActionStatus, partitions_under_way
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.cleaning import plan_removal, removal_as_text, remove
from saeborzoi_resources.upkeep.orphans import orphans
from saeborzoi_resources.upkeep.trace import trace
from tests.assets.test_variant_assets import KEY, MORE, N_NODES
from tests.made_project import Project
from tests.stages.test_variant_stages import SETTINGS, write_inputs

TRAITS, MATCHED = set_key("traits"), set_key("matched")
BEFORE = (
    "normalization_constants", "trained_sae", "top_activations", "seqlets", "meme_motifs",
    "tomtom_matches",
)  # fmt: skip
THIRD = '[[variants]]\nname = "third"\npath = "matched.tsv"\n'


def put(platform: Platform, asset: str, variant_set: str | None = None) -> None:
    """An artifact as its asset would have made it now, without rows but those of its set."""
    store, grain = platform.store, ARTIFACT[asset].grain
    nodes = tuple(range(N_NODES)) if grain == "node" else None
    sae = None if grain in ("layer", "variants") else KEY
    scope = Scope("conv" if grain == "layer" else None, sae, nodes, variant_set)
    folder = store.root / "saes" / KEY / asset
    if grain == "node":
        folder /= f"n0000-n{N_NODES - 1:04d}_v_run"
    elif grain == "layer":
        folder = store.layer_artifact("conv", asset)
    elif grain == "variants":
        folder = store.set_artifact(str(variant_set), asset)
    elif grain == "sae_variants":
        folder = store.sae_set_artifact(KEY, asset, str(variant_set))
    of_set = variant_set if grain == "sae_variants" else None
    version = platform.version_of(asset, scope.owner, nodes, of_set)
    with write_artifact(folder, version.digest, {}):
        pass
    tables = {}
    if grain == "variants":
        known = {"variant": "chr1:300:A:G", "name": "", "chrom": "chr1", "effect_norm": 1.0}
        frame = pd.DataFrame(
            [known], columns=[c for c in _columns("variant") if c != "variant_set"]
        )
        tables = {"variant": frame}
    made = Made(asset, "run", "1", version.digest, folder, version.made_from)
    platform.catalog.replace(made, scope, tables)


def _columns(table: str) -> list[str]:
    from saeborzoi.catalog.schema import TABLE

    return [column.name for column in TABLE[table].columns]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, everything made as it would be made now."""
    folder = tmp_path_factory.mktemp("made")
    write_inputs(folder)
    (folder / "dagster_project.toml").write_text(SETTINGS + MORE)
    platform = Platform(settings_file=str(folder / "dagster_project.toml"))
    for asset in BEFORE:
        put(platform, asset)
    for name in ("traits", "matched"):
        put(platform, "variant_effects", name)
        put(platform, "variant_nodes", name)
    return folder


@pytest.fixture
def platform(made: Path, tmp_path: Path) -> Platform:
    """A copy of that project."""
    shutil.copytree(made, tmp_path / "project")
    return Platform(settings_file=str(tmp_path / "project" / "dagster_project.toml"))


def again(platform: Platform, more: str = "", remove: str = "") -> Platform:
    """The project with a change of its settings."""
    path = Path(platform.settings_file)
    path.write_text(path.read_text().replace(remove, "") + more)
    return Platform(settings_file=str(path))


def to_make(platform: Platform) -> dict[str, tuple[str, ...]]:
    """Partition of each step about variants to why it is made; none where it stands."""
    parts = Range.of(["variant_effects", "variant_nodes"])
    works = work_of(platform, platform.settings.wanted()[0], parts)
    return {each.step.partition: each.reasons for each in works if each.n_lacking}


def test_a_set_more_is_all_that_is_missing(platform: Platform) -> None:
    assert to_make(platform) == {}
    more = again(platform, THIRD)
    third = {"variants=third", f"{KEY}|variants=third"}
    assert set(to_make(more)) == third
    assert set(to_make(more)["variants=third"]) == {"not made"}
    missing = missing_of(more, more.settings.wanted()[0])
    assert set(map(str, missing.partitions["variant_effects"])) == {"variants=third"}
    assert set(map(str, missing.partitions["variant_nodes"])) == {f"{KEY}|variants=third"}


def test_which_set_it_is_compared_with_changes_nothing(platform: Platform) -> None:
    assert to_make(again(platform, remove='controls = "matched"\n')) == {}


def test_a_changed_file_makes_its_set_stale_alone(platform: Platform) -> None:
    folder = Path(platform.settings_file).parent
    with (folder / "traits.vcf").open("a") as file:
        file.write("1\t710\t.\tA\tC\t.\t.\t.\n")
    reasons = to_make(platform)
    assert set(reasons) == {TRAITS, f"{KEY}|{TRAITS}"}
    assert "files changed" in reasons[TRAITS][0]
    links = {link.partition: link.state for link in trace(platform, KEY).links}
    assert (links[TRAITS], links[f"{KEY}|{TRAITS}"]) == ("stale", "stale")
    assert (links[MATCHED], links[f"{KEY}|{MATCHED}"]) == ("current", "current")
    stale = stale_results(platform)
    assert stale == {"variant_effects": {TRAITS: 1}, "variant_nodes": {KEY: 1}}
    # made again, the effects alone leave the nodes behind them to be made
    put(platform, "variant_effects", "traits")
    assert set(to_make(platform)) == {f"{KEY}|{TRAITS}"}


def test_what_was_made_of_every_set_at_once_is_told_as_stale(platform: Platform) -> None:
    """As a catalogue of an earlier release is brought up to this one."""
    document = {"asset": "variant_effects", "code": "1", "owner": "project", "inputs": {}}
    version = platform.version_of("variant_effects", TRAITS).made_from
    then = json.dumps({**document, "settings": version["settings"], "files": version["files"]})
    with duckdb.connect(str(platform.catalog.path)) as connection:
        connection.execute(
            "UPDATE materialization SET made_from = ? WHERE owner = ?", [then, TRAITS]
        )
    assert to_make(platform)[TRAITS] == ("stale: of every set of variants at once",)
    assert MATCHED not in to_make(platform)


def test_trace_follows_a_set_by_itself_and_with_an_sae(platform: Platform) -> None:
    assert [(link.asset, link.state) for link in trace(platform, TRAITS).links] == [
        ("variant_effects", "current")
    ]
    links = trace(platform, f"{KEY}|{TRAITS}").links
    assert {link.partition for link in links if link.asset.startswith("variant")} == {
        TRAITS, f"{KEY}|{TRAITS}"
    }  # fmt: skip
    assert all(link.state == "current" for link in links if link.asset.startswith("variant"))
    with pytest.raises(PartitionKeyError, match="variants 'none' are not in the settings; there: "):
        trace(platform, set_key("none"))


def test_a_set_that_is_gone_is_cleaned_as_an_sae_is(platform: Platform) -> None:
    store, catalog = platform.store, platform.catalog
    work = store.work(KEY, "variant_nodes") / "parts" / "traits"
    work.mkdir(parents=True)
    (work / "part.parquet").write_bytes(b"x")
    job = store.jobs / f"variant_nodes-{KEY}=traits-0a1b2c3d4e5f6071"
    job.mkdir(parents=True)
    kept = store.jobs / f"variant_nodes-{KEY}=matched-0a1b2c3d4e5f6071"
    kept.mkdir()
    wanted = plan_removal(platform.settings, store, catalog, TRAITS)
    assert "asks for variants=traits: unless its [[variants]] goes" in removal_as_text(wanted)
    section = SETTINGS[SETTINGS.index("[[variants]]") : SETTINGS.index('[[variants]]\nname = "m')]
    gone = again(platform, remove=section)
    assert to_make(gone) == {}
    plan = plan_removal(gone.settings, store, catalog, TRAITS)
    assert plan.wanted == ()
    assert plan.rows == {"variant": 1, "materialization": 2}
    assert plan.holds(PartitionKey(TRAITS))
    assert plan.holds(PartitionKey(KEY, variant_set="traits"))
    assert not plan.holds(PartitionKey(KEY, variant_set="matched"))
    assert not plan.holds(PartitionKey(KEY))
    remove(store, catalog, plan)
    assert not any(path.exists() for path in (work, job, store.root / "variants" / "traits"))
    assert not store.sae_set_artifact(KEY, "variant_nodes", "traits").exists()
    assert kept.exists()
    assert catalog.partitions_made("variant_nodes", KEY) == {
        PartitionKey(KEY, variant_set="matched")
    }
    assert catalog.whole("variant")["variant_set"].tolist() == ["matched"]
    assert orphans(store, catalog).lost == ()
    with pytest.raises(PartitionKeyError, match=r"there is no layer, SAE or set 'variants=trait"):
        plan_removal(gone.settings, store, catalog, TRAITS)
    with pytest.raises(PartitionKeyError, match="is a set looked at with one SAE; name either"):
        parse_target(f"{KEY}|{TRAITS}", None)


def test_the_catalogue_is_rebuilt_set_by_set(platform: Platform) -> None:
    before = platform.catalog.whole("materialization").sort_values(["asset", "owner", "node"])
    variants = platform.catalog.whole("variant")
    rebuilt = rebuild(platform.catalog)
    assert rebuilt.problems == ()
    after = platform.catalog.whole("materialization").sort_values(["asset", "owner", "node"])
    columns = ["asset", "owner", "node", "variant_set", "data_version", "artifact"]
    order = ["asset", "owner", "node", "variant_set"]
    pd.testing.assert_frame_equal(
        before[columns].sort_values(order, ignore_index=True),
        after[columns].sort_values(order, ignore_index=True),
    )
    pd.testing.assert_frame_equal(variants, platform.catalog.whole("variant"))
    folder = platform.store.sae_set_artifact(KEY, "variant_nodes", "traits")
    with pytest.raises(StoreError, match=rf"run {KEY} --select variant_nodes"):
        require_whole(folder, "another")


class _Launcher:
    """Runs that do at once what they are to make; those of some partitions fail."""

    def __init__(self, platform: Platform, *failing: str) -> None:
        self._platform, self._failing = platform, failing
        self.ran: list[str] = []

    def run(self, step: PipelineStep) -> Ended:
        self.ran.append(f"{step.assets[-1]} {step.partition}")
        if step.partition in self._failing:
            return Ended("failure", "no such file", ())
        for asset in step.assets:
            put(self._platform, asset, step.first.of_set)
        return Ended("success", "", ())


def test_a_set_that_fails_leaves_the_others_and_the_pages(platform: Platform) -> None:
    more = again(platform, THIRD + THIRD.replace("third", "fourth"))
    launcher, outcome = _Launcher(more, "variants=third"), Outcome()
    lanes = Lanes(
        more, launcher, Costs.of(more), Display(quiet=True), outcome,  # type: ignore[arg-type]
        Range.of(["variant_effects", "variant_nodes"]), again=False,
    )  # fmt: skip
    lanes.run(more.settings.wanted(), 1)
    assert launcher.ran == [
        "variant_effects variants=third", "variant_effects variants=fourth",
        f"variant_nodes {KEY}|variants=fourth",
    ]  # fmt: skip
    assert outcome.failures == [(KEY, "variant effects of third", "no such file")]
    assert outcome.exit_code == 2


@pytest.fixture(scope="module")
def lacking(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Two more sets, one of which has its effects; of the rest the pages lack."""
    folder = tmp_path_factory.mktemp("lacking") / "project"
    shutil.copytree(made, folder)
    platform = Platform(settings_file=str(folder / "dagster_project.toml"))
    more = again(platform, THIRD + THIRD.replace("third", "fourth"))
    for asset in (
        "concept_scores", "motif_evidence", "umap_embedding", "annotation_overlaps",
        "jaccard_matrix", "fidelity", "node_effects",
    ):  # fmt: skip
        put(more, asset)
    put(more, "variant_effects", "fourth")
    return more


def test_steps_go_on_without_a_set_that_lacks(lacking: Platform) -> None:
    upcoming = next_steps(lacking.settings, lacking.catalog, lacking.settings.wanted()[0])
    assert [(step.label, step.partition) for step in upcoming] == [
        ("variant effects of third", "variants=third"),
        ("variants of fourth", f"{KEY}|variants=fourth"),
        ("pages", KEY),
    ]


def failed(instance: dg.DagsterInstance, asset: str, tags: dict[str, str]) -> None:
    for _ in range(2):
        run = dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            status=dg.DagsterRunStatus.FAILURE,
            asset_selection=frozenset({dg.AssetKey(asset)}),
            tags=tags,
        )
        instance.add_run(run)


def test_what_goes_by_itself_leaves_a_set_that_keeps_failing(lacking: Platform) -> None:
    partitions = Partitions.of(lacking.settings)
    sensor = next(s for s in automation.sensors(partitions) if s.name == "materialize_missing")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("hyperparameters", [KEY])

        def requested() -> list[str | None]:
            context = dg.build_sensor_context(instance=instance, resources={"platform": lacking})
            result = sensor(context)
            assert isinstance(result, dg.SensorResult)
            return [request.partition_key for request in result.run_requests or []]

        assert requested() == ["variants=third"]
        failed(instance, "variant_effects", {automation.TAG: f"{KEY}:variant effects of third"})
        assert requested() == [f"{KEY}|variants=fourth"]
        failed(instance, "variant_nodes", {automation.TAG: f"{KEY}:variants of fourth"})
        assert requested() == [KEY]


def test_a_set_that_came_since_asks_for_the_definitions_to_be_loaded(
    platform: Platform, lacking: Platform
) -> None:
    before = Partitions.of(platform.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("hyperparameters", [KEY])
        said = schedule.launch_missing(instance, lacking, before, lambda _: None)
        assert "before the settings had variants third; reload them" in said
        assert not any(partitions_under_way(instance).values())


def test_a_backfill_leaves_a_set_that_keeps_failing(lacking: Platform) -> None:
    partitions = Partitions.of(lacking.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("hyperparameters", [KEY])

        def asked() -> set[str]:
            schedule.launch_missing(instance, lacking, partitions, lambda _: None)
            (keys,) = partitions_under_way(instance).values()
            for backfill in instance.get_backfills():
                instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))
            return keys

        fourth = f"{KEY}|variants=fourth"
        assert asked() == {KEY, "variants=third", f"{KEY}|variants=third", fourth}
        failed(
            instance, "variant_effects",
            {schedule.TAG: schedule.NAME, "dagster/partition": "variants=third"},
        )  # fmt: skip
        assert asked() == {KEY, fourth}


@pytest.fixture
def definitions(platform: Platform) -> Iterator[tuple[Project, dg.DagsterInstance]]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(Path(platform.settings_file), instance), instance


def test_dagster_knows_which_partitions_a_set_is_made_from(
    definitions: tuple[Project, dg.DagsterInstance],
) -> None:
    project, instance = definitions
    instance.add_dynamic_partitions("hyperparameters", [KEY, "conv_x2_k0.5_lr0.003_s1"])
    graph = project.definitions.resolve_asset_graph()
    partitions = Partitions.of(project.platform.settings)
    sets = partitions.sae_variants.get_partition_keys(dynamic_partitions_store=instance)
    assert f"{KEY}|{TRAITS}" in sets
    child = dg.AssetKey("variant_nodes")

    def parents(asset: str, key: str, of: dg.AssetKey = child) -> list[str]:
        definition = graph.get(of).partitions_def
        assert definition is not None
        subset = definition.empty_subset().with_partition_keys([key])
        up = graph.get(dg.AssetKey(asset)).partitions_def
        assert up is not None
        mapping = graph.get_partition_mapping(of, dg.AssetKey(asset))
        result = mapping.get_upstream_mapped_partitions_result_for_partitions(
            subset, definition, up, dynamic_partitions_store=instance
        )
        return sorted(map(str, result.partitions_subset.get_partition_keys()))

    key = f"{KEY}|{TRAITS}"
    assert parents("variant_effects", key) == [TRAITS]
    assert parents("trained_sae", key) == [KEY]
    nodes = parents("tomtom_matches", key)
    assert nodes[0] == f"{KEY}|n0000"
    assert {PartitionKey.parse(node).owner for node in nodes} == {KEY}
    assert parents("input_files", key) == ["genome"]
    assert parents("input_files", MATCHED, dg.AssetKey("variant_effects")) == [
        "genome",
        "matched variants",
    ]
    assert parents("variant_nodes", KEY, dg.AssetKey("feature_browser")) == [
        f"{KEY}|{MATCHED}", f"{KEY}|{TRAITS}"
    ]  # fmt: skip
