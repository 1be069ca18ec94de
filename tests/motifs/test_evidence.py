"""Evidence for motifs against brute force and scipy."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from saeborzoi.motifs import controls, evidence
from saeborzoi.motifs.engine.builtin import find_motifs
from saeborzoi.motifs.evidence import NodeEvidence
from saeborzoi.motifs.evidence_kernels import best_log_odds, shuffle_dinucleotides
from saeborzoi.motifs.sequences import Sequences, encode, four_mers, reverse_complement
from tests.motifs.test_properties import matrix_of

UNIFORM = np.full(4, 0.25)


def text_of(letters: np.ndarray) -> str:
    return "".join("ACGT"[i] for i in letters)


@given(st.lists(st.text("ACGT", min_size=1, max_size=30), min_size=1, max_size=8), st.integers(0))
def test_shuffle_keeps_dinucleotides_and_ends(texts: list[str], seed: int) -> None:
    sequences = encode(texts)
    shuffled = shuffle_dinucleotides(sequences.letters, sequences.lengths, seed % 2**62)
    for text, row in zip(texts, shuffled, strict=True):
        new = text_of(row[: len(text)])
        assert Counter(itertools.pairwise(new)) == Counter(itertools.pairwise(text))
        assert (new[0], new[-1]) == (text[0], text[-1])


def test_shuffle_reaches_every_arrangement_alike() -> None:
    text = "ACAGATAC"
    n = 12000
    sequences = encode([text] * n)
    shuffled = shuffle_dinucleotides(sequences.letters, sequences.lengths, 5)
    counts = Counter(text_of(row) for row in shuffled)
    pairs = Counter(itertools.pairwise(text))
    possible = {
        arrangement
        for inner in set(itertools.permutations(text[1:-1]))
        if Counter(itertools.pairwise(arrangement := text[0] + "".join(inner) + text[-1])) == pairs
    }
    assert set(counts) == possible
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_shuffle_is_seeded() -> None:
    sequences = encode(["ACGGTCATTAGCATCGACTA"] * 5)
    a, b, c = (
        shuffle_dinucleotides(sequences.letters, sequences.lengths, seed) for seed in (1, 1, 2)
    )
    assert (a == b).all()
    assert (a != c).any()
    assert len({row.tobytes() for row in a}) > 1


def test_odds_ratio_agrees_with_scipy() -> None:
    ours = evidence.odds_ratio(40, 100, 60, 500)
    table = [[40, 60], [60, 440]]
    assert ours.value == pytest.approx((40.5 * 440.5) / (60.5 * 60.5))
    assert ours.p_value == pytest.approx(stats.fisher_exact(table, "greater").pvalue)
    exact = stats.contingency.odds_ratio(table).confidence_interval(0.95)
    assert ours.low == pytest.approx(exact.low, rel=0.1)
    assert ours.high == pytest.approx(exact.high, rel=0.1)
    assert np.isfinite(evidence.odds_ratio(0, 10, 0, 10).value)


def test_score_threshold_passes_the_asked_share() -> None:
    matrix = np.random.default_rng(1).dirichlet(np.ones(4) * 0.5, 8)
    background = np.array([0.3, 0.2, 0.1, 0.4])
    scores = evidence.log_odds(matrix, background)
    threshold = evidence.ScoreTail.of(scores, background).threshold(1e-2)
    draws = np.random.default_rng(2).choice(4, (200_000, 8), p=background)
    passed = (scores[np.arange(8), draws].sum(axis=1) >= threshold).mean()
    assert passed == pytest.approx(1e-2, rel=0.15)


def test_best_score_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    texts = ["".join(rng.choice(list("ACGT"), n)) for n in (20, 13, 9, 6)]
    log_odds = rng.normal(size=(7, 4))
    sequences = encode(texts)
    strands = [sequences, reverse_complement(sequences)]
    codes4 = np.stack([four_mers(s) for s in strands])
    best, start = best_log_odds(codes4, sequences.lengths, log_odds)
    assert (start % 20 < 14).all()
    for text, own in zip(texts, best, strict=True):
        flipped = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
        scores = [
            sum(log_odds[c, "ACGT".index(s[j + c])] for c in range(7))
            for s in (text, flipped)
            for j in range(len(text) - 6)
        ]
        assert own == pytest.approx(max(scores, default=-np.inf))


def test_a_rank_correlation_is_of_what_is_finite_and_not_constant() -> None:
    x, y = np.array([1.0, 2, 3, 4, np.inf]), np.array([1.0, 4, 9, 16, 0])
    assert evidence.spearman(x, y) == pytest.approx(1)
    assert evidence.spearman(x, -y) == pytest.approx(-1)
    assert np.isnan(evidence.spearman(np.ones(5), y))
    assert np.isnan(evidence.spearman(x[2:], y[2:]))


def seqlets_with(word: str | None, node: int, seed: int, n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    texts, activations = [], []
    for _ in range(n):
        text = "".join(rng.choice(list("ACGT"), 20))
        holds = word is not None and rng.random() < 0.6
        if holds:
            text = text[:6] + str(word) + text[6 + len(str(word)) :]
        texts.append(text)
        activations.append(rng.random() + holds)
    return pd.DataFrame(
        {"node": node, "rank": range(n), "activation": activations, "sequence": texts}
    )


def own_and_shuffled(sequences: Sequences) -> tuple[evidence.Scannable, evidence.Scannable]:
    shuffled = evidence.shuffled_copies(sequences)
    return evidence.scannable(sequences, False), evidence.scannable(shuffled, False)


def test_a_real_motif_is_enriched_and_drives_activation() -> None:
    seqlets = seqlets_with("TGATAAGA", 0, 1)
    own, shuffled = own_and_shuffled(encode(seqlets["sequence"].tolist()))
    figures = evidence.node_evidence(
        matrix_of("TGATAAGA"),
        120,
        own,
        shuffled,
        seqlets["activation"].to_numpy(),
        UNIFORM,
        np.ones(len(seqlets)),
    )
    assert figures.odds_ratio_low > 3
    assert figures.odds_ratio_low < figures.odds_ratio < figures.odds_ratio_high
    assert figures.enrichment_p_value < 1e-20
    assert figures.activation_spearman > 0.4
    absent = evidence.node_evidence(
        matrix_of("CCAATCAG"),
        10,
        own,
        shuffled,
        seqlets["activation"].to_numpy(),
        UNIFORM,
        np.ones(len(seqlets)),
    )
    assert absent.odds_ratio_low < 1.5
    assert absent.enrichment_p_value > 1e-3


def test_a_motif_of_chance_sites_is_not_enriched() -> None:
    """Sites picked because they are alike: without leaving each out they would look enriched."""
    rng = np.random.default_rng(5)
    with_all: list[NodeEvidence] = []
    left_out: list[NodeEvidence] = []
    for _ in range(6):
        texts = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(300)]
        sequences = encode(texts)
        (motif,) = find_motifs(
            sequences, UNIFORM, n_motifs=1, min_width=8, max_width=20, both_strands=False
        )
        matrix = motif.counts / motif.n_sites
        own, shuffled = own_and_shuffled(sequences)
        for result, n_sites in ((with_all, 0), (left_out, motif.n_sites)):
            result.append(
                evidence.node_evidence(
                    matrix, n_sites, own, shuffled, np.ones(300), UNIFORM, np.ones(300)
                )
            )
    for fair, flattered in zip(left_out, with_all, strict=True):
        assert fair.odds_ratio <= flattered.odds_ratio
    # a search that reaches the optimum enriches chance sites a little even so
    assert np.median([e.enrichment_p_value for e in left_out]) > 1e-3
    assert min(e.enrichment_p_value for e in left_out) > 1e-4


def test_across_nodes_needs_both_controls() -> None:
    seqlets = pd.concat(
        [seqlets_with("TGATAAGA", 0, 1), seqlets_with("CACGTGAC", 3, 2)]
        + [seqlets_with(None, node, 10 + node) for node in (4, 5)]
        + [seqlets_with("TTGCGCAA", node, 20 + node) for node in range(6, 16)]
    )
    motifs = pd.DataFrame(
        {
            "node": [0, 3, 4, 6],
            "motif": [1, 1, 2, 1],
            "matrix": [
                matrix_of(word).tolist()
                for word in ("TGATAAGA", "CACGTGAC", "CCAATCAG", "TTGCGCAA")
            ],
            "n_sites": 100,
            "enrichment_p_value": [1e-40, 1e-40, 0.3, 0.2],
        }
    )
    table = controls.across_nodes(motifs, seqlets.sample(frac=1, random_state=0), "sae")
    assert table["odds_ratio_other_nodes"].iloc[0] > 20
    assert table["odds_ratio_other_nodes"].iloc[3] < 3
    assert (table["fdr"] < 0.05).tolist() == [True, True, False, False]
    again = controls.across_nodes(motifs, seqlets, "sae")
    pd.testing.assert_frame_equal(table, again)


def two_nodes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seqlets and motifs of nodes 0 (TGATAAGA) and 3 (CACGTGAC), far from shuffled ones."""
    seqlets = pd.concat([seqlets_with("TGATAAGA", 0, 1), seqlets_with("CACGTGAC", 3, 2)])
    motifs = pd.DataFrame(
        {
            "node": [0, 3],
            "motif": 1,
            "matrix": [matrix_of(word).tolist() for word in ("TGATAAGA", "CACGTGAC")],
            "n_sites": 100,
            "enrichment_p_value": 1e-40,
        }
    )
    return seqlets, motifs


