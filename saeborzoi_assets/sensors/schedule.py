"""What happens at set times: one backfill over all that is missing, nodes included.

The tick of `[automation] schedule` asks the catalogue what each SAE lacks, and launches a Dagster
backfill over those partitions and everything made from them; Dagster's daemon works on it, and the
interface shows, cancels and reruns it. A schedule of Dagster's can request runs, no backfill, so
that its tick counts as skipped; what it launched stands in the tick's reason.

How many nodes an SAE has is known from its hyperparameters, before it is trained. All SAEs depend
on all layers as Dagster sees it (`partitions.py`): a layer whose constants are to be made gets a
backfill of its own, so that its failure takes no SAE of another layer with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import SaeBorzoiError, SettingsError
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.hyperparameters import set_key
from saeborzoi_assets.costs import Costs, total_text
from saeborzoi_assets.lacking import Missing, Work, missing_of
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions, register
from saeborzoi_assets.plan import PipelineStep, project_steps
from saeborzoi_assets.sensors.automation import (
    TRAINING,
    due_project_step,
    gpu_hours_today,
    n_gpus,
    reload_needed,
    why_left,
)
from saeborzoi_resources.backfills import launch_backfill
from saeborzoi_resources.dead_runs import end_dead_runs
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.runs import owners_of, under_way

NAME = "backfill_missing"
TAG = "dagster/schedule_name"
"""Tag of the backfills that the schedule launched, and of their runs: the schedule's name, by which
the interface says what launched them."""

_SHOWN = 5
_TITLE = 100
"""Letters that Dagster takes."""
_HISTORY = 500
"""Runs that are looked at for failed attempts."""


def schedule(partitions: Partitions) -> dg.ScheduleDefinition | None:
    """The project's schedule; None where `[automation]` has none.

    Raises
    ------
    SettingsError
        Where its cron is none.
    """
    cron = partitions.settings.automation.schedule
    if cron is None:
        return None

    def backfill_missing(
        context: dg.ScheduleEvaluationContext, platform: Platform
    ) -> dg.SkipReason:
        return dg.SkipReason(
            launch_missing(context.instance, platform, partitions, context.log.info)
        )

    try:
        return dg.schedule(
            name=NAME,
            cron_schedule=cron,
            execution_timezone=local_timezone(),
            target=dg.AssetSelection.assets(TRAINING),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Launches one backfill over all that is missing of the SAEs and everything "
            "made from it, nodes included. What a tick launched stands in its reason, and under "
            "Runs, Backfills. Testing it here launches it.",
        )(backfill_missing)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"[automation] schedule = {cron!r} is no cron; write minute, hour, day of the month, "
            'month and day of the week, e.g. "0 22 * * *" for each evening at ten'
        ) from None


def local_timezone() -> str:
    """Name of this machine's time zone, "UTC" where it cannot be told."""
    zone = Path("/etc/localtime").resolve().as_posix().partition("zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").lstrip(":"), zone):
        try:
            return ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return "UTC"


class _Lot(NamedTuple):
    """What goes into one backfill: partition keys of each artifact, SAEs, and the steps' work."""

    partitions: dict[str, set[str]]
    owners: list[str]
    work: list[Work]


def launch_missing(
    instance: dg.DagsterInstance,
    platform: Platform,
    partitions: Partitions,
    tell: Callable[[str], None] = print,
) -> str:
    """Launch what one tick launches.

    Parameters
    ----------
    instance
        The project's instance.
    platform
        The project, with the settings as they are now.
    partitions
        Its partitions as they were loaded.
    tell
        Takes each line for the tick's log.

    Returns
    -------
    What was launched and what it will take, or why nothing was.
    """
    for dead in end_dead_runs(instance, platform.store.jobs):
        tell(str(dead))
    register(instance, platform.settings, (h.key for h in platform.settings.wanted()))
    # kept open: DuckDB opens it once, not for each question
    with platform.catalog.kept_open():
        costs = Costs.of(platform)
        lots, notes = _lots(instance, platform, partitions, costs)
    for note in notes:
        tell(note)
    lines = [_launch(instance, partitions, costs, lot) for lot in lots]
    for line in lines:
        tell(line)
    return "; ".join([*lines, *notes]) or "nothing is new: every SAE is complete"


def _lots(
    instance: dg.DagsterInstance, platform: Platform, partitions: Partitions, costs: Costs
) -> tuple[list[_Lot], list[str]]:
    """Backfills to launch, and what is not in them and why."""
    known = instance.get_dynamic_partitions(HYPERPARAMETERS)
    busy = under_way(instance, known)
    history = instance.get_runs(dg.RunsFilter(tags={TAG: NAME}), limit=_HISTORY)
    budget = _Budget(platform, costs)
    lots: dict[str | None, _Lot] = {}
    notes = []
    waiting: dict[str, list[str]] = {}
    for key in known:
        if key in busy:
            waiting.setdefault(busy[key], []).append(key)
            continue
        try:
            sae = platform.sae(key)
            missing = missing_of(platform, sae.hyperparameters)
        except SaeBorzoiError as error:
            notes.append(str(error))
            continue
        if not missing.partitions:
            continue
        layer = _layer_to_make(missing)
        if layer in busy:
            notes.append(f"{key} waits: {busy[layer]} makes {layer}")
            continue
        max_attempts = platform.settings.automation.max_attempts
        missing, left_sets = _without_left_sets(missing, history, known, max_attempts, key)
        notes += left_sets
        if not missing.partitions:
            continue
        first = next(each.step for each in missing.work if each.n_lacking)
        left = why_left(_runs_of(history, first, known), max_attempts, key, first)
        sets = [each.step.first.of_set for each in missing.work if each.n_lacking]
        why_not = reload_needed(partitions, sae, sets) or left or budget.why_not(key, missing)
        if why_not:
            notes.append(why_not)
            continue
        lot = lots.setdefault(layer, _Lot({}, [], []))
        lot.owners.append(key)
        lot.work.extend(work for work in missing.work if work.n_lacking)
        for artifact, keys in missing.partitions.items():
            lot.partitions.setdefault(artifact, set()).update(map(str, keys))
    notes += [f"{maker} is making {_named(keys)}" for maker, keys in waiting.items()]
    if len(lots) <= 1 and not busy:
        _add_project(platform, lots, history, notes)
    return list(lots.values()), notes


