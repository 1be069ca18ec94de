"""sparsify and SAELens read our SAEs and compute the same; we read theirs.

`data/sparsify` and `data/saelens` are small SAEs as sparsify 1.3.3 and SAELens 6.54.12 saved
them, with what they made of an input.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import load_checkpoint, save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder

DATA = Path(__file__).parent / "data"
WEIGHTS = {"sparsify": "sae.safetensors", "saelens": "sae_weights.safetensors"}


def made(variant: str = "topk", n_channels: int = 6) -> SparseAutoencoder:
    sae = SparseAutoencoder(n_channels, 2 * n_channels, 3, variant)  # type: ignore[arg-type]
    with torch.no_grad():
        for i, parameter in enumerate(sae.parameters()):
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            )
    sae.channel_max.copy_(torch.arange(1.0, n_channels + 1))
    return sae


def positions(sae: SparseAutoencoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(50, sae.n_channels, generator=generator) * sae.channel_max


def dense(sae: SparseAutoencoder, x: torch.Tensor) -> torch.Tensor:
    active = sae.encode(x)
    return torch.zeros(len(x), sae.n_nodes).scatter(-1, active.node, active.value)


@pytest.mark.parametrize("maker", WEIGHTS)
def test_our_folder_holds_what_theirs_does(maker: str, tmp_path: Path) -> None:
    """The same tensors, the same fields of the same type; theirs are the recorded ones."""
    save_checkpoint(made(), tmp_path)
    ours, theirs = (
        safetensors.torch.load_file(folder / WEIGHTS[maker]) for folder in (tmp_path, DATA / maker)
    )
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {
        n: (t.shape, t.dtype) for n, t in theirs.items()
    }
    ours, theirs = (
        json.loads((folder / "cfg.json").read_text()) for folder in (tmp_path, DATA / maker)
    )
    assert {name: type(ours[name]) for name in theirs} == {
        name: type(value) for name, value in theirs.items()
    }
    for field in ("d_in", "d_sae", "k", "activation", "architecture", "normalize_activations"):
        if field in theirs:
            assert ours[field] == theirs[field], field


@pytest.mark.parametrize("maker", WEIGHTS)
def test_their_sae_computes_here_what_it_computed_there(maker: str) -> None:
    sae = load_checkpoint(DATA / maker, 6)
    answer = safetensors.torch.load_file(DATA / maker / "answer.safetensors")
    assert (sae.n_nodes, sae.k, sae.variant) == (12, 3, "topk")
    with torch.no_grad():
        torch.testing.assert_close(dense(sae, answer["x"]), answer["z"])
        if maker == "saelens":
            torch.testing.assert_close(sae(answer["x"]), answer["x_hat"])
        else:
            y = sae.normalize(answer["x"])
            ones = y._replace(mean=torch.zeros(5, 1), std=torch.ones(5, 1))
            torch.testing.assert_close(sae.decode(sae.encode(answer["x"]), ones), answer["y_hat"])


@pytest.mark.parametrize(
    ("maker", "field", "value", "words"),
    [
        ("sparsify", "activation", "groupmax", "activation 'groupmax', needed is 'topk'"),
        ("sparsify", "transcode", True, "transcode True, needed is False"),
        ("sparsify", "skip_connection", True, "skip_connection True, needed is False"),
        ("saelens", "architecture", "jumprelu", "architecture 'jumprelu', needed is 'topk'"),
        ("saelens", "normalize_activations", "none", "'none', needed is 'layer_norm'"),
        ("saelens", "apply_b_dec_to_input", False, "apply_b_dec_to_input False"),
        ("saelens", "rescale_acts_by_decoder_norm", True, "rescale_acts_by_decoder_norm True"),
    ],
)
def test_an_sae_that_computes_something_else_is_refused(
    maker: str, field: str, value: object, words: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(DATA / maker, tmp_path / maker)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(InputError, match=rf"cfg\.json: an SAE of (sparsify|SAELens) .*{words}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("variant", ["topk", "matryoshka"])
@pytest.mark.filterwarnings("ignore")
def test_sparsify_loads_ours(variant: str, tmp_path: Path) -> None:
    sparsify = pytest.importorskip("sparsify", reason="pip install eai-sparsify, to load with it")
    sae = made(variant)
    save_checkpoint(sae, tmp_path)
    theirs = sparsify.SparseCoder.load_from_disk(tmp_path)
    x = positions(sae)
    with torch.no_grad():
        encoded = theirs.encode(sae.normalize(x).y)
        z = torch.zeros(len(x), sae.n_nodes).scatter(-1, encoded.top_indices, encoded.top_acts)
        torch.testing.assert_close(z, dense(sae, x))
        y_hat = theirs.decode(encoded.top_acts, encoded.top_indices)
        torch.testing.assert_close(y_hat, z @ sae.decoder_weight + sae.pre_bias)


@pytest.mark.filterwarnings("ignore")
def test_sparsify_refuses_a_threshold(tmp_path: Path) -> None:
    """It would take the k largest of each position instead."""
    sparsify = pytest.importorskip("sparsify", reason="pip install eai-sparsify, to load with it")
    save_checkpoint(made("batch_topk"), tmp_path)
    with pytest.raises(TypeError, match="batch_topk"):
        sparsify.SparseCoder.load_from_disk(tmp_path)


@pytest.mark.parametrize("variant", ["topk", "batch_topk", "matryoshka"])
@pytest.mark.filterwarnings("ignore")
def test_saelens_loads_ours(variant: str, tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="pip install sae-lens, to load with it")
    sae = made(variant)
    sae.threshold.fill_(1.5 if variant == "batch_topk" else 0)
    save_checkpoint(sae, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    x = positions(sae)
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x / sae.channel_max), dense(sae, x))
        torch.testing.assert_close(theirs(x / sae.channel_max) * sae.channel_max, sae(x))
