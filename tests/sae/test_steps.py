"""The fast step is the published step: same nodes, same loss, same derivatives."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.sae.adam import Adam
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.sae.selector import Selector
from saeborzoi.sae.steps import SparseStep, Step
from saeborzoi.sae.trainer import Trainer
from saeborzoi.settings.hyperparameters import Hyperparameters
from tests.sae.dense_step import DenseStep


def made(
    n_channels: int, n_nodes: int, k: int, variant: str = "topk", recipe: str = "default"
) -> tuple[SparseAutoencoder, np.ndarray]:
    """An SAE with uneven parameters and a batch that it does not explain well."""
    rng = np.random.default_rng(n_nodes)
    directions = rng.normal(size=(2 * n_channels, n_channels))
    strengths = rng.exponential(size=(600, 2 * n_channels)) * (
        rng.random((600, 2 * n_channels)) < 0.1
    )
    x = (strengths @ directions + 0.1 * rng.normal(size=(600, n_channels))).astype(np.float32)
    sae = SparseAutoencoder(n_channels, n_nodes, k, variant)  # type: ignore[arg-type]
    sae.channel_max.copy_(torch.from_numpy(x.max(0)))
    h = Hyperparameters(layer="l", recipe=recipe)  # type: ignore[arg-type]
    initialize(sae, RECIPES[recipe], h, torch.from_numpy(x))
    with torch.no_grad():
        for i, parameter in enumerate(sae.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            parameter.add_(0.02 * noise)
    return sae, x


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def trainer_of(
    sae: SparseAutoencoder, x: np.ndarray, step: Step, recipe: str = "default"
) -> Trainer:
    """What trains an SAE in which a node is dead after two batches without it."""
    h = Hyperparameters(layer="l", recipe=recipe)  # type: ignore[arg-type]
    trainer = Trainer(sae, h, RECIPES[recipe], 50, len(x), 1.0, step)
    trainer.dead_after = 2 * len(x)
    return trainer


CASES = [
    (64, 256, 3, "topk"),
    (20, 80, 1, "topk"),
    (37, 111, 12, "topk"),
    (608, 2432, 30, "topk"),
    (64, 256, 3, "batch_topk"),
    (64, 256, 4, "matryoshka"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("recipe", ["default", "published"])
def test_derivatives_equal_those_of_the_dense_definition(
    case: tuple[int, int, int, str], recipe: str
) -> None:
    sae, x = made(*case, recipe=recipe)
    other = copy.deepcopy(sae)
    sparse, dense = SparseStep()(sae, x), DenseStep()(other, x)
    sparse.derive()
    assert sparse.squared_error == pytest.approx(dense.squared_error, rel=1e-5)
    assert sparse.n_active == dense.n_active
    assert torch.equal(sparse.fired, dense.fired)
    assert relative(sparse.centred, dense.centred) < 1e-5
    assert relative(sparse.residual(10, 100), dense.residual(10, 100)) < 1e-3
    for (name, one), two in zip(sae.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert relative(one.grad, two.grad) < 1e-5, name


def test_the_published_step_is_followed_over_adam_steps() -> None:
    """Loss curves of the fast step and of a plain restatement of the published formulas."""
    from torch import nn

    sae, x = made(64, 256, 3, recipe="published")
    encoder = sae.encoder_weight.detach().clone().requires_grad_()
    decoder = sae.decoder_weight.detach().T.clone().requires_grad_()
    latent_bias = sae.encoder_bias.detach().clone().requires_grad_()
    pre_bias = sae.pre_bias.detach().clone().requires_grad_()
    reference = torch.optim.Adam([encoder, latent_bias, decoder, pre_bias], lr=1e-3)
    ours = Adam(sae, RECIPES["published"])
    step = SparseStep()
    scaled = torch.from_numpy(x) / sae.channel_max
    for _ in range(8):
        mu = scaled.mean(-1, keepdim=True)
        s = scaled.std(-1, keepdim=True)
        y = (scaled - mu) / (s + 1e-5)
        h = torch.relu((y - pre_bias) @ encoder.T + latent_bias)
        top = torch.topk(h, 3, dim=-1)
        z = torch.zeros_like(h).scatter(-1, top.indices, top.values)
        loss = nn.functional.mse_loss((z @ decoder.T + pre_bias) * s + mu, scaled)
        reference.zero_grad()
        loss.backward()
        reference.step()
        result = step(sae, x)
        ours.begin(1e-3)
        result.derive(lambda a, b: ours.move_nodes(a, b, result.ranking))  # noqa: B023
        ours.end(result.ranking)
        assert result.squared_error / x.size == pytest.approx(float(loss.detach()), rel=1e-5)
    assert relative(sae.decoder_weight.detach(), decoder.detach().T) < 1e-4


@pytest.mark.parametrize("variant", ["topk", "batch_topk", "matryoshka"])
def test_threads_change_nothing(variant: str) -> None:
    """Bit by bit, with dead nodes that AuxK revives, over steps."""
    start, x = made(64, 256, 3, variant)
    x = np.concatenate([x] * 5)
    with torch.no_grad():
        start.encoder_bias[:40] = -2
    states = []
    for threads in (1, 2, 3):
        sae = copy.deepcopy(start)
        trainer = trainer_of(sae, x, SparseStep(threads))
        for _ in range(4):
            trainer.train_step(x)
        assert sae.encoder_bias[:40].ne(-2).any(), "nodes were revived"
        states.append([*trainer.state()[0].values(), torch.tensor(trainer.window())])
        figures = evaluate(sae, [x[:999], x], threads)
        states[-1] += [torch.from_numpy(figures.explained_variance), torch.tensor(figures[:5])]
    for state in states[1:]:
        for one, other in zip(states[0], state, strict=True):
            assert torch.equal(one, other)


@given(
    n_nodes=st.integers(1, 300), n_channels=st.integers(2, 40), k=st.integers(1, 40),
    seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1.0, 1e3]),
    bias=st.sampled_from([0.0, 1.0, -3.0]),
)  # fmt: skip
def test_selection_is_exact(
    n_nodes: int, n_channels: int, k: int, seed: int, scale: float, bias: float
) -> None:
    """The kept values are the k largest of the float32 pre-activations, whatever the sizes."""
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(n_channels, n_nodes, min(k, n_nodes))
    with torch.no_grad():
        sae.encoder_weight.copy_(scale * torch.randn(n_nodes, n_channels, generator=generator))
        sae.encoder_bias.copy_(bias * scale * torch.randn(n_nodes, generator=generator))
    x = torch.randn(50, n_channels, generator=generator)
    value, node, count = Selector()(sae, x.numpy())
    with torch.no_grad():
        h = sae.pre_activations(sae.normalize(x).y).relu()
    expected = torch.topk(h, sae.k, dim=-1).values
    selected = torch.zeros_like(expected)
    for i in range(len(x)):
        n = int(count[i])
        selected[i, :n] = torch.from_numpy(np.sort(value[i, :n])[::-1].copy())
        assert len(set(node[i, :n].tolist())) == n
        assert (value[i, :n] > 0).all()
    tolerance = 1e-5 * float(h.abs().max() + scale)
    torch.testing.assert_close(selected, expected, rtol=1e-5, atol=tolerance)


def test_ties_and_identical_nodes_are_cut_at_k() -> None:
    """All nodes alike: bfloat16 cannot rank them, and still exactly k are kept."""
    sae = SparseAutoencoder(16, 640, 4)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.ones(640, 1) * torch.randn(16))
        sae.encoder_bias.fill_(50.0)
    _, node, count = Selector()(sae, np.random.default_rng(0).normal(size=(9, 16)).astype("f4"))
    assert count.tolist() == [4] * 9
    assert all(len(set(row[:4])) == 4 for row in node.tolist())


def test_fewer_than_k_positive() -> None:
    sae = SparseAutoencoder(8, 32, 5)
    with torch.no_grad():
        sae.encoder_bias.copy_(torch.tensor([2.0, 1.0] + [-1.0] * 30))
    value, node, count = Selector()(sae, np.random.default_rng(0).normal(size=(3, 8)).astype("f4"))
    assert count.tolist() == [2, 2, 2]
    assert sorted(node[0, :2].tolist()) == [0, 1]
    assert sorted(value[0, :2].tolist()) == [1.0, 2.0]


def test_a_constant_position_is_no_trouble() -> None:
    sae, x = made(64, 256, 3)
    x[5] = 1
    x[6] = sae.channel_max.numpy()
    result = SparseStep()(sae, x)
    result.derive()
    assert np.isfinite(result.squared_error)
    assert torch.isfinite(result.residual(0, 10)).all()
    assert all(torch.isfinite(p.grad).all() for p in sae.parameters())  # type: ignore[union-attr, arg-type]


def test_a_trained_batchwise_sae_keeps_what_is_above_its_threshold() -> None:
    sae, x = made(64, 256, 3, "batch_topk")
    sae.threshold.fill_(3.0)
    value, node, count = Selector()(sae, x)
    with torch.no_grad():
        expected = sae.encode(torch.from_numpy(x))
    for i in range(len(x)):
        kept = expected.value[i] > 0
        assert set(node[i, : count[i]].tolist()) == set(expected.node[i][kept].tolist())
        torch.testing.assert_close(
            float(value[i, : count[i]].sum()), float(expected.value[i].sum()), rtol=1e-4, atol=1e-4
        )
    assert 0 < count.mean() < sae.max_active


def test_the_model_reconstructs_as_published(device: str) -> None:
    sae, x = made(64, 256, 3)
    batch = torch.from_numpy(x[:10])
    scaled = batch / sae.channel_max
    y = (scaled - scaled.mean(1, keepdim=True)) / (scaled.std(1, keepdim=True) + 1e-5)
    h = torch.relu((y - sae.pre_bias) @ sae.encoder_weight.T + sae.encoder_bias)
    z = torch.where(h >= h.topk(3).values[:, -1:], h, 0)
    y_hat = z @ sae.decoder_weight + sae.pre_bias
    expected = (
        y_hat * scaled.std(1, keepdim=True) + scaled.mean(1, keepdim=True)
    ) * sae.channel_max
    reconstruction = sae.to(device)(batch.to(device)).cpu()
    torch.testing.assert_close(reconstruction, expected, rtol=1e-4, atol=1e-4)
