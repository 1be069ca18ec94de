"""A layer's output in parts: they sum to it, and a change of nodes leaves the rest alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from saeborzoi.sae.model import Active, SparseAutoencoder
from saeborzoi.sae.split import reconstruction, split, with_nodes_changed, without_channel_max
from saeborzoi.settings.hyperparameters import Variant


def sae_of(variant: Variant = "topk", n_channels: int = 12) -> SparseAutoencoder:
    """Random weights, maxima that differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(3)
    sae = SparseAutoencoder(n_channels, 40, 5, variant)
    for parameter in sae.parameters():
        parameter.data.normal_(generator=generator)
    sae.channel_max.copy_(torch.logspace(-2, 2, n_channels))
    sae.threshold.fill_(0.5)
    return sae.requires_grad_(False)


def activations(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4)) * torch.logspace(
        -2, 2, shape[-1]
    )


@pytest.mark.parametrize("variant", ["topk", "batch_topk", "matryoshka"])
def test_the_parts_sum_to_the_layer(variant: Variant, device: str) -> None:
    sae, x = sae_of(variant).to(device), activations(2, 50, 12).to(device)
    parts = split(sae, x)
    scale = sum(part.abs() for part in parts)
    total = parts.nodes + parts.background + parts.error
    assert float(((total - x).abs() / scale).max()) < 1e-6
    assert float((total - x).norm() / x.norm()) < 1e-5
    torch.testing.assert_close(reconstruction(sae, x), sae(x), rtol=1e-4, atol=1e-4)


def test_each_part_is_what_its_name_says() -> None:
    sae, x = sae_of(), activations(7, 12)
    parts, normalized, active = split(sae, x), sae.normalize(x), sae.encode(x)
    z = torch.zeros(7, 40).scatter_(1, active.node, active.value)
    nodes = (z @ sae.decoder_weight) * normalized.std * sae.channel_max
    torch.testing.assert_close(parts.nodes, nodes, rtol=1e-4, atol=1e-4)
    nothing = Active(torch.zeros_like(active.value), active.node)
    background = sae.decode(nothing, normalized) * sae.channel_max
    torch.testing.assert_close(parts.background, background, rtol=1e-4, atol=1e-4)


def test_more_positions_than_fit_at_once_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from saeborzoi.sae import split as module

    sae, x = sae_of(), activations(3, 20, 12)
    whole = split(sae, x)
    monkeypatch.setattr(module, "_BLOCK", 7)
    for one, other in zip(split(sae, x), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_no_change_is_the_layer_bit_for_bit() -> None:
    sae, x = sae_of(), activations(2, 50, 12)
    assert torch.equal(with_nodes_changed(sae, x, lambda active: active.value), x)


def test_an_ablated_node_takes_its_own_direction_with_it() -> None:
    sae, x = sae_of(), activations(30, 12)
    active, std = sae.encode(x), sae.normalize(x).std
    node = int(active.node[0, 0])
    is_it = active.node == node
    changed = with_nodes_changed(
        sae, x, lambda a: torch.where(a.node == node, torch.zeros_like(a.value), a.value)
    )
    z = (active.value * is_it).sum(1, keepdim=True)
    expected = x - z * std * sae.decoder_weight[node] * sae.channel_max
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(changed[~is_it.any(1)], x[~is_it.any(1)])


def test_the_slip_is_the_sae_with_maxima_of_one() -> None:
    sae, x = sae_of(), activations(30, 12)
    published: Any = sae_of()
    published.channel_max.fill_(1)
    torch.testing.assert_close(without_channel_max(sae, x), published(x), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(without_channel_max(sae, x), sae(x), rtol=0.1)


def test_gradients_flow_through_the_split() -> None:
    sae, x = sae_of(), activations(4, 12).requires_grad_()
    sum(part.sum() for part in split(sae, x)).backward()  # type: ignore[union-attr]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones_like(x), rtol=1e-2, atol=1e-2)
