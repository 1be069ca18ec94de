"""Training finds a known dictionary, stops when it should, and goes on as if never killed."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors
import torch

from saeborzoi.errors import InputError, TrainingError
from saeborzoi.jobs import job
from saeborzoi.jobs.job import StageInterrupted
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.recipe import RECIPES
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import Trained, TrainingData, TrainingLoop, in_batches
from saeborzoi.settings.hyperparameters import Hyperparameters
from tests.sae.small_known import SMALL, data_in

SHORT = Schedule(n_positions=60_000, batch_size=500, validate_every_positions=20_000, buffer_mb=1)
H = Hyperparameters(layer="known", topk=0.12)


def same(one: Trained, two: Trained) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.sae.state_dict().values(), two.sae.state_dict().values(), strict=True)
    )


@pytest.fixture(scope="module")
def uninterrupted(small_data: TrainingData) -> Trained:
    return TrainingLoop(small_data, SHORT).run([H])[0]


def test_the_default_recipe_finds_a_known_dictionary(small_data: TrainingData) -> None:
    settings = Schedule(n_positions=400_000, batch_size=1000, validate_every_positions=10**6)
    trained = TrainingLoop(small_data, settings).run([H])[0]
    recovery = SMALL.recovery(trained.sae)
    assert recovery.mmcs > 0.95
    assert recovery.recovered_fraction > 0.9
    assert evaluate(trained.sae, in_batches(small_data.train, 1000)).dead_fraction <= 0.05


def test_the_published_recipe_hardly_moves_in_that_time(small_data: TrainingData) -> None:
    """What the default recipe is for: 1e-5 without centring is far from done."""
    h = Hyperparameters(layer="known", topk=0.12, recipe="published")
    published = TrainingLoop(small_data, SHORT).run([h])[0]
    assert SMALL.recovery(published.sae).recovered_fraction == 0


def test_baselines_are_what_training_starts_from(
    small_data: TrainingData, uninterrupted: Trained
) -> None:
    loop = TrainingLoop(small_data, SHORT)
    untrained = loop.initial(H.untrained())
    norms = torch.linalg.vector_norm(untrained.decoder_weight, dim=1)
    assert torch.allclose(norms, torch.ones(untrained.n_nodes))
    assert torch.equal(untrained.encoder_weight, untrained.decoder_weight)
    assert (untrained.n_nodes, untrained.k) == (uninterrupted.sae.n_nodes, uninterrupted.sae.k)
    batches = list(in_batches(small_data.train, 1000))
    fvu = [evaluate(sae, batches).fvu for sae in (untrained, uninterrupted.sae)]
    assert fvu[0] > 1.5 * fvu[1]
    channels = loop.initial(H.model_copy(update={"recipe": "channels", "expansion": 1}))
    x = torch.from_numpy(batches[0]).float()
    y = channels.normalize(x).y - channels.pre_bias
    active = channels.encode(x)
    assert torch.equal(active.value, y.relu().topk(channels.k).values)
    fires = active.value > 0
    assert torch.equal(active.value[fires], y.gather(1, active.node)[fires])


def test_the_log_follows_the_training(uninterrupted: Trained) -> None:
    train = [row for row in uninterrupted.log if row["split"] == "train"]
    validation = [row for row in uninterrupted.log if row["split"] == "validation"]
    assert [row["n_positions"] for row in validation] == [20_000, 40_000, 60_000]
    assert train[-1]["step"] == 120
    assert train[-1]["fvu"] < 0.8 * train[0]["fvu"]
    assert all(0 < row["l0"] <= 3 for row in train)
    assert all(row["positions_per_s"] > 0 for row in train)
    assert train[0]["learning_rate"] < max(row["learning_rate"] for row in train)
    assert train[-1]["learning_rate"] < 1e-3


def test_evaluation_equals_the_definition(uninterrupted: Trained, small_data: TrainingData) -> None:
    sae = uninterrupted.sae
    x = np.concatenate(list(in_batches(small_data.validation, 999)))  # type: ignore[arg-type]
    figures = evaluate(sae, in_batches(small_data.validation, 700))  # type: ignore[arg-type]
    with torch.no_grad():
        scaled = torch.from_numpy(x).float() / sae.channel_max
        error = (sae(torch.from_numpy(x).float()) / sae.channel_max - scaled).square()
        spread = (scaled - scaled.mean(0)).square()
        node = sae.encode(torch.from_numpy(x).float())
    assert figures.n_positions == len(x)
    assert figures.fvu == pytest.approx(float(error.sum() / spread.sum()), rel=1e-4)
    assert figures.loss == pytest.approx(float(error.mean()), rel=1e-4)
    assert figures.l0 == pytest.approx(float((node.value > 0).sum() / len(x)), rel=1e-6)
    alive = torch.unique(node.node[node.value > 0])
    assert figures.dead_fraction == pytest.approx(1 - len(alive) / sae.n_nodes, abs=1e-6)
    np.testing.assert_allclose(
        figures.explained_variance, 1 - (error.sum(0) / spread.sum(0)).numpy(), rtol=1e-3
    )


def test_the_seed_decides(small_data: TrainingData, uninterrupted: Trained) -> None:
    again = TrainingLoop(small_data, SHORT).run([H])[0]
    assert same(again, uninterrupted)
    other = H.model_copy(update={"seed": 1})
    assert not same(TrainingLoop(small_data, SHORT).run([other])[0], uninterrupted)


def test_a_request_to_stop_saves_and_the_next_run_ends_the_same(
    small_data: TrainingData, uninterrupted: Trained, tmp_path: Path
) -> None:
    """Stopped twice, at steps that no log row or validation falls on."""
    stops = [33, 77]

    def stop_at(what: str, done: int, total: int, note: str = "") -> None:
        if stops and done >= stops[0] * 500:
            stops.pop(0)
            job.stop_requested.set()

    loop = TrainingLoop(small_data, SHORT, work=tmp_path, progress=stop_at)
    for _ in range(2):
        with pytest.raises(StageInterrupted, match="saved its state; run it again"):
            loop.run([H])
        job.stop_requested.clear()
    resumed = loop.run([H])[0]
    assert same(resumed, uninterrupted)
    assert [row["step"] for row in resumed.log] == [row["step"] for row in uninterrupted.log]
    assert resumed.n_positions == 60_000


_KILLED = """
import dataclasses
import sys
from pathlib import Path
from tests.sae.small_known import data_in
from tests.sae.test_training import H, SHORT
from saeborzoi.sae.training import TrainingLoop
from saeborzoi.stages import top_activations, trained_sae
work = Path(sys.argv[1])
data = data_in(work / "data")
settings = dataclasses.replace(SHORT, checkpoint_every_s=1e-9)
print("ready", flush=True)
def progress(what, done, total, note=""):
    print("heavy", *{"torch._dynamo", "sympy"} & set(sys.modules))
    print(done, flush=True)
