"""Training: one pass over shuffled positions moves one or several SAEs.

The loop over data and when it ends. One SAE's optimizer, metrics and early stopping are in
`trainer.py`, the state on disk in `resume.py`, what a step computes in `steps.py`, how an SAE is
initialized and constrained in `recipe.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.loader import SlabPlan, TrainingStream
from saeborzoi.activations.reader import Raw, all_finite
from saeborzoi.errors import TrainingError
from saeborzoi.jobs.job import Progress, StageInterrupted, silent, stop_requested
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.evaluation import Moments, evaluate
from saeborzoi.sae.gpu.feed import DeviceStream
from saeborzoi.sae.gpu.memory import largest_batch
from saeborzoi.sae.gpu.trainer import DeviceTrainer
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import (
    RECIPES,
    TrainingRecipe,
    initialize,
)
from saeborzoi.sae.resume import load_state, save_state
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.steps import SparseStep
from saeborzoi.sae.tensorboard_log import TensorboardLog
from saeborzoi.sae.threads import Threads
from saeborzoi.sae.trainer import Trainer
from saeborzoi.sae.trainer_base import TrainerBase
from saeborzoi.settings.hyperparameters import Hyperparameters

SAMPLE_POSITIONS = 65_536
"""Positions that centring and the total variance are estimated from."""
MAX_EVALUATED = 1_000_000
"""Positions of a set that an evaluation looks at, at most."""
BATCH_POSITIONS, MIN_BATCH_POSITIONS, MIN_STEPS = 4096, 256, 1000
"""Where the batch's size is left open: a short training gets smaller batches, as
its quality follows the number of steps."""
LOG_ROWS = 200
"""Rows of the training log, about."""


@dataclass(frozen=True)
class TrainingData:
    """What SAEs of one layer are trained on.

    Attributes
    ----------
    train, validation
        Kept positions; without validation there is no early stopping.
    channel_max
        (n_channels,) float32, normalization constants.
    fingerprint
        Names the training data.
    """

    train: SlabPlan
    validation: SlabPlan | None
    channel_max: NDArray[np.float32]
    fingerprint: str


@dataclass
class Trained:
    """A finished training.

    Attributes
    ----------
    sae
        The SAE, on the device that it was trained on; the best by validation FVU, where there
        is validation data.
    log
        Rows of table `training_log`.
    n_positions
        Positions that it was trained on.
    stopped_early
        Whether validation stopped improving.
    training_s
        Wall time over all sessions, in seconds.
    validation_fvu
        Of this very SAE, where it was validated.
    """

    sae: SparseAutoencoder
    log: list[dict[str, Any]]
    n_positions: int
    stopped_early: bool
    training_s: float
    validation_fvu: float | None = None


@dataclass
class TrainingLoop:
    """One pass over the data that trains several SAEs of one layer and seed.

    Attributes
    ----------
    data, schedule
        What to train on, and how long.
    device, threads
        Where.
    work
        Folder of the resumable state and of a log for TensorBoard; None keeps none.
    progress
        Told of every logged step.
    recipes
        Recipe of each name; another table for experiments.
    group
        Processes that train together; all of them run the loop.
    """

    data: TrainingData
    schedule: Schedule
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    work: Path | None = None
    progress: Progress = silent
    recipes: dict[str, TrainingRecipe] = field(default_factory=lambda: RECIPES)
    group: Group = field(default_factory=Group)

    def run(self, hyperparameters: Sequence[Hyperparameters]) -> list[Trained]:
        """Train SAEs; each comes out as it would alone.

        Parameters
        ----------
        hyperparameters
            Of one layer and one seed, as the seed orders the data.

        Raises
        ------
        TrainingError
            Where the loss is not finite, the SAEs differ in layer or seed, or the device's memory
            does not hold a batch.
        InputError
            Where the data is not finite.
        StageInterrupted
            Where `job.stop_requested` was set; the state is saved, and the next run goes on.
        """
        if len({(h.layer, h.seed) for h in hyperparameters}) != 1:
            raise TrainingError(
                "SAEs trained in one pass need the same layer and seed, as the seed orders the "
                f"data; seen: {', '.join(h.key for h in hyperparameters)}; train them apart"
            )
        seed = hyperparameters[0].seed
        stream = TrainingStream(self.data.train, seed, self.schedule.buffer_mb, self.threads)
        total = self.schedule.total_positions(stream.n_positions)
        batch_size = min(self.schedule.batch_size or _batch_size(total), total)
        n_steps = total // batch_size
        feed, trainers = self._prepared(hyperparameters, stream, n_steps, batch_size)
        identity = {
            "hyperparameters": [h.key for h in hyperparameters],
            "data": self.data.fingerprint,
            "n_steps": n_steps,
            "batch_size": batch_size,
            "buffer_mb": self.schedule.buffer_mb,
        }
        state = self._state_file
        elapsed = load_state(state, identity, trainers, self.progress) if state else 0.0
        began = time.monotonic() - elapsed

        def save() -> None:
            if state and self.group.rank == 0:
                save_state(state, identity, trainers, time.monotonic() - began)

        folder = self.work / "tensorboard" if self.work and self.group.rank == 0 else None
        with contextlib.ExitStack() as stack:
            boards = [
                stack.enter_context(
                    TensorboardLog(folder and folder / t.hyperparameters.key, t.log)
                )
                for t in trainers
            ]
            try:
                self._steps(trainers, boards, feed or stream, n_steps, batch_size, save)
            except TrainingError:
                if not all(trainer.data_is_finite for trainer in trainers):
                    self._name_what_is_not_finite()
                raise
        seconds = time.monotonic() - began
        return [self._trained(trainer, batch_size, seconds) for trainer in trainers]

    def _prepared(
        self,
        hyperparameters: Sequence[Hyperparameters],
        stream: TrainingStream,
        n_steps: int,
        batch_size: int,
    ) -> tuple[DeviceStream | None, Sequence[TrainerBase]]:
        sample = self._sample(stream)

        def build(n: int) -> tuple[DeviceStream | None, Sequence[TrainerBase]]:
            feed = self._feed(stream, n)
            trainers = self._trainers(hyperparameters, sample, n_steps, n, feed)
            for trainer in trainers:
                trainer.prepare()
                if isinstance(trainer, DeviceTrainer):
                    key = trainer.hyperparameters.key
                    self.progress("training on the device", 0, 0, f"{key} by {trainer.how}")
            return feed, trainers

        try:
            return build(batch_size)
        except torch.OutOfMemoryError:
            pass  # its traceback holds what did not fit
        fits = largest_batch(build, batch_size)
        n_saes = len(hyperparameters)
        together = f" of {n_saes} SAEs in one pass" if n_saes > 1 else ""
        fewer = ", or lower saes_per_pass" if n_saes > 1 else ""
        if not fits:
            fix = f"lower buffer_mb (now {self.schedule.buffer_mb}){fewer}, or take a larger GPU"
        else:
            fix = f"set at most {fits}{fewer}"
        raise TrainingError(
            f"training.batch_size = {batch_size}: the memory of {self.device} does not hold a "
            f"step{together}; {fix}"
        )

    def _feed(self, stream: TrainingStream, batch_size: int) -> DeviceStream | None:
        """What brings batches to a GPU; a CPU takes them from the stream."""
        if self.device.type == "cpu":
            return None
        return DeviceStream(stream, batch_size, self.device, self.group)

    @property
    def _state_file(self) -> Path | None:
        return self.work / "training.safetensors" if self.work else None

    def forget(self) -> None:
        """Remove the resumable state: the SAE has been written elsewhere."""
        if self._state_file:
            self._state_file.unlink(missing_ok=True)

    def _steps(
        self,
        trainers: Sequence[TrainerBase],
        boards: list[TensorboardLog],
        source: TrainingStream | DeviceStream,
        n_steps: int,
        batch_size: int,
        save: Callable[[], None],
    ) -> None:
        done = max(trainer.n_done for trainer in trainers)
        log_every = max(1, n_steps // LOG_ROWS)
        validate_every = max(1, self.schedule.validate_every_positions // batch_size)
        saved = time.monotonic()
        n_left = n_steps - done
        batches = source.batches(batch_size, done * batch_size, n_left * batch_size)
        for raw in itertools.islice(batches, n_left):
            running = [trainer for trainer in trainers if not trainer.finished]
            if not running:
                break
            for trainer in running:
                trainer.train_step(raw)
            done += 1
            n_positions = done * batch_size
            if done % log_every == 0 or done == n_steps:
                for trainer in running:
                    trainer.log_train(n_positions)
                self.progress("training", n_positions, n_steps * batch_size, _note(running[0]))
            if self.data.validation and (done % validate_every == 0 or done == n_steps):
                for trainer in running:
                    trainer.log_validation(
                        evaluate(trainer.sae, self.validation_batches(), self.threads),
                        n_positions,
                        self.schedule.patience,
                    )
            for trainer, board in zip(trainers, boards, strict=True):
                board.catch_up(trainer.log)
            if self.group.any(stop_requested.is_set()) and done < n_steps:
                save()
                raise StageInterrupted(
                    f"training was asked to stop after {n_positions:,} of {n_steps * batch_size:,} "
                    "positions and saved its state; run it again to go on"
                )
            if time.monotonic() - saved > self.schedule.checkpoint_every_s:
                save()
                saved = time.monotonic()

    def _name_what_is_not_finite(self) -> None:
        """Name the first value of the data that is not finite.

        Looked for only once there is one, as that takes as long as reading.
        """
        for _ in self.data.train.in_order():
            pass

    def initial(self, hyperparameters: Hyperparameters) -> SparseAutoencoder:
        """An SAE as training would start from it, on the device: a baseline is this and no more."""
        stream = TrainingStream(
            self.data.train, hyperparameters.seed, self.schedule.buffer_mb, self.threads
        )
        return self._initial(hyperparameters, self._sample(stream)).to(self.device)

    def _sample(self, stream: TrainingStream) -> Raw:
        n = min(SAMPLE_POSITIONS, stream.n_positions)
        sample = stream.first(n) if self.device.type == "cpu" else next(stream.batches(n, n_rows=n))
        if not all_finite(sample):
            self._name_what_is_not_finite()
        return sample

    def _initial(self, h: Hyperparameters, sample: Raw) -> SparseAutoencoder:
        n_channels = self.data.train.source.n_channels
        sae = SparseAutoencoder(n_channels, h.n_nodes(n_channels), h.k(n_channels), h.variant)
        sae.channel_max.copy_(torch.from_numpy(self.data.channel_max))
        initialize(sae, self.recipes[h.recipe], h, sample, Threads(self.threads))
        return sae

    def _trainers(
        self,
        hyperparameters: Sequence[Hyperparameters],
        sample: Raw,
        n_steps: int,
        batch_size: int,
        feed: DeviceStream | None,
    ) -> Sequence[TrainerBase]:
        moments = Moments(self.data.train.source.n_channels)
        channel_max = torch.from_numpy(self.data.channel_max)
        moments.add_blocks(sample, channel_max, Threads(self.threads))
        variance = float(moments.squares.sum() / moments.n)
        trainers: list[TrainerBase] = []
        for h in hyperparameters:
            sae = self._initial(h, sample).to(self.device)
            common = sae, h, self.recipes[h.recipe], n_steps, batch_size, variance
            trainers.append(
                DeviceTrainer(*common, feed.buffer, self.group)
                if feed is not None
                else Trainer(*common, SparseStep(self.threads, self.group), self.group)
            )
        return trainers

    def _trained(self, trainer: TrainerBase, batch_size: int, seconds: float) -> Trained:
        n_positions = trainer.n_done * batch_size
        return Trained(
            trainer.release(),
            trainer.log,
            n_positions,
            trainer.finished,
            seconds,
            trainer.best_fvu if self.data.validation else None,
        )

    def validation_batches(self) -> Iterator[Raw]:
        """The validation positions, afresh."""
        assert self.data.validation is not None
        return in_batches(self.data.validation)


def in_batches(
    plan: SlabPlan, batch_size: int = BATCH_POSITIONS, n_at_most: int = MAX_EVALUATED
) -> Iterator[Raw]:
    """Kept positions in order of the files, in batches; no more than asked for."""
    parts: list[Raw] = []
    n_taken = 0
    for slab in plan.in_order():
        parts.append(slab.activation[: n_at_most - n_taken])
        n_taken += len(parts[-1])
        if sum(map(len, parts)) >= batch_size or n_taken >= n_at_most:
            yield np.concatenate(parts)
            parts = []
        if n_taken >= n_at_most:
            return
    if parts:
        yield np.concatenate(parts)


def _batch_size(total: int) -> int:
    """Positions of a step where it is left open.

    >>> _batch_size(10**9), _batch_size(600_000), _batch_size(5_000)
    (4096, 600, 256)
    """
    return min(BATCH_POSITIONS, max(MIN_BATCH_POSITIONS, total // MIN_STEPS))


def _note(trainer: TrainerBase) -> str:
    row = trainer.log[-1]
    return (
        f"fvu {row['fvu']:.3f}, {row['dead_fraction']:.1%} dead, "
        f"{row['positions_per_s']:,.0f} positions/s"
    )