def _without_left_sets(
    missing: Missing,
    history: Sequence[dg.DagsterRun],
    order: Sequence[str],
    max_attempts: int,
    key: str,
) -> tuple[Missing, list[str]]:
    """What is missing but for sets of variants that failed too often, and why those are left."""
    left: dict[str, str] = {}
    for each in missing.work:
        variant_set = each.step.first.of_set
        if each.n_lacking and variant_set is not None and variant_set not in left:
            runs = _runs_of(history, each.step, order)
            if why := why_left(runs, max_attempts, key, each.step):
                left[variant_set] = why
    partitions = {
        asset: kept
        for asset, keys in missing.partitions.items()
        if (kept := [each for each in keys if each.of_set not in left])
    }
    work = [each for each in missing.work if each.step.first.of_set not in left]
    return Missing(partitions, work), list(left.values())


def _layer_to_make(missing: Missing) -> str | None:
    """The layer whose constants an SAE lacks."""
    for artifact, keys in missing.partitions.items():
        if ARTIFACT[artifact].grain == "layer":
            return keys[0].owner
    return None


def _add_project(
    platform: Platform,
    lots: dict[str | None, _Lot],
    history: Sequence[dg.DagsterRun],
    notes: list[str],
) -> None:
    """What is about all SAEs: after the one backfill, in it, or in one of its own where it does not
    know what stands."""
    if lots:
        steps = project_steps(platform.settings)
        (lot,) = lots.values()
    else:
        due = due_project_step(platform)
        steps = [due] if due else []
        left = due and why_left(
            _runs_of(history, due, []), platform.settings.automation.max_attempts, PROJECT, due
        )
        if left:
            notes.append(left)
        if left or not due:
            return
        lot = lots.setdefault(None, _Lot({}, [PROJECT], []))
    for step in steps:
        lot.partitions.update({asset: set() for asset in step.assets})
        lot.work.append(Work(PROJECT, step, 1, 1, ()))


def _runs_of(
    history: Sequence[dg.DagsterRun], step: PipelineStep, order: Sequence[str]
) -> list[dg.DagsterRun]:
    """Those of the runs that tried a step."""
    assets = {dg.AssetKey(asset) for asset in step.assets}
    owner, _, variant_set = step.first
    owners = {owner, *([] if variant_set is None else [set_key(variant_set)])}
    return [
        run
        for run in history
        if assets & set(run.asset_selection or ())
        and (owner == PROJECT or owners <= owners_of(run, order))
    ]


class _Budget:
    """GPU hours that today's trainings may take, with what is launched now."""

    def __init__(self, platform: Platform, costs: Costs) -> None:
        self._budget = platform.settings.automation.gpu_hours_per_day
        self._used = 0.0 if self._budget is None else gpu_hours_today(platform)
        self._costs, self._n_gpus = costs, n_gpus(platform.settings)

    def why_not(self, key: str, missing: Missing) -> str | None:
        """Why an SAE is not trained now, if it is not; else its training counts from now on."""
        work = [each for each in missing.work if TRAINING in each.step.assets]
        if self._budget is None or not work:
            return None
        if self._used >= self._budget:
            return (
                f"{self._used:.1f} GPU hours of today's {self._budget:g} are used or launched; "
                f"{key} waits"
            )
        seconds = sum(self._costs.estimate(each).seconds for each in work)
        self._used += seconds / 3600 * self._n_gpus
        return None


def _named(owners: Sequence[str]) -> str:
    more = f" and {len(owners) - _SHOWN} more" if len(owners) > _SHOWN else ""
    return ", ".join(owners[:_SHOWN]) + more


def _launch(instance: dg.DagsterInstance, partitions: Partitions, costs: Costs, lot: _Lot) -> str:
    """Launch one backfill; what it is over and what it will take."""
    named = _named(lot.owners)
    work = list(dict.fromkeys(lot.work))
    n = sum(len(keys) or 1 for keys in lot.partitions.values())
    size = f"{n:,} partitions of {len(lot.partitions)} assets, {total_text(work, costs)}"
    backfill = launch_backfill(
        instance,
        {
            asset: (partitions.of_grain(ARTIFACT[asset].grain), keys)
            for asset, keys in lot.partitions.items()
        },
        tags={TAG: NAME},
        title=f"missing: {named}"[:_TITLE],
        description=f"{named}: {size}",
    )
    return f"launched backfill {backfill} of {named}: {size}"