def test_what_the_genome_is_full_of_is_no_motif_of_a_node() -> None:
    """A repeat that lies everywhere is absent from shuffled seqlets and from the other nodes'."""
    seqlets, motifs = two_nodes()
    placed = seqlets_with("TGATAAGA", 9, 30)["sequence"].tolist()
    table = controls.across_nodes(motifs, seqlets, "sae", placed=placed)
    assert (table["odds_ratio_other_nodes"] > 20).all()
    assert table["odds_ratio_genome"].iloc[0] < 2
    assert table["odds_ratio_genome"].iloc[1] > 20
    assert (table["fdr"] < 0.05).tolist() == [False, True]


def test_what_random_directions_see_as_often_is_no_finding_of_the_training() -> None:
    seqlets, motifs = two_nodes()
    untrained = pd.concat([seqlets_with("TGATAAGA", node, 40 + node) for node in (1, 7)])
    table = controls.across_nodes(motifs, seqlets, "sae", untrained=untrained)
    assert table["odds_ratio_untrained"].iloc[0] < 2
    assert table["odds_ratio_untrained"].iloc[1] > 20
    assert (table["fdr"] < 0.05).tolist() == [False, True]
    without = controls.across_nodes(motifs, seqlets, "sae")
    assert without["odds_ratio_untrained"].isna().all()
    assert (without["fdr"] < 0.05).all()


def test_one_node_alone_has_no_other_nodes() -> None:
    seqlets = seqlets_with("TGATAAGA", 0, 1)
    motifs = pd.DataFrame(
        {
            "node": [0],
            "motif": [1],
            "matrix": [matrix_of("TGATAAGA").tolist()],
            "n_sites": 100,
            "enrichment_p_value": [1e-9],
        }
    )
    table = controls.across_nodes(motifs, seqlets, "sae")
    assert np.isnan(table["odds_ratio_other_nodes"].iloc[0])
    assert table["fdr"].iloc[0] == pytest.approx(1e-9)
