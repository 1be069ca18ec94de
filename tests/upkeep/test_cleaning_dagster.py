"""Cleaning with Dagster: its partitions are forgotten, and its runs at work are left alone."""

from __future__ import annotations

import dagster as dg
import pytest

from saeborzoi.errors import ComputeError
from saeborzoi.settings.hyperparameters import partition_keys
from saeborzoi_assets.commands import removal
from saeborzoi_assets.commands.cli import main
from saeborzoi_assets.commands.instance import ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS, NODE
from tests.upkeep.two_saes import KEY, LONGER, Project


@dg.asset(
    partitions_def=dg.MultiPartitionsDefinition(
        {
            HYPERPARAMETERS: dg.DynamicPartitionsDefinition(name=HYPERPARAMETERS),
            NODE: dg.StaticPartitionsDefinition([f"n{node:04d}" for node in range(4)]),
        }
    ),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def seqlets() -> None:
    """An asset of the name of one of the project's."""


@dg.asset
def training() -> None:
    """An asset of any kind."""


def _made_in_dagster(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY, LONGER])
    for key in (KEY, LONGER):
        dg.materialize(
            [seqlets],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": f"{key}|n0000",
                "dagster/asset_partition_range_end": f"{key}|n0003",
            },
        )


def test_the_command_says_first_and_then_forgets_the_partition(project: Project) -> None:
    home = ensure_home(project.file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _made_in_dagster(instance)
        before = project.files()
        assert "add --yes" in removal.remove(project.file, KEY, for_good=False)
        assert project.files() == before
        run = instance.create_run_for_job(
            dg.define_asset_job("job").resolve(
                asset_graph=dg.Definitions(assets=[seqlets]).resolve_asset_graph()
            ),
            tags={"dagster/partition": f"{KEY}|n0001"},
            status=dg.DagsterRunStatus.STARTED,
        )
        for target, nodes in ((KEY, None), ("conv1d_1", None), (KEY, [3])):
            with pytest.raises(ComputeError, match=f"run {run.run_id} of .* is not finished"):
                removal.remove(project.file, target, nodes, for_good=True)
        assert project.files() == before
        instance.report_run_failed(run)
        message = removal.remove(project.file, KEY, for_good=True)
        assert "with 1 of Dagster's partitions and 4 marks in Dagster" in message
        assert list(instance.get_dynamic_partitions(HYPERPARAMETERS)) == [LONGER]
        left = {f"{LONGER}|n{node:04d}" for node in range(4)}
        assert instance.get_materialized_partitions(seqlets.key) == left
    start_page = (project.store.browser / "index.html").read_text()
    assert KEY not in start_page.replace(LONGER, "")
    assert not any(KEY in file.replace(LONGER, "") for file in project.files())


def test_an_sae_within_the_range_of_a_run_is_refused(project: Project) -> None:
    home = ensure_home(project.file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, ["a", KEY, "b", LONGER])
        instance.create_run_for_job(
            dg.define_asset_job("job").resolve(
                asset_graph=dg.Definitions(assets=[training]).resolve_asset_graph()
            ),
            tags={
                "dagster/asset_partition_range_start": "a",
                "dagster/asset_partition_range_end": "b",
            },
            status=dg.DagsterRunStatus.STARTED,
        )
        with pytest.raises(ComputeError, match="is not finished"):
            removal.remove(project.file, KEY, for_good=True)
        assert "1 of Dagster's partitions" in removal.remove(project.file, LONGER, for_good=True)


def test_a_partition_that_only_dagster_knows_can_be_removed(project: Project) -> None:
    added = "conv1d_1_x8_k0.05_lr0.003_s0"
    home = ensure_home(project.file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, [added])
        assert "1 of Dagster's partitions" in removal.remove(project.file, added, for_good=True)
        assert list(instance.get_dynamic_partitions(HYPERPARAMETERS)) == []


def test_nodes_show_as_missing_in_dagster(project: Project) -> None:
    project.batch(KEY, "seqlets", [0, 1, 2, 3], ["seqlet"])
    home = ensure_home(project.file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _made_in_dagster(instance)
        message = removal.remove(project.file, KEY, [1, 2], for_good=True)
        assert "removed, with 2 marks in Dagster that a partition is made" in message
        made = instance.get_materialized_partitions(seqlets.key)
        assert {key for key in made if key.startswith(f"{KEY}|")} == {
            f"{KEY}|n0000",
            f"{KEY}|n0003",
        }
        assert KEY in instance.get_dynamic_partitions(HYPERPARAMETERS)


def test_an_event_log_that_cannot_forget_is_told_of(project: Project) -> None:
    project.batch(KEY, "seqlets", [0, 1, 2, 3], ["seqlet"])
    home = ensure_home(project.file.parent)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _made_in_dagster(instance)
        message = removal.remove(project.file, KEY, [1, 2], for_good=True)
    assert "Dagster goes on showing seqlets as made" in message
    assert project.catalog.partitions_made("seqlets", KEY) == set(partition_keys(KEY, [0, 3]))


def test_the_command_works_without_an_instance_and_makes_none(project: Project) -> None:
    assert removal.remove(project.file, KEY, for_good=True).endswith("removed")
    assert not (project.file.parent / ".dagster").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["conv1d1"], "there is no layer, SAE or set"),
        ([KEY, "--nodes", "x"], "write e.g. 3,7-9"),
        (["--orphans", "--nodes", "3"], "--nodes goes with an SAE"),
    ],
)
def test_the_command_line_refuses_in_words(
    project: Project, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(project.file), "clean", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_shows_what_would_go(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(project.file), "clean", "conv1d_1"]) == 0
    assert main(["--project", str(project.file), "clean", f"{KEY}|n0003"]) == 0
    out = capsys.readouterr().out
    assert "conv1d_1, layer with 2 SAEs" in out
    assert out.count("add --yes to remove it") == 2
