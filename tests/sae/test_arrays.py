"""An SAE takes activations of any leading shape and type, as arrays or tensors; load_sae."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saeborzoi
from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import export_published, save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder


@pytest.fixture
def sae() -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(8, 24, 3)
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    sae.channel_max.copy_(torch.rand(8, generator=generator) + 0.5)
    return sae.requires_grad_(False)


LEADING = [(), (5,), (2, 3), (2, 1, 3)]


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_any_leading_shape_and_type_gives_what_each_position_gives(
    sae: SparseAutoencoder, leading: tuple[int, ...], dtype: str
) -> None:
    x = np.random.default_rng(0).normal(size=(*leading, 8)).astype(dtype)
    value, node = sae.encode(x)
    assert value.shape == node.shape == (*leading, 3)
    assert isinstance(value, np.ndarray)
    flat = torch.from_numpy(x.astype(np.float32).reshape(-1, 8))
    expected = torch.stack([sae(row) for row in flat]).numpy().reshape(*leading, 8)
    np.testing.assert_allclose(sae(x), expected, rtol=1e-5, atol=1e-6)
    decoded = sae.decode(sae.encode(x), sae.normalize(x)) * sae.channel_max.numpy()
    np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-6)
    tensors = sae.encode(torch.from_numpy(x.astype(x.dtype.newbyteorder("="))))
    assert isinstance(tensors.value, torch.Tensor)
    assert np.array_equal(tensors.node.numpy(), node)


def test_bfloat16_bits_are_read_as_in_shards(sae: SparseAutoencoder) -> None:
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    bits = x.view(torch.uint16).numpy()
    np.testing.assert_allclose(sae(bits), sae(x).numpy(), rtol=1e-6)


def test_many_positions_are_worked_on_in_blocks(
    sae: SparseAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    whole = sae.encode(x)
    monkeypatch.setattr("saeborzoi.sae.arrays.POSITIONS_AT_ONCE", 3)
    assert np.array_equal(sae.encode(x).node, whole.node)
    np.testing.assert_allclose(sae.encode(x).value, whole.value, rtol=1e-6)
    assert sae.encode(x[:0]).node.shape == (0, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 7), np.float32), "the last axis must be the 8 channels"),
        (torch.zeros(8, 4), "the last axis must be the 8 channels"),
        (np.zeros((4, 8), np.int64), "needed are floating-point numbers"),
        (torch.zeros(4, 8, dtype=torch.int32), "needed are floating-point numbers"),
        (np.full((4, 8), np.nan, np.float16), "NaN or infinity"),
    ],
)
def test_what_is_no_activation_is_refused(sae: SparseAutoencoder, x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sae.encode(x)


def test_gradients_flow_through_tensors(sae: SparseAutoencoder) -> None:
    x = torch.randn(2, 3, 8, requires_grad=True)
    sae(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_load_sae_takes_folders_files_and_the_published_checkpoint(
    sae: SparseAutoencoder, tmp_path: Path
) -> None:
    save_checkpoint(sae, str(tmp_path))
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    for path in (tmp_path, tmp_path / "cfg.json", str(tmp_path / "sae.safetensors")):
        loaded = saeborzoi.load_sae(path)
        np.testing.assert_allclose(loaded(x), sae(x), rtol=1e-6)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
    export_published(sae, tmp_path / "best_model.pt")
    maxima = tmp_path / "conv_max.json"
    maxima.write_text(json.dumps(dict(enumerate(sae.channel_max.tolist()))))
    published = saeborzoi.load_sae(tmp_path / "best_model.pt", k=3, channel_max=maxima)
    np.testing.assert_allclose(published(x), sae(x), rtol=1e-6)
    with pytest.raises(InputError, match="give both"):
        saeborzoi.load_sae(tmp_path / "best_model.pt", k=3)
    with pytest.raises(InputError, match="leave them out"):
        saeborzoi.load_sae(tmp_path, k=3)
    with pytest.raises(InputError, match="cannot be read"):
        saeborzoi.load_sae(tmp_path / "nowhere")
