"""A check's page tells the result of each SAE, not only of the last that was made."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.settings.load import load_settings
from saeborzoi_assets.common import artifact, run_result
from saeborzoi_assets.partitions import Partitions, register
from saeborzoi_assets.shown import check
from saeborzoi_resources.dagster_runs import earlier_evaluations
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project

OTHER = KEY.replace("_s0", "_s1")


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_small_project(tmp_path_factory.mktemp("checks") / "project")
    path.write_text(path.read_text().replace("topk = 0.25", "topk = 0.25\nseed = [0, 1]"))
    return path


@pytest.fixture
def instance(settings_file: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        register(instance, load_settings(settings_file), [KEY, OTHER])
        yield instance


def _run(
    settings_file: Path, instance: dg.DagsterInstance, key: str, *, holds: bool, of_nodes: bool
) -> dg.ExecuteInProcessResult:
    """A run of an asset whose check holds or does not."""
    partitions = Partitions.of(load_settings(settings_file))

    def body(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        figures = {str(partition): {"n": 1} for partition in context.partition_keys}
        return run_result(context, ["v"], {}, figures, [check("whole", holds, n_wrong=7)])

    body.__name__ = "seqlets" if of_nodes else "top_activations"
    asset = artifact(partitions, whole="nothing is wrong")(body)
    tags = {
        "dagster/asset_partition_range_start": f"{key}|n0000",
        "dagster/asset_partition_range_end": f"{key}|n0003",
    }
    return dg.materialize(
        [asset],
        instance=instance,
        resources={"platform": Platform(settings_file=str(settings_file))},
        partition_key=None if of_nodes else key,
        tags=tags if of_nodes else {},
    )


def test_a_check_of_an_sae_has_a_result_for_each(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    _run(settings_file, instance, KEY, holds=False, of_nodes=False)
    _run(settings_file, instance, OTHER, holds=True, of_nodes=False)
    key = dg.AssetCheckKey(dg.AssetKey("top_activations"), "whole")
    has_passed = {each.partition: each.passed for each in earlier_evaluations(instance, key, 9)}
    assert has_passed == {KEY: False, OTHER: True}


def test_a_check_of_nodes_tells_of_every_sae(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    _run(settings_file, instance, KEY, holds=False, of_nodes=True)
    _run(settings_file, instance, OTHER, holds=True, of_nodes=True)
    key = dg.AssetCheckKey(dg.AssetKey("seqlets"), "whole")
    newest = next(earlier_evaluations(instance, key, 1))
    assert newest.passed, "of the run's own SAE"
    assert newest.description == f"fails for {KEY}"
    table = newest.metadata["each_sae"].value.replace("\\", "")  # type: ignore[union-attr]
    assert f"| {KEY} | FAILS | n_wrong 7 |" in table
    assert f"| {OTHER} | holds | n_wrong 7 |" in table
    _run(settings_file, instance, KEY, holds=True, of_nodes=True)
    newest = next(earlier_evaluations(instance, key, 1))
    assert newest.description == f"holds for {KEY}, {OTHER}"


def test_the_pages_are_linked(settings_file: Path, instance: dg.DagsterInstance) -> None:
    run = _run(settings_file, instance, KEY, holds=True, of_nodes=False)
    (made,) = run.asset_materializations_for_node("top_activations")
    assert made.metadata["page"].value == f"/pages/{KEY}/index.html"
    run = _run(settings_file, instance, KEY, holds=True, of_nodes=True)
    for made in run.asset_materializations_for_node("seqlets"):
        node = int(str(made.partition)[-4:])
        assert made.metadata["page"].value == f"/pages/{KEY}/index.html#node={node}"
