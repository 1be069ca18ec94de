"""Known answers for variants on the real network behind the hg38 case; its README lists them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from saeborzoi.demo.network import one_thread
from saeborzoi.effects.attribution import Change, NodeShares, Parts, changed, integrate, shares
from saeborzoi.effects.track_scores import score_of
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from tests.effects import real_variants
from tests.effects.test_real_case import TRACKS, trained_on

pytestmark = pytest.mark.slow

N = {"JUND": 150, "FOXA1": 150, "MAX": 100}
MOVES_MOST = {"JUND": 142, "FOXA1": 148, "MAX": 98}
"""SNPs that move their factor's output most, at least: the README's."""
R_NODES = 0.93


class Measured(NamedTuple):
    """Of the SNPs of one word."""

    splice: Splice
    sequences: torch.Tensor
    layer: torch.Tensor
    change: Change
    delta: np.ndarray
    parts: Parts
    nodes: NodeShares


@pytest.fixture(scope="module")
def sae(hg38_case: Path) -> SparseAutoencoder:
    return trained_on(hg38_case)


@pytest.fixture(scope="module")
def measured(hg38_case: Path, sae: SparseAutoencoder) -> dict[str, Measured]:
    model = load_model(
        "tests.effects.test_real_case:named_outputs", arguments={"case": hg38_case}, device="cpu"
    )
    splice, score = Splice(model, layer_geometry(model, "stem")), score_of(model, 200)
    letters = real_variants.sequences(hg38_case)
    by_track = {}
    with one_thread():
        for track, n in N.items():
            ref, alt = real_variants.broken(letters, track, n)
            with torch.no_grad():
                layer, y = splice.layer(ref)
                other, y_other = splice.layer(alt)
            delta = (score(y_other) - score(y)).numpy()
            change = changed(layer, other)
            done = integrate(
                splice, score, ref, layer, change, np.full(n, TRACKS.index(track)),
                tolerance=0.02, max_points=64, batch_size=256,
            )  # fmt: skip
            parts, nodes = shares(sae, change, done.gradient)
            by_track[track] = Measured(splice, ref, layer, change, delta, parts, nodes)
    return by_track


@pytest.mark.parametrize("track", N)
def test_nodes_carry_what_a_broken_word_does(measured: dict[str, Measured], track: str) -> None:
    m = measured[track]
    number = TRACKS.index(track)
    assert (np.abs(m.delta).argmax(1) == number).sum() >= MOVES_MOST[track]
    delta = m.delta[:, number]
    assert np.corrcoef(m.parts.nodes, delta)[0, 1] >= R_NODES
    assert np.corrcoef(m.parts.total, delta)[0, 1] >= 0.999
    # few nodes stand on top, and they are others for each word
    large = np.flatnonzero(np.abs(delta) > 1)
    assert len(large) >= 40
    assert len(set(tops(m, large))) <= 4
    for name in set(N) - {track}:
        others = np.flatnonzero(np.abs(measured[name].delta[:, TRACKS.index(name)]) > 1)
        assert not set(tops(m, large)) & set(tops(measured[name], others))


def tops(m: Measured, pairs: np.ndarray) -> list[int]:
    """The strongest node of each pair."""
    nodes = []
    for pair in pairs:
        own = np.flatnonzero(m.nodes.pair == pair)
        nodes.append(int(m.nodes.node[own[np.abs(m.nodes.attribution[own]).argmax()]]))
    return nodes


def test_top_nodes_see_the_word(
    measured: dict[str, Measured], sae: SparseAutoencoder, hg38_case: Path
) -> None:
    """The strongest positions of the node that most E-box SNPs act through hold CACGTG."""
    m = measured["MAX"]
    large = np.flatnonzero(np.abs(m.delta[:, TRACKS.index("MAX")]) > 1)
    values, counts = np.unique(tops(m, large), return_counts=True)
    node = int(values[counts.argmax()])
    letters = real_variants.sequences(hg38_case)[::10]
    with torch.no_grad(), one_thread():
        strongest = torch.cat(
            [
                real_variants.carrying(m.splice.layer(part)[0], sae, node).amax(1)
                for part in torch.split(real_variants.one_hot(letters), 512)
            ]
        )
    chosen = strongest.argsort(descending=True)[:30].numpy()
    holds = np.array([b"CACGTG" in row.tobytes() for row in letters])
    assert holds[chosen].mean() >= 0.6
    assert holds.mean() <= 0.1


def test_restoring_a_node_gives_back_what_was_attributed(
    measured: dict[str, Measured], sae: SparseAutoencoder
) -> None:
    """One node's part of the layer put back to what it is for the reference, by a forward pass."""
    attributed, restored = [], []
    for track, m in measured.items():
        chosen = real_variants.strongest_entries(m.nodes, 2)[:70]
        on = np.full(len(m.delta), TRACKS.index(track))
        with one_thread():
            restored += real_variants.restored(
                m.splice, score_of(m.splice.model, 200), sae, m.sequences, m.layer, m.change,
                m.nodes, chosen, on,
            ).tolist()  # fmt: skip
        attributed += m.nodes.attribution[chosen].tolist()
    assert len(restored) == 210
    assert np.corrcoef(attributed, restored)[0, 1] >= 0.95
