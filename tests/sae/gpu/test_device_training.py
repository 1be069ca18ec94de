"""Training on a device finds what training on a CPU finds, stops and goes on as that does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saeborzoi.activations.loader import TrainingStream
from saeborzoi.errors import InputError, TrainingError
from saeborzoi.jobs import job
from saeborzoi.jobs.job import StageInterrupted
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.gpu.feed import DeviceStream
from saeborzoi.sae.gpu.trainer import DeviceTrainer
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import TrainingData, TrainingLoop, in_batches
from tests.sae.gpu.device_loop import DeviceLoop
from tests.sae.small_known import SMALL, data_in
from tests.sae.test_training import SHORT, H, same

QUICK = dataclasses.replace(SHORT, n_positions=8_000)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["topk", "batch_topk", "matryoshka"])
def test_it_finds_what_a_cpu_finds(small_data: TrainingData, variant: str, device: str) -> None:
    h = H.model_copy(update={"variant": variant})
    schedule = Schedule(n_positions=200_000, batch_size=500, validate_every_positions=10**6)
    results = []
    for loop in (
        DeviceLoop(small_data, schedule, device=torch.device(device)),
        TrainingLoop(small_data, schedule),
    ):
        sae = loop.run([h])[0].sae
        measured = evaluate(sae, in_batches(small_data.validation, 700))  # type: ignore[arg-type]
        assert measured.l0 == pytest.approx(3, rel=0.03)
        results.append((measured, SMALL.recovery(sae.cpu())))
    (on_device, recovery), (on_cpu, expected) = results
    assert on_device.fvu == pytest.approx(on_cpu.fvu, rel=0.03)
    assert recovery.mmcs == pytest.approx(expected.mmcs, abs=0.02)
    assert recovery.recovered_fraction == pytest.approx(expected.recovered_fraction, abs=0.125)
    # rounding decides which rare nodes come to life: 7 to 15 of 128 over seeds
    assert on_device.dead_fraction == pytest.approx(on_cpu.dead_fraction, abs=0.08)


def test_a_stopped_training_ends_the_same_and_goes_on_on_another_device(
    small_data: TrainingData, tmp_path: Path
) -> None:
    whole = DeviceLoop(small_data, QUICK).run([H])[0]

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if done == 3_500:
            job.stop_requested.set()

    loops = []
    for kind, name in ((DeviceLoop, "same"), (TrainingLoop, "other")):
        loop = DeviceLoop(small_data, QUICK, work=tmp_path / name, progress=stop)
        with pytest.raises(StageInterrupted, match="saved its state"):
            loop.run([H])
        job.stop_requested.clear()
        loops.append(kind(small_data, QUICK, work=tmp_path / name))
    resumed, on_cpu = (loop.run([H])[0] for loop in loops)
    assert same(resumed, whole)
    assert [row["step"] for row in resumed.log] == [row["step"] for row in whole.log]
    last, expected = on_cpu.log[-1], whole.log[-1]
    assert last["fvu"] == pytest.approx(expected["fvu"], rel=0.02)


def test_several_saes_share_a_pass(small_data: TrainingData) -> None:
    other = H.model_copy(update={"expansion": 2, "variant": "batch_topk"})
    together = DeviceLoop(small_data, QUICK).run([H, other])
    for h, trained in zip((H, other), together, strict=True):
        assert same(DeviceLoop(small_data, QUICK).run([h])[0], trained)
        assert all(p.is_contiguous() for p in trained.sae.parameters())


def test_data_that_is_not_finite_is_named(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    with h5py.File(tmp_path / "train" / "activations_1.h5", "a") as file:
        file[next(iter(file))][2, 77, 5] = np.inf
    with pytest.raises(InputError, match=r"activations_1\.h5: .* row 2, position 77, channel 5"):
        DeviceLoop(data, dataclasses.replace(SHORT, n_positions=40_000)).run([H])


def test_a_learning_rate_that_is_too_high_is_named(small_data: TrainingData) -> None:
    h = H.model_copy(update={"learning_rate": 1e6, "recipe": "published"})
    with pytest.raises(TrainingError, match=r"not finite at step \d+ .* learning rate .* too high"):
        DeviceLoop(small_data, QUICK).run([h])


@pytest.mark.parametrize("size", [1, 3])
def test_batches_come_in_the_order_of_a_cpu_s(
    small_data: TrainingData, size: int, device: str
) -> None:
    """From the middle of the stream, across pools and passes; each process gets its own rows."""
    batch_size, first = 900, 30_000
    stream = TrainingStream(small_data.train, 3, 1, 2)
    assert stream.pool_shape[0] < 20_000, "several pools a pass"
    expected = stream.batches(batch_size, first)
    parts = [
        DeviceStream(
            TrainingStream(small_data.train, 3, 1, 2), batch_size, torch.device(device),
            Group(rank, size),
        ).batches(batch_size, first)
        for rank in range(size)
    ]  # fmt: skip
    for _ in range(30):
        wanted = next(expected)
        for rank, part in enumerate(parts):
            batch = next(part)
            assert np.array_equal(batch.cpu().numpy(), Group(rank, size).part(wanted))


def test_the_log_says_what_trains_and_why(small_data: TrainingData) -> None:
    lines: list[str] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        lines.append(f"{what}: {note}")

    DeviceLoop(small_data, dataclasses.replace(QUICK, n_positions=500), progress=progress).run([H])
    wanted = f"training on the device: {H.key} by plain PyTorch (kernels are for CUDA)"
    assert lines[0] == wanted


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(
    small_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds 1,000 positions a step."""

    def prepare(trainer: DeviceTrainer) -> None:
        if trainer.batch_size > 1000:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(DeviceTrainer, "prepare", prepare)
    large = dataclasses.replace(SHORT, batch_size=5000)
    with pytest.raises(TrainingError, match=r"training\.batch_size = 5000: .* set at most 768$"):
        DeviceLoop(small_data, large).run([H])
    other = H.model_copy(update={"expansion": 2})
    with pytest.raises(TrainingError, match=r"of 2 SAEs in one pass; .* lower saes_per_pass"):
        DeviceLoop(small_data, large).run([H, other])
