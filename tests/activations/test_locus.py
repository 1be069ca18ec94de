"""Activations over a region that no shards hold are what the model says on the genome there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.demo.network import one_thread
from saeborzoi.errors import InputError
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.models.layer import one_hot, run_to
from saeborzoi.project.sae import Sae
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.load import load_settings
from tests.models.nets import model_of

_SETTINGS = """
[project]
name = "live"
[data]
genome = "genome.fa"
[model]
loader = "tests.models.nets:padded"
device = "cpu"
[[layer]]
name = "conv"
n_channels = 12
bp_per_position = 2
seqlet_width_bp = 16
train = { windows = "windows.bed" }
[[sae]]
layer = "conv"
topk = 0.25
"""
AROUND = 200


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    """An SAE of a layer that only a model gives, on 6,000 bp of which two windows hold some."""
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 6_000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "windows.bed").write_text("chr1\t0\t1000\nchr1\t3001\t4001\n")
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    settings = load_settings(tmp_path)
    sae = Sae(settings, Catalog(Store(settings.project.store).catalog), settings.wanted()[0].key)
    network = SparseAutoencoder(12, 48, 3)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    sae.model = network.requires_grad_(False)
    folder = tmp_path / "store" / "saes" / sae.key / "trained_sae"
    with write_artifact(folder, "v", {}) as temporary:
        save_checkpoint(network, temporary)
    made = Made("trained_sae", "run", "1", "v", folder)
    sae.catalog.replace(made, Scope(sae_key=sae.key), {})
    return sae


@pytest.mark.parametrize(
    ("region", "start", "n"),
    [
        ("chr1:2,001-2,100", 2000, 50),  # in no window; positions go on from those of the first
        ("chr1:3,102-3,121", 3101, 10),  # in the second, whose positions begin at an odd place
        ("chr1:3,103", 3101, 1),
    ],
)
def test_the_model_computes_what_no_window_holds(
    sae: Sae, tmp_path: Path, region: str, start: int, n: int
) -> None:
    text = (tmp_path / "genome.fa").read_text().split("\n")[1]
    letters = text[start - AROUND : start + 2 * n + AROUND]
    module = model_of("padded").module
    with torch.no_grad(), one_thread():
        x = one_hot(np.frombuffer(letters.encode(), np.uint8))
        conv = module.get_submodule("conv")
        layer = run_to(module, conv, x[None])[0].T[AROUND // 2 : AROUND // 2 + n]
        value, node = sae.encode(layer)
        activations = sae.activations(region)
    expected = torch.zeros(n, 48).scatter(1, node, value).numpy()
    assert activations.start_bp.tolist() == list(range(start, start + 2 * n, 2))
    # activations are kept as float16 on the way
    np.testing.assert_allclose(activations.matrix.toarray(), expected, atol=0.02)
    assert (expected > 0.1).any()
    assert "tests.models.nets:padded" in repr(activations)


def test_a_region_beyond_the_chromosome_is_refused(sae: Sae) -> None:
    with pytest.raises(InputError, match="chr1 has 6,000 bp"):
        sae.activations("chr1:5,991-6,010")
