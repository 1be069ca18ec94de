"""Half precision ranks, float32 decides: the nodes of the definition, whatever the parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeborzoi.sae.gpu.plain import largest
from saeborzoi.sae.gpu.selector import DeviceSelector
from saeborzoi.sae.model import SparseAutoencoder
from tests.sae.test_steps import made


@settings(max_examples=40)
@given(
    n_nodes=st.integers(1, 200), n_channels=st.integers(2, 40), k=st.integers(1, 20),
    seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1.0, 30.0]),
    bias=st.sampled_from([0.0, 1.0, -3.0]), variant=st.sampled_from(["topk", "batch_topk"]),
)  # fmt: skip
def test_it_selects_what_float32_selects(
    n_nodes: int, n_channels: int, k: int, seed: int, scale: float, bias: float, variant: str
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(n_channels, n_nodes, min(k, n_nodes), variant)  # type: ignore[arg-type]
    with torch.no_grad():
        sae.encoder_weight.copy_(scale * torch.randn(n_nodes, n_channels, generator=generator))
        sae.encoder_bias.copy_(bias * scale * torch.randn(n_nodes, generator=generator))
        sae.threshold.fill_(scale if variant == "batch_topk" else 0)
    sae = sae.to(device).requires_grad_(False)
    x = torch.randn(20, n_channels, generator=generator).to(device)
    active, expected = DeviceSelector(sae, ranks=True)(x), sae.encode(x)
    atol = 1e-4 * scale * n_channels**0.5
    torch.testing.assert_close(active.value, expected.value, rtol=1e-4, atol=2 * atol)
    h = sae.pre_activations(sae.normalize(x).y)
    fires = active.value > 0
    torch.testing.assert_close(
        h.gather(1, active.node)[fires], active.value[fires], rtol=1e-4, atol=atol
    )
    for nodes, held in zip(active.node, fires, strict=True):
        assert len(set(nodes[held].tolist())) == int(held.sum())


@pytest.mark.parametrize("variant", ["topk", "batch_topk"])
def test_nodes_that_half_precision_cannot_tell_apart(variant: str, device: str) -> None:
    """All alike but for what only float32 sees."""
    sae = SparseAutoencoder(16, 640, 4, variant)  # type: ignore[arg-type]
    direction = torch.randn(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        sae.encoder_weight.copy_(direction.expand(640, 16))
        sae.encoder_bias.copy_(50 + torch.linspace(0, 1e-3, 640))
    sae = sae.to(device).requires_grad_(False)
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(0)).to(device)
    active = DeviceSelector(sae, ranks=True)(x)
    h = sae.pre_activations(sae.normalize(x).y)
    assert torch.equal(active.value, h.topk(sae.max_active).values)


def test_the_kernel_scores_what_pytorch_scores(kernel_device: str) -> None:
    from saeborzoi.sae.gpu.fused import score

    sae, x = made(21, 80, 5)
    sae = sae.to(kernel_device).requires_grad_(False)
    y = sae.normalize(torch.from_numpy(x[:6]).to(kernel_device)).y - sae.pre_bias
    h = torch.nn.functional.linear(y, sae.encoder_weight, sae.encoder_bias)
    kept = torch.zeros(6, 13, dtype=torch.int32, device=kernel_device)
    largest(h.half(), 13, kept)
    kept[2, 4:] = 0  # absent
    expected = h.gather(1, (kept & 0xFFFF).long()).where(kept > 0, 0)
    scores = score(y, sae.encoder_weight, sae.encoder_bias, kept)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
