"""What happens by itself: partitions follow the settings file, and missing results get made.

One sensor registers a partition for each SAE that the settings want. The other, with `at_once` in
`[automation]`, launches for each SAE that is not complete the run of its next missing step, and
when nothing is left to do the comparison of all; the catalogue says what is missing, so that it
goes on after any interruption, and from whatever a person made by hand. The other mode is the
schedule of `schedule.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from saeborzoi.catalog.questions import training_hours_since
from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import SaeBorzoiError, counted
from saeborzoi.pipeline import MAKER
from saeborzoi.settings.load import Settings
from saeborzoi.worker import duration
from saeborzoi_assets.costs import Costs
from saeborzoi_assets.lacking import Work
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions, register
from saeborzoi_assets.plan import PipelineStep, next_steps, project_steps
from saeborzoi_resources.dead_runs import NO_PROCESS_TAG, end_dead_runs
from saeborzoi_resources.platform import Platform, Sae
from saeborzoi_resources.runs import UNFINISHED, under_way

TAG = "saeborzoi/automation"
"""Run tag: `<hyperparameters>:<label of the step>` of a run that the sensor launched."""

TRAINING = MAKER["sae"]
"""What the budget of GPU hours is for."""

_MAX_KILLED = 10
"""Runs of a step that lost their process, in a row: no attempts, but not for ever."""


def sensors(partitions: Partitions) -> list[dg.SensorDefinition]:
    """The project's sensors."""

    @dg.sensor(
        name="register_hyperparameters",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds a partition for each SAE that dagster_project.toml asks for.",
    )
    def register_hyperparameters(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SkipReason:
        new = register(
            context.instance, platform.settings, (h.key for h in platform.settings.wanted())
        )
        return dg.SkipReason(
            f"added {', '.join(new)}" if new else "every [[sae]] of the settings has its partition"
        )

    @dg.sensor(
        name="materialize_missing",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING
        if partitions.settings.automation.at_once
        else dg.DefaultSensorStatus.STOPPED,
        description="Launches the next missing step of each SAE partition, within [automation]; "
        "off unless at_once is set there.",
    )
    def materialize_missing(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        settings = platform.settings
        instance = context.instance
        for dead in end_dead_runs(instance, platform.store.jobs):
            context.log.warning(str(dead))
        if not in_hours(settings.automation.hours, datetime.now()):
            return dg.SkipReason(f"outside of the hours {settings.automation.hours}")
        known = instance.get_dynamic_partitions(HYPERPARAMETERS)
        ours = {
            run.tags[TAG].partition(":")[0]
            for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
            if TAG in run.tags
        }
        others = under_way(instance, known)
        costs = Costs.of(platform)
        notes: list[str] = []
        requests: list[dg.RunRequest] = []
        for key in known:
            if key in ours or key in others:
                continue
            if len(ours) >= settings.automation.max_saes_in_flight:
                notes.append(f"{counted(len(ours), 'SAE')} in flight")
                break
            step, why_not = None, None
            try:
                for step in next_steps(settings, platform.catalog, settings.parse_key(key)):
                    why_not = reload_needed(partitions, platform.sae(key), step) or _why_not(
                        instance, platform, key, step
                    )
                    if not why_not:
                        break
                    if step.first.of_set is not None:
                        notes.append(why_not)
                        step = None
            except SaeBorzoiError as error:
                notes.append(str(error))
                continue
            if step is None:
                continue
            maker = others.get(step.first.owner) or _requested(requests, step)
            if maker:
                notes.append(f"{key} waits: {maker} makes {step.name} of {step.first.owner}")
            elif why_not:
                notes.append(why_not)
            else:
                requests.append(_request(instance, key, step))
                context.log.info(_told(costs, key, step))
                ours.add(key)
        busy = ours | set(others)
        # once nothing else is under way: they are about all SAEs
        step = None if requests or busy else due_project_step(platform)
        if step is not None:
            why_not = _why_not(instance, platform, PROJECT, step)
            if why_not:
                notes.append(why_not)
            else:
                requests.append(_request(instance, PROJECT, step))
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


def _requested(requests: Sequence[dg.RunRequest], step: PipelineStep) -> str | None:
    """Whether a run of this very partition is requested already, as a layer's for two SAEs."""
    first = str(step.first)
    return "a new run" if any(request.partition_key == first for request in requests) else None


def _told(costs: Costs, key: str, step: PipelineStep) -> str:
    """What is launched, and what it will take."""
    n = len(step.partitions)
    seconds = costs.estimate(Work(key, step, n, n, ())).seconds
    return f"{key}: {step.label} ({', '.join(step.assets)}), about {duration(seconds)}"


def reload_needed(partitions: Partitions, sae: Sae, step: PipelineStep | None = None) -> str | None:
    """What to do where an SAE, or a step of it, needs partitions that the definitions, as they were
    loaded, lack."""
    layers = [layer.name for layer in partitions.settings.layer]
    sets = [None, *(each.name for each in partitions.settings.variants)]
    variant_set = step.first.of_set if step else None
    if sae.layer.name not in layers:
        lacks = f"layer {sae.layer.name}"
    elif sae.n_nodes > partitions.n_nodes:
        lacks = f"node {partitions.n_nodes} and later of its {sae.n_nodes:,}"
    elif variant_set not in sets:
        lacks = f"variants {variant_set}"
    else:
        return None
    return (
        f"{sae.key}: the definitions were loaded before the settings had {lacks}; reload them "
        "(Deployment, Reload definitions), or start the interface again"
    )


def _why_not(
    instance: dg.DagsterInstance, platform: Platform, key: str, step: PipelineStep
) -> str | None:
    """Why a step is not launched now, if it is not."""
    history = instance.get_runs(dg.RunsFilter(tags={TAG: f"{key}:{step.label}"}), limit=50)
    left = why_left(history, platform.settings.automation.max_attempts, key, step)
    if left:
        return left
    budget = platform.settings.automation.gpu_hours_per_day
    if TRAINING in step.assets and budget is not None:
        used = gpu_hours_today(platform)
        if used >= budget:
            return f"{used:.1f} GPU hours of today's {budget:g} are used; {key} waits"
    return None


def why_left(
    history: Sequence[dg.DagsterRun], max_attempts: int, key: str, step: PipelineStep
) -> str | None:
    """Why a step is not tried again, if it is not.

    Parameters
    ----------
    history
        Its runs that were launched by themselves, newest first.
    max_attempts
        Failures in a row after which it is left.
    key, step
        What it is of.
    """
    failures = killed = 0
    for run in history:
        if run.status != dg.DagsterRunStatus.FAILURE:
            break
        if NO_PROCESS_TAG in run.tags:
            killed += 1
        else:
            failures += 1
    if killed >= _MAX_KILLED:
        return (
            f"{key}: {step.label} lost its process {killed} times in a row and is left; most "
            "likely memory runs out: look at the machine's log. Then materialize that step by hand"
        )
    if failures >= max_attempts:
        return (
            f"{key}: {step.label} failed {failures} times and is left; the reason stands in its "
            "last run. Fix it and materialize that step, the rest follows"
        )
    return None


def gpu_hours_today(platform: Platform) -> float:
    """GPU hours of the trainings that ended today, local time."""
    return training_hours_since(platform.catalog, _midnight()) * n_gpus(platform.settings)


def n_gpus(settings: Settings) -> int:
    """GPUs of a training by its SLURM profile.

    On a laptop a training counts as one, so that the budget holds there too.
    """
    if settings.compute.backend == "local":
        return 1
    return settings.compute.profile_of(TRAINING).n_gpus


def due_project_step(platform: Platform) -> PipelineStep | None:
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
    tags = {TAG: f"{key}:{step.label}"}
    earlier = instance.get_runs(dg.RunsFilter(tags=tags), limit=50)
    attempt = len(earlier)
    run_key = f"{key}:{step.label}:{attempt}"
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
