"""What of Dagster's inside the project stands on: listed whole, and as it is in this Dagster."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import saeborzoi_resources
from saeborzoi_resources.dagster_inside import INSIDE, Inside
from saeborzoi_resources.dagster_runs import add_partition_metadata
from saeborzoi_resources.event_log import BatchedSqliteEventLogStorage
from saeborzoi_resources.partition_status import PartitionStatus

RESOURCES = Path(saeborzoi_resources.__file__).parent
ROOT = RESOURCES.parent
DOORS = (
    "dagster_inside.py", "dagster_runs.py", "dagster_dev.py", "backfills.py", "event_log.py",
    "event_log_postgres.py", "partition_status.py", "widths.py",
)  # fmt: skip


def _resolve(name: str) -> tuple[Any, str, Any]:
    """What holds the last part of a name, that part, and what it stands for (None: only set on
    objects)."""
    module, _, path = name.partition(":")
    if module.startswith("dagster_postgres"):
        pytest.importorskip("dagster_postgres", reason="needs saeborzoi[postgres]")
    holder: Any = importlib.import_module(module)
    *parts, last = path.split(".")
    for part in parts:
        holder = getattr(holder, part)
    return holder, last, getattr(holder, last, None)


@pytest.mark.parametrize("inside", INSIDE, ids=lambda inside: inside.name)
def test_each_name_is_there_and_takes_what_it_is_given(inside: Inside) -> None:
    holder, last, value = _resolve(inside.name)
    if value is None:
        assert inspect.isclass(holder), f"{inside.name} is gone. {inside.without}"
        source = "".join(
            inspect.getsource(c) for c in holder.__mro__ if c.__module__.startswith("dagster")
        )
        assert f"self.{last} =" in source, f"{inside.name} is gone. {inside.without}"
    if inside.takes is not None:
        given = _parameters(holder, value)
        names = [p.name for p in given]
        assert names[: len(inside.takes)] == list(inside.takes), inside.without
        needed = [p.name for p in given[len(inside.takes) :] if p.default is p.empty]
        assert not needed, f"{inside.name} now needs {needed}. {inside.without}"


def _parameters(holder: Any, value: Any) -> list[inspect.Parameter]:
    """What a function, method or class takes, `self` left out."""
    if inspect.signature(value).parameters.keys() == {"args", "kwargs"}:
        # Dagster's records take their fields
        return [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in inspect.get_annotations(value)
        ]
    is_plain = inspect.isfunction(value) and inspect.isclass(holder)
    return list(inspect.signature(value).parameters.values())[is_plain:]


def _imported(tree: ast.Module) -> set[str]:
    """`module:name` of what is imported from where Dagster promises nothing."""
    return {
        f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if re.match(r"dagster\._|dagster_postgres", node.module) or alias.name.startswith("_")
    }


def test_the_list_is_whole() -> None:
    """Every import and every underscored attribute that a door does not define itself."""
    listed = {inside.name for inside in INSIDE}
    last = {name.rsplit(".", 1)[-1] for name in listed}
    for door in DOORS:
        tree = ast.parse((RESOURCES / door).read_text())
        # DagsterPostgresStorage is what users name in dagster.yaml
        public = {"dagster_postgres:DagsterPostgresStorage"}
        assert _imported(tree) - public <= listed, door
        defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        private = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
        }
        overridden = {"_event_to_row"}
        assert private - (defined - overridden) <= last, door


def test_nothing_that_is_listed_goes_unused() -> None:
    text = "".join((RESOURCES / door).read_text() for door in DOORS)
    for inside in INSIDE:
        last = re.split("[:.]", inside.name)[-1]
        assert len(re.findall(rf"\b{last}\b", text)) > 1, inside.name


def test_no_other_file_names_dagster_s_inside() -> None:
    own = {RESOURCES / door for door in DOORS} | {ROOT / "tests" / "dagster_own.py"}
    for folder in ("saeborzoi", "saeborzoi_resources", "saeborzoi_assets", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            if file not in own and file != Path(__file__):
                assert not re.search(
                    r"\bdagster\._[a-z]|from dagster import _", file.read_text()
                ), f"{file} names Dagster's inside: put it into dagster_inside.py"


@pytest.mark.parametrize("ours", [BatchedSqliteEventLogStorage, PartitionStatus])
def test_what_is_overridden_is_called_as_dagster_s_own(ours: type) -> None:
    n_overridden = 0
    for name, method in vars(ours).items():
        theirs = next((vars(c)[name] for c in ours.__mro__[1:] if name in vars(c)), None)
        if inspect.isfunction(method) and theirs is not None:
            n_overridden += 1
            assert list(inspect.signature(method).parameters) == list(
                inspect.signature(theirs).parameters
            ), name
    assert n_overridden >= 2


def test_metadata_of_many_partitions_arrives_with_each() -> None:
    partitions = dg.StaticPartitionsDefinition(["a", "b", "c"])

    @dg.asset(partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def made(context: dg.AssetExecutionContext) -> None:
        add_partition_metadata(context, {"a": {"n": 1}, "c": {"n": 3}})

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(
            [made],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "a",
                "dagster/asset_partition_range_end": "c",
            },
        )
        records = instance.fetch_materializations(made.key, limit=9).records
    metadata = {
        record.partition_key: {
            name: value.value
            for name, value in record.asset_materialization.metadata.items()  # type: ignore[union-attr]
            if name == "n"
        }
        for record in records
    }
    assert metadata == {"a": {"n": 1}, "b": {}, "c": {"n": 3}}