loop = TrainingLoop(data, settings, work=work, progress=progress)
loop.run([H])
"""


def test_a_killed_training_ends_with_the_same_weights(
    uninterrupted: Trained, small_data: TrainingData, tmp_path: Path
) -> None:
    """SIGKILL while every step writes its state: whatever file is there is whole.

    And a step takes nothing of PyTorch that brings its compiler along, a second and a half.
    """
    here = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": here},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("heavy"):
            assert line == "heavy\n"
        if line.strip().isdigit() and int(line) > 20_000:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with safetensors.safe_open(tmp_path / "training.safetensors", "pt") as file:
        assert file.keys()
    progress_lines: list[tuple[str, int]] = []
    loop = TrainingLoop(
        small_data,
        SHORT,
        work=tmp_path,
        progress=lambda what, done, total, note="": progress_lines.append((what, done)),
    )
    assert same(loop.run([H])[0], uninterrupted)
    assert progress_lines[0] == ("resuming", 0)
    assert progress_lines[1][1] > 20_000, "it went on from the checkpoint"


def test_a_state_of_another_training_is_passed_over(
    small_data: TrainingData, uninterrupted: Trained, tmp_path: Path
) -> None:
    job.stop_requested.set()
    with pytest.raises(StageInterrupted):
        TrainingLoop(small_data, dataclasses.replace(SHORT, batch_size=250), work=tmp_path).run([H])
    job.stop_requested.clear()
    lines: list[str] = []
    loop = TrainingLoop(
        dataclasses.replace(small_data, fingerprint="ab"),
        SHORT,
        work=tmp_path,
        progress=lambda what, done, total, note="": lines.append(f"{what} {note}"),
    )
    assert same(loop.run([H])[0], uninterrupted)
    assert re.match(
        r"resuming from the beginning: \S+training\.safetensors is of another training \("
        rf"data {small_data.fingerprint} then, ab now; n_steps 240 then, 120 now; "
        r"batch_size 250 then, 500 now\)",
        lines[0],
    )


def test_a_damaged_state_is_refused(small_data: TrainingData, tmp_path: Path) -> None:
    (tmp_path / "training.safetensors").write_bytes(b"half a state")
    with pytest.raises(
        TrainingError,
        match=r"training\.safetensors: the state .* cannot be read .*; remove the file",
    ):
        TrainingLoop(small_data, SHORT, work=tmp_path).run([H])


def test_a_finished_training_is_not_done_again(small_data: TrainingData, tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, checkpoint_every_s=1e-9)
    first = TrainingLoop(small_data, settings, work=tmp_path).run([H])[0]
    lines: list[str] = []
    loop = TrainingLoop(
        small_data,
        settings,
        work=tmp_path,
        progress=lambda what, done, total, note="": lines.append(f"{what} {note}"),
    )
    assert same(loop.run([H])[0], first)
    assert lines == [f"resuming after step 120, from {tmp_path / 'training.safetensors'}"]


def test_a_short_training_gets_smaller_batches(small_data: TrainingData) -> None:
    """30,000 positions are 117 steps of 256, not 7 of 4,096; a size that is set is kept."""
    left_open = dataclasses.replace(SHORT, n_positions=30_000, batch_size=None)
    assert TrainingLoop(small_data, left_open).run([H])[0].log[-1]["step"] == 117
    given = dataclasses.replace(left_open, batch_size=4096)
    assert TrainingLoop(small_data, given).run([H])[0].log[-1]["step"] == 7


def test_several_saes_in_one_pass_are_what_each_is_alone(
    small_data: TrainingData, uninterrupted: Trained
) -> None:
    others = [
        H.model_copy(update={"learning_rate": 1e-3, "expansion": 2}),
        H.model_copy(update={"variant": "batch_topk"}),
    ]
    together = TrainingLoop(small_data, SHORT).run([H, *others])
    assert same(together[0], uninterrupted)
    for h, trained in zip(others, together[1:], strict=True):
        assert same(TrainingLoop(small_data, SHORT).run([h])[0], trained)


def test_saes_of_different_order_cannot_share_a_pass(small_data: TrainingData) -> None:
    with pytest.raises(TrainingError, match="need the same layer and seed"):
        TrainingLoop(small_data, SHORT).run([H, H.model_copy(update={"seed": 1})])


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_state(
    small_data: TrainingData, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SHORT, checkpoint_every_s=1e-9)
    h = H.model_copy(update={"learning_rate": 1.0, "recipe": "published"})
    recipe = RECIPES["published"]
    loop = TrainingLoop(small_data, settings, work=tmp_path)
    trainers: list[Any] = []
    plain = loop._trainers

    def watched(*args: object) -> list[Any]:
        trainers.extend(plain(*args))  # type: ignore[arg-type]
        return trainers

    loop._trainers = watched  # type: ignore[method-assign, assignment]
    loop.recipes = {"published": recipe}

    def poison(what: str, done: int, total: int, note: str = "") -> None:
        if done >= 30 * 500:
            trainers[0].sae.encoder_bias.data.fill_(1e30)

    loop.progress = poison
    with pytest.raises(TrainingError, match=r"not finite at step \d+ .* learning rate .* too high"):
        loop.run([h])
    with safetensors.safe_open(tmp_path / "training.safetensors", "pt") as file:
        assert torch.isfinite(file.get_tensor("0.sae.decoder_weight")).all()


def test_data_that_is_not_finite_is_named(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    with h5py.File(tmp_path / "train" / "activations_1.h5", "a") as file:
        file[next(iter(file))][2, 77, 5] = np.inf
    with pytest.raises(InputError, match=r"activations_1\.h5: .* row 2, position 77, channel 5"):
        TrainingLoop(data, SHORT).run([H])


def test_validation_that_stops_improving_stops_the_training(small_data: TrainingData) -> None:
    """A learning rate that only makes it worse after a while; the best SAE is what comes out."""
    settings = Schedule(
        n_positions=2_000_000,
        batch_size=500,
        validate_every_positions=2_000,
        patience=3,
        buffer_mb=1,
    )
    h = H.model_copy(update={"learning_rate": 0.3})
    trained = TrainingLoop(small_data, settings).run([h])[0]
    rows = [row for row in trained.log if row["split"] == "validation"]
    best = min(row["fvu"] for row in rows)
    assert trained.stopped_early
    assert trained.n_positions < 2_000_000
    assert [row["fvu"] for row in rows].index(best) == len(rows) - 4
    again = evaluate(trained.sae, in_batches(small_data.validation, 500))  # type: ignore[arg-type]
    assert again.fvu == pytest.approx(best)
    assert trained.validation_fvu == best


@pytest.mark.parametrize("variant", ["topk", "batch_topk", "matryoshka"])
def test_every_variant_learns_on_every_device(
    small_data: TrainingData, variant: str, device: str
) -> None:
    h = H.model_copy(update={"variant": variant})
    settings = dataclasses.replace(SHORT, n_positions=150_000)
    trained = TrainingLoop(small_data, settings, device=torch.device(device)).run([h])[0]
    figures = evaluate(trained.sae, in_batches(small_data.validation, 700))  # type: ignore[arg-type]
    assert figures.fvu < 0.35
    assert figures.l0 == pytest.approx(3, rel=0.03)
    assert math.isfinite(trained.log[-1]["loss"])


def test_nested_dictionaries_explain_more_the_larger_they_are(small_data: TrainingData) -> None:
    settings = dataclasses.replace(SHORT, n_positions=150_000)
    nested, plain = (
        TrainingLoop(small_data, settings).run([H.model_copy(update={"variant": variant})])[0].sae
        for variant in ("matryoshka", "topk")
    )

    def fvu_of_prefix(sae: torch.nn.Module, end: int) -> float:
        cut = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
        cut["decoder_weight"][end:] = 0
        other = type(sae)(32, 128, 3, sae.variant)  # type: ignore[call-arg]
        other.load_state_dict(cut)
        return evaluate(other, in_batches(small_data.validation, 700)).fvu  # type: ignore[arg-type]

    ends = nested.group_ends
    assert ends == [8, 32, 128]
    values = [fvu_of_prefix(nested, end) for end in ends]
    assert values == sorted(values, reverse=True)
    assert values[1] < fvu_of_prefix(plain, ends[1]) - 0.05


def test_the_log_is_tensorboard_s_and_ends_with_the_training(
    small_data: TrainingData, tmp_path: Path
) -> None:
    """Interrupted once: every step stands once in what TensorBoard reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if done == 20_000:
            job.stop_requested.set()

    loop = TrainingLoop(small_data, SHORT, work=tmp_path, progress=stop)
    with pytest.raises(StageInterrupted):
        loop.run([H])
    job.stop_requested.clear()
    loop.progress = job.silent
    time.sleep(1.1)  # TensorBoard reads event files in order of the second of their names
    trained = loop.run([H])[0]
    events = EventAccumulator(str(tmp_path / "tensorboard" / H.key))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("fvu/train")]
    logged = [(row["step"], row["fvu"]) for row in trained.log if row["split"] == "train"]
    assert [step for step, _ in shown] == [step for step, _ in logged]
    assert [value for _, value in shown] == pytest.approx([value for _, value in logged])
    loop.forget()
    assert not (tmp_path / "training.safetensors").exists()
