"""`saeborzoi run`: what is missing of some SAEs is made, and nothing else.

The plan is in `saeborzoi_assets.lacking`, what it will take in `costs.py`; which step goes when is
in `lanes.py`, the runs are in `launch.py`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from saeborzoi.genome.file_kinds import require_ready
from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import PROJECT_VARIABLE, Settings
from saeborzoi.settings.user_files import groups_read
from saeborzoi_assets.commands.lanes import Lanes
from saeborzoi_assets.commands.outcome import Outcome
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.costs import Costs, plan_text
from saeborzoi_assets.lacking import Range, Work, project_work, work_of
from saeborzoi_assets.partitions import register
from saeborzoi_resources.compute.warm import local_workers
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.advice import advice_after
from saeborzoi_resources.upkeep.first_release import take_over

if TYPE_CHECKING:
    from saeborzoi_assets.commands.launch import Launcher

_MOST_LANES = 32
"""SAEs side by side on a cluster; each waits in a thread of this process."""
_LOADED_BY = {
    "umap_embedding": ("numba", "sklearn.neighbors", "pynndescent", "umap", "saeborzoi.plots"),
    "feature_browser": ("saeborzoi.browser",),
    "sae_comparison": ("saeborzoi.comparison.page",),
}
"""Of some light artifacts: modules that take long to import, smaller ones first."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Plan:
    """What a run will make, and what that will take."""

    work: Sequence[Work]
    costs: Costs

    @property
    def n_lacking(self) -> int:
        """Partitions that are to be made."""
        return sum(each.n_lacking for each in self.work)

    def text(self) -> str:
        """For a terminal."""
        return plan_text(self.work, self.costs)

    def document(self) -> list[dict[str, Any]]:
        """For a program: a line a step, with its estimate."""
        return [
            {
                "owner": each.owner,
                "step": each.step.name,
                "assets": each.step.assets,
                "partitions": each.step.partition,
                "n_asked": each.n_asked,
                "n_lacking": each.n_lacking,
                "reasons": each.reasons,
                **self.costs.estimate(each)._asdict(),
            }
            for each in self.work
        ]


def plan(
    settings_file: Path,
    saes: Sequence[Hyperparameters],
    parts: Range,
    *,
    again: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Plan:
    """Everything that was asked for, step by step, with what of it is to be made.

    Nothing is made, and Dagster is not started. `tell` gets a line where results of an earlier
    release were taken over, see `first_release.take_over`.
    """
    platform = Platform(settings_file=str(settings_file))
    take_over(platform, tell)
    with platform.catalog.kept_open():
        return Plan(_all_work(platform, saes, parts, again), Costs.of(platform))


def _all_work(
    platform: Platform, saes: Sequence[Hyperparameters], parts: Range, again: bool
) -> list[Work]:
    work = [each for h in saes for each in work_of(platform, h, parts, again=again)]
    if parts.nodes is not None:
        return work
    is_changing = any(each.n_lacking for each in work)
    return work + project_work(platform, parts, again=again, is_changing=is_changing)


def run(
    settings_file: Path,
    settings: Settings,
    saes: Sequence[Hyperparameters],
    parts: Range = Range(),  # noqa: B008  (immutable)
    *,
    again: bool = False,
    display: Display | None = None,
    planned: Plan | None = None,
) -> Outcome:
    """Make what is missing of some SAEs; `planned` is the plan of this very run, where it was made.

    Each step looks anew at what it lacks, so that what another process made meanwhile is not
    made twice. A step that fails ends its SAE; the others go on.

    Raises
    ------
    InputError
        Where annotation that will be read is no BED yet; nothing is made.
    """
    # not at the top: a run with nothing to do needs none of it
    from saeborzoi_assets.assets import input_files
    from saeborzoi_assets.commands.instance import ensure_home, print_dead_runs
    from saeborzoi_assets.commands.launch import Launcher
    from saeborzoi_assets.commands.opened import kept_open, opened_instance

    display = display or Display()
    os.environ[PROJECT_VARIABLE] = str(settings_file)
    planned = planned or plan(settings_file, saes, parts, again=again, tell=display.say)
    _require_ready(settings, planned.work)
    home = ensure_home(settings_file.parent)
    platform = Platform(settings_file=str(settings_file))
    outcome = Outcome()
    with (
        _warm(platform, planned.work),
        opened_instance(home) as instance,
        kept_open(instance),
    ):
        print_dead_runs(instance, platform.store.jobs)
        register(instance, settings, [h.key for h in saes])
        for observation in input_files.observations(input_files.versions(settings)):
            instance.report_runless_asset_event(observation)
        launcher = Launcher(settings_file, instance)
        lanes = Lanes(platform, launcher, planned.costs, display, outcome, parts, again)
        with _stopped_by_signals(launcher, outcome, display), display:
            lanes.run(saes, 1 if settings.compute.backend == "local" else _MOST_LANES)
    outcome.advice += advice_after(settings, saes, platform.catalog)
    return outcome


def _require_ready(settings: Settings, work: Sequence[Work]) -> None:
    """Refuse annotation that is no BED yet, before the training and not after it, where it is
    wanted."""
    lacking = {name for each in work if each.n_lacking for name in each.step.assets}
    if any("annotation" in groups_read(ARTIFACT[name], settings) for name in lacking):
        for annotation in settings.data.annotation:
            require_ready(annotation.path, annotation.class_column)


def _warm(platform: Platform, work: Sequence[Work]) -> AbstractContextManager[None]:
    """Workers that start at once, for the jobs of a run that this machine does."""
    lacking = {name for each in work if each.n_lacking for name in each.step.assets}
    stages = [stage for stage in STAGES if stage in lacking]
    later = [
        module for name, modules in _LOADED_BY.items() if name in lacking for module in modules
    ]
    return local_workers(platform.settings.compute, stages, later)


@contextmanager
def _stopped_by_signals(launcher: Launcher, outcome: Outcome, display: Display) -> Iterator[None]:
    """While this lasts, Ctrl-C, SIGTERM and a closed terminal end the runs in an orderly way; a
    second one ends this process at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if outcome.is_stopped:
            launcher.abandon()
            os._exit(130)
        outcome.is_stopped = True
        display.say(
            f"{signal.Signals(number).name}: ending what is under way, its state is saved; once "
            "more ends at once"
        )
        # asked in a thread: the handler may have interrupted a transaction on the same database
        threading.Thread(target=launcher.stop, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
