"""Nearest nodes: the same as all pairs compared one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from saeborzoi.browser.neighbours import (
    N_NEAREST,
    by_coactivation,
    by_decoder,
    by_jaccard,
    by_motif,
    read_decoder,
)
from saeborzoi.errors import InputError
from tests.browser.made_names import motif_matrix


def test_decoder_neighbours_are_those_of_brute_force():
    decoder = np.random.default_rng(1).normal(size=(700, 24)).astype(np.float32)
    neighbours = by_decoder(decoder)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    for node in (0, 17, 511, 512, 699):
        expected = np.argsort(-cosine[node])[:N_NEAREST]
        assert neighbours.node[node] == expected.tolist()
        np.testing.assert_allclose(neighbours.similarity[node], cosine[node, expected], rtol=1e-5)


def test_a_node_without_direction_is_near_to_none():
    decoder = np.eye(3, dtype=np.float32)
    decoder[2] = 0
    assert by_decoder(decoder).similarity[2] == [0, 0]


def test_motifs_are_compared_on_both_strands_and_at_every_shift():
    core = motif_matrix("TGACCTTAG")
    flank = np.full((4, 4), 0.25)
    turned = np.concatenate([flank, core[::-1, ::-1], flank[:2]])
    other = motif_matrix("GGGGCGGGG")
    neighbours = by_motif({4: core, 9: turned, 11: other})
    assert neighbours.node[4][0] == 9
    assert neighbours.similarity[4][0] == pytest.approx(1, abs=1e-5)
    assert neighbours.similarity[4][1] < 0.6


def test_motif_similarity_is_symmetric():
    rng = np.random.default_rng(2)
    matrices = {n: rng.dirichlet([0.3] * 4, size=rng.integers(6, 20)) for n in range(6)}
    neighbours = by_motif(matrices)
    table = {
        (a, b): value
        for a in matrices
        for b, value in zip(neighbours.node[a], neighbours.similarity[a], strict=True)
    }
    for (a, b), value in table.items():
        assert value == pytest.approx(table[b, a], abs=1e-5)


def test_jaccard_neighbours_are_sorted_and_symmetric():
    pairs = pd.DataFrame(
        {"node_a": [0, 0, 1], "node_b": [1, 2, 2], "jaccard": [0.1, 0.4, 0.2], "n_overlapping": 1}
    )
    neighbours = by_jaccard(pairs)
    assert neighbours.node == {0: [2, 1], 1: [2, 0], 2: [0, 1]}
    assert neighbours.similarity[2] == [0.4, 0.2]
    assert by_jaccard(pairs.iloc[:0]).node == {}


def test_nodes_that_fire_together_are_near_by_the_share_of_positions(tmp_path):
    together = sparse.csr_array(([4, 1], ([0, 1], [1, 3])), shape=(4, 4), dtype=np.uint32)
    sparse.save_npz(tmp_path / "coactivation.npz", together)
    node = pd.DataFrame({"node": [0, 1, 2, 3], "n_nonzero": [8, 4, 0, 2]})
    neighbours = by_coactivation(tmp_path / "coactivation.npz", node)
    assert neighbours.node == {0: [1], 1: [0, 3], 3: [1]}
    assert neighbours.similarity[1] == [4 / 8, 1 / 5]


def test_a_decoder_of_another_sae_is_refused(tmp_path):
    save_file({"W_dec": np.zeros((5, 3), np.float32)}, tmp_path / "sae.safetensors")
    with pytest.raises(InputError, match=r"5, 3.*8 nodes.*again"):
        read_decoder(tmp_path, 8)


def test_a_file_without_a_decoder_is_refused(tmp_path):
    save_file({"weights": np.zeros((5, 3), np.float32)}, tmp_path / "sae.safetensors")
    with pytest.raises(InputError, match=r"no tensor 'W_dec' among .'weights'"):
        read_decoder(tmp_path, 5)
