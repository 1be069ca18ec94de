"""`saeborzoi run`: what is missing of some SAEs is made, and nothing else.

SAEs go side by side where jobs go to a cluster, one after the other on this machine. The plan is
in `saeborzoi_assets.lacking`, what it will take in `costs.py`, the runs are in `launch.py`.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from saeborzoi.genome.file_kinds import require_ready
from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, set_key
from saeborzoi.settings.load import PROJECT_VARIABLE, Settings
from saeborzoi.settings.user_files import groups_read
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.costs import Costs, plan_text
from saeborzoi_assets.lacking import Range, Work, project_work, work_of
from saeborzoi_assets.partitions import register
from saeborzoi_resources.compute.warm import warm_workers
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.advice import Advice, advice_after
from saeborzoi_resources.upkeep.first_release import take_over

if TYPE_CHECKING:
    from saeborzoi_assets.commands.launch import Ended, FailedCheck, Launcher

_MOST_LANES = 32
"""SAEs side by side on a cluster; each waits in a thread of this process."""
_SETS = "sets of variants"
"""One lane at a time makes what is of them and of no SAE."""
_LOADED_BY = {
    "umap_embedding": ("numba", "sklearn.neighbors", "pynndescent", "umap", "saeborzoi.plots"),
    "feature_browser": ("saeborzoi.browser",),
    "sae_comparison": ("saeborzoi.comparison.page",),
}
"""Of some light artifacts: modules that take long to import, smaller ones first."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Outcome:
    """How a run of the pipeline ended.

    Attributes
    ----------
    made
        Owner, step and seconds of everything that was made.
    failures
        Owner, step and reason of what failed.
    failed_checks
        Owner and asset checks that did not pass.
    advice
        What a careful colleague would say of the SAEs.
    is_stopped
        Whether it was asked to stop before its end.
    """

    made: list[tuple[str, str, float]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed_checks: list[tuple[str, FailedCheck]] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    is_stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0; 1 where an asset check did not pass; 2 where something failed; 130 where stopped."""
        if self.is_stopped:
            return 130
        return 2 if self.failures else 1 if self.failed_checks else 0

    def lines(self) -> list[str]:
        """What a person wants to know at the end."""
        lines = [f"FAILED  {owner}, {step}: {reason}" for owner, step, reason in self.failures]
        lines += [
            f"check   {owner}: {check.asset}, {check.check} does not hold ({_figures(check)})"
            for owner, check in self.failed_checks
        ]
        lines += [f"note    {about}: {text}" for about, text in self.advice]
        if self.is_stopped:
            lines.append(
                "stopped: what is complete is kept, a training goes on from its saved state; go on "
                "with the same command"
            )
        elif self.failures:
            lines.append(
                "Earlier results are untouched; fix it and run the same command: it makes only "
                "what is missing"
            )
        return lines

    def document(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "exit_code": self.exit_code,
            "made": [dict(zip(("owner", "step", "seconds"), m, strict=True)) for m in self.made],
            "failures": [
                dict(zip(("owner", "step", "reason"), f, strict=True)) for f in self.failures
            ],
            "failed_checks": [{"owner": o, **check._asdict()} for o, check in self.failed_checks],
            "advice": [each._asdict() for each in self.advice],
            "is_stopped": self.is_stopped,
        }


def _figures(check: FailedCheck) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in check.figures.items()
    )


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
        lanes = _Lanes(platform, launcher, planned.costs, display, outcome, parts, again)
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
    is_local = platform.settings.compute.backend == "local"
    lacking = {name for each in work if each.n_lacking and is_local for name in each.step.assets}
    stages = [stage for stage in STAGES if stage in lacking]
    later = [
        module for name, modules in _LOADED_BY.items() if name in lacking for module in modules
    ]
    return warm_workers(stages, platform.threads(stages[0]) if stages else 1, later)


class _Lanes:
    """SAEs on their way through the pipeline, some side by side."""

    def __init__(
        self,
        platform: Platform,
        launcher: Launcher,
        costs: Costs,
        display: Display,
        outcome: Outcome,
        parts: Range,
        again: bool,
    ) -> None:
        self._platform, self._launcher, self._costs = platform, launcher, costs
        self._display, self._outcome = display, outcome
        self._parts, self._again = parts, again
        self._queue: queue.SimpleQueue[Hyperparameters] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._owners: dict[str, threading.Lock] = {}
        self._made: set[tuple[str, str]] = set()
        self._failed_sets: set[PartitionKey] = set()
        self._is_broken = False

    def run(self, saes: Sequence[Hyperparameters], n_lanes: int) -> None:
        """Bring every SAE to its end, then what is about all of them."""
        # first those that the evidence of the others is set against
        self._bring_all([h for h in saes if h.recipe == "untrained"], n_lanes)
        self._bring_all([h for h in saes if h.recipe != "untrained"], n_lanes)
        if not (self._is_broken or self._outcome.is_stopped) and self._parts.nodes is None:
            for work in project_work(self._platform, self._parts, again=self._again):
                if work.n_lacking and not self._outcome.is_stopped:
                    self._make(work)

    def _bring_all(self, saes: Sequence[Hyperparameters], n_lanes: int) -> None:
        for hyperparameters in saes:
            self._queue.put(hyperparameters)
        threads = [
            threading.Thread(target=self._lane, name=f"lane {i}", daemon=True)
            for i in range(min(n_lanes, len(saes)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # signals are handled between two looks
                thread.join(0.2)

    def _lane(self) -> None:
        while not self._outcome.is_stopped:
            try:
                hyperparameters = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                self._bring(hyperparameters)
            except Exception as error:
                # a lane must not take the others down; its SAE is reported as failed
                with self._lock:
                    self._is_broken = True
                    self._outcome.failures.append((hyperparameters.key, "plan", str(error)))

    def _bring(self, hyperparameters: Hyperparameters) -> None:
        """One SAE through its steps; what it lacks is looked at before each. A set of variants that
        fails leaves the others, and what is no set's."""
        for name, grain in {a.step: a.grain for a in self._parts.artifacts}.items():
            owners = {"layer": hyperparameters.layer, "variants": _SETS}
            owner = owners.get(grain, hyperparameters.key)
            # another lane may make it while this one waits
            with self._owner(owner):
                for work in self._lacking(hyperparameters, owner, name):
                    key = work.step.first
                    if self._outcome.is_stopped:
                        return
                    variant_set = key.of_set
                    own = (
                        {key} if variant_set is None else {key, PartitionKey(set_key(variant_set))}
                    )
                    if self._failed_sets & own or self._make(work):
                        continue
                    if variant_set is None:
                        return
                    self._failed_sets.add(key)
                if grain == "variants":
                    self._made.add((owner, name))

    def _lacking(self, hyperparameters: Hyperparameters, owner: str, name: str) -> list[Work]:
        """The work of a step; what was made once in this run is not made again."""
        # of a layer or set of variants that another SAE has, too
        again = self._again and (owner, name) not in self._made
        parts = self._parts.up_to_step(name)
        work = work_of(self._platform, hyperparameters, parts, again=again)
        return [each for each in work if each.step.name == name and each.n_lacking]

    def _owner(self, name: str) -> threading.Lock:
        with self._lock:
            return self._owners.setdefault(name, threading.Lock())

    def _make(self, work: Work) -> bool:
        """One run; whether it succeeded."""
        step = work.step
        self._display.started(work.owner, step.name, step.partition)
        start = time.monotonic()
        ended: Ended = self._launcher.run(step)
        seconds = time.monotonic() - start
        with self._lock:
            self._made.add((step.first.owner, step.name))
            outcome = self._outcome
            outcome.failed_checks += [(work.owner, check) for check in ended.failed_checks]
            if ended.state == "failure":
                self._is_broken |= step.first.of_set is None
                outcome.failures.append((work.owner, step.label, ended.reason))
            elif ended.state == "success":
                outcome.made.append((work.owner, step.label, seconds))
                self._costs.note(work, seconds)
        self._display.ended(work.owner, step.label, ended.state, seconds)
        return ended.state == "success"


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
