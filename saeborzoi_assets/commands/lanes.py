"""SAEs on their way through the pipeline: some side by side, and of each its jobs beside its light
steps.

A step with a job waits for a process of its own; a light one works in this process. On this machine
one step of each kind goes at a time, so that jobs follow each other while what an SAE takes of this
process, its maps, plots and pages, is made beside the jobs of the next.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from saeborzoi.pipeline import ARTIFACT, JOB_STEPS, Artifact
from saeborzoi.settings.artifacts import inputs_of
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, set_key
from saeborzoi_assets.commands.outcome import Outcome
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.costs import Costs
from saeborzoi_assets.lacking import Range, Work, project_work, work_of
from saeborzoi_resources.platform import Platform

if TYPE_CHECKING:
    from saeborzoi_assets.commands.launch import Ended, Launcher

_SETS = "sets of variants"
"""One lane at a time makes what is of them and of no SAE."""


class Lanes:
    """SAEs on their way through the pipeline, some side by side.

    Parameters
    ----------
    platform, launcher, costs, display
        Of the project; what a step took is noted in `costs`.
    outcome
        Gets what was made and what failed.
    parts
        What is asked for.
    again
        Whether it is made where it stands, too.
    """

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
        self._steps: dict[str, list[Artifact]] = {}
        for artifact in parts.artifacts:
            if artifact.grain != "project":
                self._steps.setdefault(artifact.step, []).append(artifact)
        self._queue: queue.SimpleQueue[Hyperparameters] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._being_made: dict[tuple[str, str], threading.Lock] = {}
        self._made: set[tuple[str, str]] = set()
        self._failed_sets: set[PartitionKey] = set()
        self._is_broken = False

    def run(self, saes: Sequence[Hyperparameters], n_lanes: int) -> None:
        """Bring every SAE to its end, then what is about all of them."""
        # first those that the evidence of the others is set against; in one lane, their nodes are
        # made before those of the others anyway
        untrained = [h for h in saes if h.recipe == "untrained"]
        trained = [h for h in saes if h.recipe != "untrained"]
        for together in [untrained + trained] if n_lanes == 1 else [untrained, trained]:
            self._bring_all(together, n_lanes)
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
        """The steps with jobs of one SAE after the other; light steps beside, in the same order."""
        with ThreadPoolExecutor(1, thread_name_prefix="light steps") as light_steps:
            while not self._outcome.is_stopped:
                try:
                    hyperparameters = self._queue.get_nowait()
                except queue.Empty:
                    return
                ends: dict[str, Future[bool]] = {step: Future() for step in self._steps}
                light_steps.submit(self._bring, hyperparameters, ends, has_jobs=False)
                self._bring(hyperparameters, ends, has_jobs=True)

    def _bring(
        self,
        hyperparameters: Hyperparameters,
        ends: dict[str, Future[bool]],
        *,
        has_jobs: bool,
    ) -> None:
        """One SAE through its steps of a kind, each as soon as those before it have ended well."""
        for step in [step for step in self._steps if (step in JOB_STEPS) == has_jobs]:
            artifacts = self._steps[step]
            is_whole = False
            try:
                before = {
                    ARTIFACT[name].step
                    for artifact in artifacts
                    for name in inputs_of(artifact, self._platform.settings)
                }
                # in the order of the pipeline, so that no two wait for each other
                is_ready = all(ends[name].result() for name in ends if name in before - {step})
                is_whole = (
                    is_ready
                    and not self._outcome.is_stopped
                    and self._take(hyperparameters, step, artifacts[0].grain)
                )
            except Exception as error:
                # a lane must not take the others down; its SAE is reported as failed
                with self._lock:
                    self._is_broken = True
                    self._outcome.failures.append((hyperparameters.key, "plan", str(error)))
            finally:
                ends[step].set_result(is_whole)

    def _take(self, hyperparameters: Hyperparameters, step: str, grain: str) -> bool:
        """A step of an SAE, whether it is whole then; what it lacks is looked at before. A set of
        variants that fails leaves the others, and what is no set's."""
        owners = {"layer": hyperparameters.layer, "variants": _SETS}
        owner = owners.get(grain, hyperparameters.key)
        with self._lock:
            # another lane may make it while this one waits
            turn = self._being_made.setdefault((owner, step), threading.Lock())
        with turn:
            for work in self._lacking(hyperparameters, owner, step):
                key = work.step.first
                if self._outcome.is_stopped:
                    return False
                variant_set = key.of_set
                own = {key} if variant_set is None else {key, PartitionKey(set_key(variant_set))}
                if self._failed_sets & own or self._make(work):
                    continue
                if variant_set is None:
                    return False
                self._failed_sets.add(key)
            if grain == "variants":
                self._made.add((owner, step))
        return True

    def _lacking(self, hyperparameters: Hyperparameters, owner: str, step: str) -> list[Work]:
        """The work of a step; what was made once in this run is not made again."""
        # of a layer or set of variants that another SAE has, too
        again = self._again and (owner, step) not in self._made
        parts = self._parts.up_to_step(step)
        work = work_of(self._platform, hyperparameters, parts, again=again)
        return [each for each in work if each.step.name == step and each.n_lacking]

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
