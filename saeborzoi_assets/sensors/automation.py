"""What happens by itself: partitions follow the settings file, and missing results get made.

One sensor registers a partition for each SAE that the settings want. The other launches, for each
SAE that is not complete, the run of its next missing step, and when nothing is left to do the
comparison of all; the catalogue says what is missing, so that it goes on after any interruption,
and from whatever a person made by hand.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from saeborzoi.catalog.questions import training_hours_since
from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.pipeline import MAKER
from saeborzoi.settings.load import Settings
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_assets.plan import PipelineStep, next_step, project_steps
from saeborzoi_resources.dead_runs import NO_PROCESS_TAG, end_dead_runs
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.runs import UNFINISHED

TAG = "saeborzoi/automation"
"""Run tag: `<hyperparameters>:<step>` of a run that the sensor launched."""

TRAINING = MAKER["sae"]
"""What the budget of GPU hours is for."""

_MAX_KILLED = 10
"""Runs of a step that lost their process, in a row: no attempts, but not for ever."""


def sensors(partitions: Partitions) -> list[dg.SensorDefinition]:
    """The project's sensors."""

    @dg.sensor(
        name="register_hyperparameters",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds a partition for each SAE that dagster_project.toml asks for.",
    )
    def register_hyperparameters(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        known = set(context.instance.get_dynamic_partitions(HYPERPARAMETERS))
        missing = [h.key for h in platform.settings.wanted() if h.key not in known]
        if not missing:
            return dg.SkipReason("every [[sae]] of the settings has its partition")
        return dg.SensorResult(
            dynamic_partitions_requests=[partitions.sae.build_add_request(missing)]
        )

    @dg.sensor(
        name="materialize_missing",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches the next missing step of each SAE partition, within [automation].",
    )
    def materialize_missing(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        settings = platform.settings
        for dead in end_dead_runs(context.instance, platform.store.jobs):
            context.log.warning(str(dead))
        if not in_hours(settings.automation.hours, datetime.now()):
            return dg.SkipReason(f"outside of the hours {settings.automation.hours}")
        busy = {
            run.tags[TAG].partition(":")[0]
            for run in context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
            if TAG in run.tags
        }
        notes, requests = [], []
        for key in context.instance.get_dynamic_partitions(HYPERPARAMETERS):
            if key in busy:
                continue
            if len(busy) >= settings.automation.max_saes_in_flight:
                notes.append(f"{len(busy)} SAEs are in flight")
                break
            try:
                step = next_step(settings, platform.catalog, settings.parse_key(key))
            except SaeBorzoiError as error:
                notes.append(str(error))
                continue
            if step is None:
                continue
            why_not = _why_not(context.instance, platform, key, step)
            if why_not:
                notes.append(why_not)
                continue
            requests.append(_request(context.instance, key, step))
            busy.add(key)
        # once nothing else is under way: they are about all SAEs
        step = None if requests or busy else _due_project_step(platform)
        if step is not None:
            why_not = _why_not(context.instance, platform, PROJECT, step)
            if why_not:
                notes.append(why_not)
            else:
                requests.append(_request(context.instance, PROJECT, step))
        if not requests:
            waits = f"waiting for runs of {', '.join(sorted(busy))}" if busy else ""
            return dg.SkipReason("; ".join(notes) or waits or "every SAE is complete")
        return dg.SensorResult(run_requests=requests)

    return [register_hyperparameters, materialize_missing]


def in_hours(hours: str | None, now: datetime) -> bool:
    """Whether a local time lies in a window such as "22:00-06:00", which may span midnight.

    >>> in_hours("22:00-06:00", datetime(2025, 1, 1, 23, 30))
    True
    >>> in_hours("22:00-06:00", datetime(2025, 1, 1, 6, 0))
    False
    """
    if hours is None:
        return True
    start, _, end = hours.partition("-")
    clock = now.strftime("%H:%M")
    return start <= clock < end if start <= end else clock >= start or clock < end


def _history(instance: dg.DagsterInstance, key: str, step: PipelineStep) -> Sequence[dg.DagsterRun]:
    """Runs that were launched for a step, newest first."""
    return instance.get_runs(dg.RunsFilter(tags={TAG: f"{key}:{step.name}"}), limit=50)


def _why_not(
    instance: dg.DagsterInstance, platform: Platform, key: str, step: PipelineStep
) -> str | None:
    """Why a step is not launched now, if it is not."""
    automation = platform.settings.automation
    failures = killed = 0
    for run in _history(instance, key, step):
        if run.status != dg.DagsterRunStatus.FAILURE:
            break
        if NO_PROCESS_TAG in run.tags:
            killed += 1
        else:
            failures += 1
    if killed >= _MAX_KILLED:
        return (
            f"{key}: {step.name} lost its process {killed} times in a row and is left; most likely "
            "memory runs out: look at the machine's log. Then materialize that step by hand"
        )
    if failures >= automation.max_attempts:
        return (
            f"{key}: {step.name} failed {failures} times and is left; the reason stands in its "
            "last run. Fix it and materialize that step, the rest follows"
        )
    budget = automation.gpu_hours_per_day
    if TRAINING in step.assets and budget is not None:
        used = training_hours_since(platform.catalog, _midnight()) * n_gpus(platform.settings)
        if used >= budget:
            return f"{used:.1f} GPU hours of today's {budget:g} are used; {key} waits"
    return None


def n_gpus(settings: Settings) -> int:
    """GPUs of a training by its SLURM profile.

    On a laptop a training counts as one, so that the budget holds there too.
    """
    if settings.compute.backend == "local":
        return 1
    return settings.compute.profile_of(TRAINING).n_gpus


def _due_project_step(platform: Platform) -> PipelineStep | None:
    """The first step about all SAEs whose standing result does not know some results, cut to the
    assets of which that is so; None where there is none."""
    if not platform.catalog.path.exists():
        return None
    for step in project_steps(platform.settings):
        due = []
        for asset in step.assets:
            version = platform.version_of(asset, PROJECT)
            standing = platform.catalog.data_versions(asset, PROJECT)
            inputs = version.made_from["inputs"]
            if (not inputs or any(inputs.values())) and version.digest not in standing:
                due.append(asset)
        if due:
            return step._replace(assets=tuple(due))
    return None


def _midnight() -> datetime:
    local = datetime.now().astimezone()
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _request(instance: dg.DagsterInstance, key: str, step: PipelineStep) -> dg.RunRequest:
    tags = {TAG: f"{key}:{step.name}"}
    attempt = len(_history(instance, key, step))
    run_key = f"{key}:{step.name}:{attempt}"
    selection = [dg.AssetKey(asset) for asset in step.assets]
    if step.first == step.last:
        partition = None if step.first.owner == PROJECT else str(step.first)
        return dg.RunRequest(
            run_key=run_key, asset_selection=selection, partition_key=partition, tags=tags
        )
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=selection,
        tags={**tags, **step.range_tags},
    )
