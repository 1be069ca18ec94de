"""Runs of a project's assets in this process: Dagster is started once for all of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from saeborzoi.catalog.scope import PROJECT
from saeborzoi_assets.check_results import ABOUT_SAES
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.plan import PipelineStep
from saeborzoi_resources.dagster_runs import let_runs_go_side_by_side

_CONFIG = {
    # the stages tell their progress themselves and failures are told at the end; Dagster's own
    # events and stack traces stay in the run's log
    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
}


class FailedCheck(NamedTuple):
    """An asset check that did not pass: asset, check, and its figures."""

    asset: str
    check: str
    figures: dict[str, object]


class Ended(NamedTuple):
    """How a run ended.

    Attributes
    ----------
    state
        ``success``, ``failure`` or ``canceled``.
    reason
        What its failed steps say; empty otherwise.
    failed_checks
        Asset checks that did not pass.
    """

    state: str
    reason: str
    failed_checks: tuple[FailedCheck, ...]


class Launcher:
    """Launches runs on a project's instance, from any thread, and cancels those under way.

    The runs have the same job, tags, partitions and events as those of the web interface.

    Parameters
    ----------
    settings_file
        The project.
    instance
        Its Dagster instance.
    """

    def __init__(self, settings_file: Path, instance: dg.DagsterInstance) -> None:
        let_runs_go_side_by_side(instance)
        self._instance = instance
        self._repository = build_definitions(settings_file).get_repository_def()
        self._active: set[str] = set()
        self._is_stopped = False
        self._lock = threading.Lock()

    def run(self, step: PipelineStep) -> Ended:
        """Materialize a step's assets for its partitions, and wait for the end."""
        assets = [dg.AssetKey(name) for name in step.assets]
        job = self._repository.get_implicit_job_def_for_assets(assets)
        assert job is not None, f"the assets of step {step.name} share one partition space"
        if step.first != step.last:
            tags = step.range_tags
        elif step.first.owner == PROJECT:
            tags = {}
        else:
            tags = dict(job.get_tags_for_partition_key(str(step.first), assets))
        run_id = str(uuid.uuid4())
        with self._lock:
            if self._is_stopped:
                return Ended("canceled", "", ())
            self._active.add(run_id)
        try:
            result = job.execute_in_process(
                run_config=_CONFIG, instance=self._instance, asset_selection=assets,
                run_id=run_id, tags=tags, raise_on_error=False,
            )  # fmt: skip
            events = result.all_events
        except dg.DagsterExecutionInterruptedError:
            events = []
        finally:
            with self._lock:
                self._active.discard(run_id)
        return self._ended(run_id, events)

    def stop(self) -> None:
        """Ask every run under way to end, and start none any more."""
        with self._lock:
            self._is_stopped = True
            active = list(self._active)
        for run_id in active:
            run = self._instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                self._instance.report_run_canceling(run)

    def abandon(self) -> None:
        """Report every run under way as canceled, for a process that ends without waiting."""
        for run_id in list(self._active):
            run = self._instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                self._instance.report_run_canceled(run)

    def _ended(self, run_id: str, events: Sequence[dg.DagsterEvent]) -> Ended:
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_canceled(run)
            run = self._instance.get_run_by_id(run_id)
        checks = tuple(
            FailedCheck(
                evaluation.asset_key.to_user_string(),
                evaluation.check_name,
                _values(evaluation.metadata),
            )
            for event in events
            if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
            for evaluation in [event.asset_check_evaluation_data]
            if not evaluation.passed
        )
        if run is not None and run.status is dg.DagsterRunStatus.SUCCESS:
            return Ended("success", "", checks)
        if run is None or run.status is dg.DagsterRunStatus.CANCELED or self._is_stopped:
            return Ended("canceled", "", checks)
        return Ended("failure", _reason(events), checks)


def _values(metadata: Mapping[str, Any]) -> dict[str, object]:
    return {
        name: getattr(value, "value", value)
        for name, value in metadata.items()
        if name not in ABOUT_SAES
    }


def _reason(events: Sequence[dg.DagsterEvent]) -> str:
    """What the failed steps of a run say of themselves."""
    reasons = []
    for event in events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            description = data.user_failure_data.description if data.user_failure_data else None
            reasons.append(description or (data.error.to_string() if data.error else "unknown"))
        elif event.event_type is dg.DagsterEventType.RUN_FAILURE and not reasons:
            error = event.job_failure_data.error
            reasons.append(error.to_string() if error else "unknown")
    return "\n".join(reasons) or "the reason stands in the run's log"
