"""What runs need of Dagster's inside; the names stand in `dagster_inside.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetExecutionContext,
    DagsterEventType,
    DagsterInstance,
)
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
)
from dagster._core.storage.compute_log_manager import CapturedLogContext


def let_runs_go_side_by_side(instance: DagsterInstance) -> None:
    """Have runs of this process share what Dagster thinks a run has for itself.

    - The log handlers of `dagster.yaml` are made once. Dagster makes them at the start of each run,
      which closes every handler of the process under the lock of `logging`: a run beside it that
      writes an event holds its own handler's lock and may ask for that one. Both then wait for
      ever.
    - What the process prints is shown and not kept for each run, whose events hold the lines of
      its stages anyway. Dagster turns the process's standard output and error round to a run's
      files and back: of two runs the later end would leave them turned to the other one's file,
      and nothing that is printed after that would be seen.
    """
    handlers = instance.get_yaml_python_handlers()
    instance.get_yaml_python_handlers = lambda: handlers  # type: ignore[method-assign]
    manager = instance.compute_log_manager
    manager.capture_logs = _shown_only  # type: ignore[method-assign]


@contextmanager
def _shown_only(log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
    yield CapturedLogContext(log_key)


def add_partition_metadata(
    context: AssetExecutionContext, figures: Mapping[str, Mapping[str, Any]]
) -> None:
    """Metadata of many partitions of the run, at once.

    `context.add_asset_metadata` lists all of the run's partitions and copies what it was told
    before, for each partition that it is told of: minutes for 4,224 nodes.

    Parameters
    ----------
    context
        Of a run over the partitions.
    figures
        Partition key to its metadata, which replaces what was told of it before.
    """
    step = context.get_step_execution_context()
    metadata = dict(step._metadata_accumulator.per_output_metadata)
    for key, values in figures.items():
        metadata[AssetMetadataHandle(asset_key=context.asset_key, partition_key=key)] = values
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=metadata)


def earlier_evaluations(
    instance: DagsterInstance, check: AssetCheckKey, limit: int
) -> Iterator[AssetCheckEvaluation]:
    """Results of an asset check, the newest first.

    Parameters
    ----------
    limit
        Executions that are looked at; those that gave no result are left out.
    """
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit)
    for record in history:
        event = record.event.dagster_event if record.event else None
        if event and event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            yield event.asset_check_evaluation_data
