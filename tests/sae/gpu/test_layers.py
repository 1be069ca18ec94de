"""A step on a device: the mathematics of the dense definition, and nothing moves where it fails."""

from __future__ import annotations

import copy

import pytest
import torch

from saeborzoi.errors import TrainingError
from saeborzoi.sae.gpu.plain import largest, unpack
from saeborzoi.sae.recipe import RECIPES
from saeborzoi.sae.steps import SparseStep
from saeborzoi.sae.trainer import Trainer
from tests.sae.dense_step import DenseStep
from tests.sae.gpu.made_step import H, gradients, trainer_of
from tests.sae.test_steps import CASES, relative


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_those_of_the_dense_definition(
    case: tuple[int, int, int, str], device: str
) -> None:
    """Half-precision operands: nodes that swap at the limit of the k largest are nearly all of
    what differs."""
    trainer, raw = trainer_of(*case, device=device)
    sae = copy.deepcopy(trainer.sae).cpu()
    exact = DenseStep()(sae, raw.cpu().numpy())
    with torch.no_grad():
        h = sae.pre_activations(sae.normalize(raw.cpu()).y).relu()
        wanted = h.topk(sae.max_active).indices
    trainer.run()
    for gradient, parameter in zip(gradients(trainer), sae.parameters(), strict=True):
        # at 4,096 positions of an SAE that has trained for a while: 3e-2 to 5e-2
        assert relative(gradient.cpu(), parameter.grad) < 7e-2  # type: ignore[arg-type]
    squared_error, n_active, _ = trainer.progress.total.tolist()
    assert squared_error == pytest.approx(exact.squared_error, rel=2e-3)
    assert n_active == pytest.approx(exact.n_active, rel=5e-3)
    if case[3] != "batch_topk":
        z = trainer.batch.z.cpu() > 0
        same = z.gather(1, wanted)[h.gather(1, wanted) > 0].float().mean()
        assert same > 0.998  # after 80 steps, at 4,096 positions: 0.9991
    fired = trainer.progress.since_fired.cpu() == 0
    assert (fired == exact.fired).float().mean() > 0.99


@pytest.mark.parametrize(
    ("variant", "recipe"),
    [("topk", "default"), ("batch_topk", "default"), ("matryoshka", "default"),
     ("topk", "published")],
)  # fmt: skip
def test_steps_follow_those_of_a_cpu(variant: str, recipe: str, device: str) -> None:
    """With dead nodes, which AuxK revives; the published recipe has neither norm nor AuxK."""
    trainer, raw = trainer_of(64, 256, 4, variant, device, 300, recipe)
    with torch.no_grad():
        trainer.sae.encoder_bias[:40] = -2
    other, start = copy.deepcopy(trainer.sae).cpu(), copy.deepcopy(trainer.sae).cpu()
    trainer.weights.refresh()
    reference = Trainer(
        other, H, RECIPES[recipe], 1000, len(raw), trainer.variance, SparseStep()
    )  # fmt: skip
    for each in (trainer, reference):
        each.dead_after = 600
    trainer.layer.constants = trainer.layer.constants._replace(dead_after=600)
    for _ in range(5):
        trainer.train_step(raw)
        reference.train_step(raw.cpu().numpy())
    if recipe == "default":
        assert trainer.batch.aux_encoder[:40].abs().sum() > 0
    squared_error, n_active, n_positions = trainer.window()
    wanted = reference.window()
    assert squared_error == pytest.approx(wanted.squared_error, rel=2e-3)
    assert n_active == pytest.approx(wanted.n_active, rel=5e-3)
    assert n_positions == wanted.n_positions == 5 * len(raw)
    for (name, one), two, first in zip(
        trainer.sae.named_parameters(), other.parameters(), start.parameters(), strict=True
    ):
        moved = (parameter.detach().cpu() - first.detach() for parameter in (one, two))
        assert relative(*moved) < 0.1, name
    torch.testing.assert_close(
        trainer.sae.threshold.cpu(), reference.sae.threshold, rtol=5e-3, atol=0
    )


def test_a_loss_that_is_not_finite_is_named_and_nothing_moves_from_there(device: str) -> None:
    trainer, raw = trainer_of(64, 256, 3, "batch_topk", device)
    trainer.train_step(raw)
    before = [t.clone() for t in (*trainer.sae.state_dict().values(), trainer.since_fired)]
    moments = [t.clone() for m in trainer.moments() for t in m.values()]
    bad = raw.clone()
    bad[3, 5] = float("nan")
    trainer.train_step(bad)
    trainer.train_step(raw)
    for read in (trainer.window, trainer.state, lambda: trainer.log_train(0)):
        with pytest.raises(TrainingError, match=r"not finite at step 2 \(1,200 positions\)"):
            read()
    assert not trainer.data_is_finite
    after = [*trainer.sae.state_dict().values(), trainer.since_fired]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    now = [t for m in trainer.moments() for n, t in m.items() if n != "step"]
    then = [t for i, t in enumerate(moments) if i % 3]
    assert all(torch.equal(a, b) for a, b in zip(then, now, strict=True))


def test_a_loss_that_overflows_is_not_the_data_s_fault(device: str) -> None:
    trainer, raw = trainer_of(64, 256, 3, device=device)
    with torch.no_grad():
        trainer.sae.encoder_bias[7] = 1e30
    trainer.weights.refresh()
    trainer.train_step(raw)
    with pytest.raises(TrainingError, match=r"not finite at step 1 .* try a tenth"):
        trainer.window()
    assert trainer.data_is_finite


def test_ties_zeros_and_infinities_are_cut_at_k(device: str) -> None:
    h = torch.full((5, 64), -1.0)
    h[0] = 2  # all alike
    h[1, :3] = 1  # fewer than k above 0
    h[2] = 0
    h[3, 9], h[3, 0] = float("inf"), 4
    h[4, :8] = torch.arange(8.0)
    kept = torch.zeros(5, 4, dtype=torch.int32, device=device)
    largest(h.half().to(device), 4, kept)
    value, node = (x.cpu() for x in unpack(kept))
    assert (value > 0).sum(1).tolist() == [4, 3, 0, 2, 4]
    assert len(set(node[0].tolist())) == 4
    assert sorted(node[1][value[1] > 0].tolist()) == [0, 1, 2]
    assert value[3].tolist()[:2] == [float("inf"), 4]
    assert sorted(value[4].tolist()) == [4, 5, 6, 7]


def test_slopes_of_an_outlier_stay_finite(device: str) -> None:
    """One position 1,000 times as large as the others: float16 ends at 65504."""
    trainer, raw = trainer_of(64, 256, 3, device=device)
    raw[0] *= 1000 / raw[0].abs().max() * raw.abs().max().clamp_max(60)
    trainer.batch.raw.copy_(raw)
    trainer.run()
    assert all(torch.isfinite(g).all() for g in gradients(trainer))
