"""An SAE spliced into Borzoi's architecture, with random weights on a short window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saeborzoi.effects.fidelity import fidelity
from saeborzoi.effects.inputs import Batch
from saeborzoi.effects.levels import with_tracks
from saeborzoi.effects.loci import find_loci
from saeborzoi.effects.node_effects import node_effects
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.splice import Splice, bypass
from saeborzoi.sae.model import SparseAutoencoder
from tests.effects.nets import random_sequences
from tests.effects.test_node_effects import Sequences
from tests.models.test_borzoi import INPUT_BP, borzoi_folder  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("layer", "head"), [("conv1d_1", "human"), ("conv1d_4", "mouse")])
def test_chosen_tracks_of_both_heads(
    borzoi_folder: Path,  # noqa: F811
    layer: str,
    head: str,
) -> None:
    model = load_model(
        f"borzoi-pytorch:{borzoi_folder}",
        arguments={"input_bp": INPUT_BP, "tracks": [7, 100, 2000], "head": head},
        device="cpu",
    )
    geometry = layer_geometry(model, layer)
    splice = Splice(model, geometry)
    one, other = random_sequences(2, INPUT_BP).split(1)
    with torch.no_grad():
        assert torch.equal(splice.predict(one, torch.clone), model.predict(one))
    # the skips of its U-Net begin behind these layers
    assert (bypass(splice, one, other) == 0).all()
    sae = SparseAutoencoder(geometry.n_channels, 2 * geometry.n_channels, 8)
    torch.nn.init.normal_(sae.encoder_weight)
    sae.decoder_weight.data.copy_(sae.encoder_weight / geometry.n_channels**0.5)
    result = fidelity(model, geometry, sae, [Batch(one), Batch(other)])
    assert (result.loss, result.log_scale) == ("Poisson", "log2(1 + y)")
    rows = result.per_track.set_index("splice")
    assert rows.loc["sae", "track"].tolist() == list(model.outputs.tracks)  # type: ignore[union-attr]
    np.testing.assert_allclose(rows.loc["sae_with_error", "r_published"], 1, atol=1e-3)
    np.testing.assert_allclose(rows.loc["sae_with_error", "recovered_mean"], 1, atol=1e-3)
    assert (rows.loc["sae", "r_log"] < 0.99).all()
    # a node alone, on the tracks of a pattern
    assert model.outputs is not None
    some = with_tracks(model, [model.outputs.tracks[1], f"*{model.outputs.tracks[2][-3:]}"])
    sequences = Sequences(torch.cat([one, other]))
    loci = find_loci(some, geometry, sae, sequences, range(sae.n_nodes), 1)  # type: ignore[arg-type]
    assert loci
    effects = node_effects(some, geometry, sae, sequences, loci[:1], n_controls=1)  # type: ignore[arg-type]
    assert effects["track"].unique().tolist() == list(model.outputs.tracks[1:])
    figures = effects[["level", "ablated", "doubled", "control", "shuffled", "z"]]
    assert np.isfinite(figures.to_numpy(float)).all()
    assert (effects["ablated"] != 0).all()
