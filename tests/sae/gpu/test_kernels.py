"""Each kernel computes what its part in plain PyTorch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeborzoi.sae.gpu.buffers import HALF
from saeborzoi.sae.gpu.plain import PlainLayer, largest, unpack
from saeborzoi.sae.gpu.trainer import DeviceTrainer
from tests.sae.gpu.made_step import gradients, trainer_of
from tests.sae.test_steps import relative

if TYPE_CHECKING:
    from saeborzoi.sae.gpu.fused import FusedLayer

pytestmark = [
    pytest.mark.usefixtures("kernel_device"),
    # the interpreter computes with numpy, which warns of infinities
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
CASES = [
    (24, 96, 7, "topk", "default"),
    (21, 71, 5, "topk", "published"),
    (24, 64, 3, "batch_topk", "default"),
    (17, 64, 6, "matryoshka", "default"),
]


def fused(trainer: DeviceTrainer) -> FusedLayer:
    """The layer of kernels on a trainer's buffers."""
    from saeborzoi.sae.gpu.fused import FusedLayer

    layer = trainer.layer
    return FusedLayer(layer.weights, layer.batch, layer.progress, layer.constants)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_of_kernels_are_those_of_plain_pytorch(
    case: tuple[int, int, int, str, str], kernel_device: str
) -> None:
    """Two steps with dead nodes, which some positions would rather use; the second one empties what
    the first one filled."""
    n_channels, n_nodes, k, variant, recipe = case
    trainers = []
    for layer in (PlainLayer, fused):
        trainer, _ = trainer_of(n_channels, n_nodes, k, variant, kernel_device, 5, recipe)
        with torch.no_grad():
            trainer.sae.encoder_bias[:20] = -0.5
        trainer.since_fired[:20] = 100
        trainer.weights.refresh()
        parts = trainer.layer.constants._replace(dead_after=50)
        trainer.layer.constants = parts
        if layer is fused:
            trainer.layer = fused(trainer)
        trainers.append(trainer)
    plain, kernels = trainers
    for _ in range(2):
        for trainer in trainers:
            trainer.run()
        for name in ("y", "s", "z", "slope", "residual"):
            one, two = (getattr(t.batch, name).float() for t in (kernels, plain))
            torch.testing.assert_close(one, two, rtol=2e-2, atol=2e-2, msg=name)
        torch.testing.assert_close(kernels.progress.rates, plain.progress.rates)
        torch.testing.assert_close(kernels.progress.total, plain.progress.total, rtol=1e-3, atol=0)
        for one, two in zip(gradients(kernels), gradients(plain), strict=True):
            assert relative(one, two) < 2e-2
    assert torch.equal(kernels.batch.z > 0, plain.batch.z > 0)
    assert torch.equal(kernels.since_fired, plain.since_fired)
    if recipe == "default":
        aux, expected = kernels.batch.aux_encoder, plain.batch.aux_encoder
        assert aux is not None
        assert expected is not None
        assert expected[:20].abs().sum() > 0
        assert relative(aux, expected) < 2e-2
        norm = torch.linalg.vector_norm(kernels.sae.decoder_weight.detach(), dim=1)
        torch.testing.assert_close(norm, torch.ones_like(norm))
    assert torch.equal(kernels.progress.done, plain.progress.done)
    torch.testing.assert_close(kernels.progress.sums, plain.progress.sums, rtol=1e-3, atol=0)
    for one, two in zip(kernels.sae.parameters(), plain.sae.parameters(), strict=True):
        # where a gradient is as good as 0, Adam's first steps go by its sign
        assert ((one - two).abs() > 1e-4).float().mean() < 0.01
    assert torch.equal(kernels.weights.encoder_half, kernels.weights.encoder.half())
    assert torch.equal(kernels.weights.decoder_half, kernels.weights.decoder.half())


@pytest.mark.slow
def test_kernels_refuse_a_loss_that_is_not_finite(kernel_device: str) -> None:
    trainer, raw = trainer_of(21, 87, 5, "topk", kernel_device, 3)
    trainer.layer = fused(trainer)
    trainer.run()
    before = [p.detach().clone() for p in trainer.sae.parameters()]
    trainer.batch.raw[2, 3] = float("inf")
    trainer.run()
    trainer.batch.raw.copy_(raw)
    trainer.run()
    assert int(trainer.progress.failed) == -2, "the second step, by its data"
    assert int(trainer.progress.done) == 1
    after = [p.detach() for p in trainer.sae.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@settings(max_examples=10)
@given(
    n_nodes=st.integers(8, 400), k=st.integers(1, 24), seed=st.integers(0, 2**16),
    kind=st.sampled_from(["normal", "ties", "few", "zeros", "infinite", "alike"]),
)  # fmt: skip
def test_selection_is_that_of_a_sort(n_nodes: int, k: int, seed: int, kind: str) -> None:
    """Whatever the values: the k largest above 0, each once; old entries are emptied."""
    from saeborzoi.sae.gpu.fused import select

    device = "cuda" if torch.cuda.is_available() else "cpu"
    h = values(2, n_nodes, seed, kind).to(device)
    k = min(k, n_nodes)
    kept, expected = (torch.zeros(2, k, dtype=torch.int32, device=device) for _ in range(2))
    kept[:] = torch.arange(k)  # a list of the last step
    z, slope = torch.ones(2, 2, n_nodes, device=device).to(HALF)
    select(h, kept, z, slope)
    largest(h, k, expected)
    require_same_selection(h.cpu(), kept.cpu(), expected.cpu())
    for emptied in (z, slope):
        assert (emptied[:, :k] == 0).all()
        assert (emptied[:, k:] == 1).all()


def values(n_rows: int, n_nodes: int, seed: int, kind: str) -> torch.Tensor:
    """(n_rows, n_nodes) half pre-activations that are hard to select from."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(n_rows, n_nodes, generator=generator)
    if kind == "ties":
        h = (h * 2).round()
    elif kind == "few":
        h = torch.where(torch.rand(h.shape, generator=generator) < 2 / n_nodes, h.abs(), -h.abs())
    elif kind == "zeros":
        h = h * 0  # of both signs
    elif kind == "infinite":
        h[::2, seed % n_nodes] = float("inf")
    elif kind == "alike":
        h = torch.ones_like(h)
    return h.to(HALF)


def require_same_selection(h: torch.Tensor, kept: torch.Tensor, expected: torch.Tensor) -> None:
    """The same values, each at a node of its own that has it."""
    (value, node), (wanted, _) = unpack(kept), unpack(expected)
    order = value.float().sort(1, descending=True).values
    assert torch.equal(order, wanted.float().sort(1, descending=True).values)
    for row in range(len(h)):
        nodes = node[row][value[row] > 0]
        assert len(set(nodes.tolist())) == len(nodes)
        assert torch.equal(h[row][nodes], value[row][value[row] > 0])
