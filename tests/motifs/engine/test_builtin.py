"""Built-in discovery: planted motifs, noise, MEME's recorded answers, EM against plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from saeborzoi.motifs.engine import builtin, kernels, search_data
from saeborzoi.motifs.engine.builtin import Motif, find_motifs, widths_to_try
from saeborzoi.motifs.engine.search_data import Align, Aligned, SearchData, Windows
from saeborzoi.motifs.engine.starts import most_promising
from saeborzoi.motifs.properties import aligned_correlation
from saeborzoi.motifs.sequences import (
    Sequences,
    encode,
    four_mers,
    letter_frequencies,
    reverse_complement,
)

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "meme_parity.json").read_text())
GATA = "TGATAAGA"
BOX = "CACGTGACC"


def random_text(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list("ACGT"), length))


def planted(
    n: int, length: int, words: list[tuple[str, float]], seed: int, both: bool = False
) -> list[str]:
    """Random sequences, some holding a word with one random letter in five of them changed."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(n):
        text = random_text(rng, length)
        draw, low = rng.random(), 0.0
        for word, share in words:
            if low <= draw < low + share:
                letters = list(word)
                if rng.random() < 0.2:
                    letters[rng.integers(len(word))] = str(rng.choice(list("ACGT")))
                start = rng.integers(length - len(word) + 1)
                text = text[:start] + "".join(letters) + text[start + len(word) :]
            low += share
        if both and rng.random() < 0.5:
            text = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
        texts.append(text)
    return texts


def search(texts: list[str], n_motifs: int = 2, both: bool = False, seed: int = 0) -> list[Motif]:
    sequences = encode(texts)
    return find_motifs(
        sequences,
        letter_frequencies(sequences, both),
        n_motifs=n_motifs,
        min_width=8,
        max_width=int(sequences.lengths.max()),
        both_strands=both,
        seed=seed,
    )


def word_of(motif: Motif) -> str:
    return word_of_matrix(motif.counts)


def word_of_matrix(matrix: np.ndarray) -> str:
    return "".join("ACGT"[i] for i in matrix.argmax(axis=1))


def test_two_planted_motifs_are_found_and_named_by_their_letters() -> None:
    first, second = search(planted(300, 22, [(GATA, 0.5), (BOX, 0.3)], seed=1))
    assert GATA in word_of(first)
    assert BOX in word_of(second)
    assert first.log_e_value < second.log_e_value < -50
    assert abs(first.n_sites - 150) < 30
    assert abs(second.n_sites - 90) < 25
    assert (first.counts.sum(axis=1) == first.n_sites).all()


def test_sites_lie_where_the_counts_say() -> None:
    texts = planted(200, 22, [(GATA, 0.6)], seed=2)
    (motif,) = search(texts, n_motifs=1)
    width = len(motif.counts)
    counts = np.zeros((width, 4), int)
    for i, start in zip(motif.sequence, motif.start, strict=True):
        for c, letter in enumerate(texts[i][start : start + width]):
            counts[c, "ACGT".index(letter)] += 1
    np.testing.assert_array_equal(counts, motif.counts)


def test_both_strands_give_one_motif() -> None:
    texts = planted(300, 22, [(GATA, 0.7)], seed=3, both=True)
    (motif, other) = search(texts, both=True)
    reverse = GATA[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert GATA in word_of(motif) or reverse in word_of(motif)
    assert motif.n_sites > 180
    assert 0.3 < motif.strand.mean() < 0.7
    assert other.log_e_value > np.log(0.05)
    flipped = [t[::-1].translate(str.maketrans("ACGT", "TGCA")) for t in texts]
    width = len(motif.counts)
    counts = np.zeros((width, 4), int)
    for i, start, strand in zip(motif.sequence, motif.start, motif.strand, strict=True):
        site = (flipped if strand else texts)[i][start : start + width]
        for c, letter in enumerate(site):
            counts[c, "ACGT".index(letter)] += 1
    np.testing.assert_array_equal(counts, motif.counts)


@pytest.mark.parametrize("both", [False, True])
def test_noise_gives_no_significant_motif(both: bool) -> None:
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        found = search([random_text(rng, 18) for _ in range(200)], both=both)
        assert all(motif.log_e_value > np.log(0.05) for motif in found)


def test_sequences_of_unlike_length_and_too_short_ones() -> None:
    texts = planted(150, 26, [(GATA, 0.7)], seed=4)
    texts += [text[:15] for text in planted(50, 15, [(GATA, 0.7)], seed=5)] + ["ACGTA"] * 10
    (motif, *_) = search(texts)
    assert GATA in word_of(motif)
    assert motif.sequence.max() < 200


def test_same_seed_same_result_and_seed_matters_little() -> None:
    texts = planted(200, 20, [(GATA, 0.5)], seed=6)
    a, b, c = (search(texts, n_motifs=1, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.counts, b.counts)
    assert a.log_e_value == b.log_e_value
    assert aligned_correlation(a.counts / a.n_sites, c.counts / c.n_sites, 7)[0] > 0.99


def test_uneven_composition_of_whole_sequences_is_no_motif() -> None:
    rng = np.random.default_rng(7)
    texts = []
    for _ in range(200):  # G and C in the middle, A and T at the ends, no motif
        text = rng.choice(list("ACGT"), 14, p=[0.3, 0.2, 0.2, 0.3])
        text[4:10] = rng.choice(list("ACGT"), 6, p=[0.2, 0.3, 0.3, 0.2])
        texts.append("".join(text))
    assert all(not (len(motif.counts) == 14 and motif.n_sites >= 180) for motif in search(texts))


def test_erased_sites_do_not_come_back() -> None:
    first, second = search(planted(200, 14, [(GATA, 0.95)], seed=8))
    assert GATA in word_of(first)
    assert second.log_e_value > np.log(0.05)


@pytest.mark.parametrize("seed", range(3))
def test_weak_sites_do_not_come_back_as_a_second_motif(seed: int) -> None:
    """What is erased is the motif with the fraction of sequences that it was found in."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(400):
        text = list(random_text(rng, 20))
        if rng.random() < 0.7:
            start = rng.integers(11)
            for c, letter in enumerate("TGATAAGACC"):
                text[start + c] = letter if rng.random() < 0.8 else str(rng.choice(list("ACGT")))
        texts.append("".join(text))
    first, second = search(texts)
    assert first.n_sites > 200
    assert second.log_e_value > np.log(0.05)


def test_one_start_for_each_number_of_sites_that_may_be_expected() -> None:
    sequences = encode(planted(64, 16, [("TGATAAGACC", 0.25), ("CCGTGCATTA", 0.6)], seed=11))
    data = SearchData.of(sequences, np.full(4, 0.25), 8, False, False)
    assert data.numbers.tolist() == [2, 4, 8, 16, 32, 64]
    windows = Windows.of(data, 10, np.ones(sequences.letters.shape))
    words = encode(["TGATAAGACC", "CCGTGCATTA", "GGGGGGGGGG"]).letters
    aligned = search_data.answer(Align(windows, words))
    assert isinstance(aligned, Aligned)
    matrices, fractions = most_promising(windows, words, aligned)
    starts = {word_of_matrix(m): f for m, f in zip(matrices, fractions, strict=True)}
    assert starts["CCGTGCATTA"] == pytest.approx(0.95)  # the largest number that it is best at
    assert set(starts) <= {"CCGTGCATTA", "TGATAAGACC"}
    np.testing.assert_allclose(matrices.sum(axis=2), 1.0)
    np.testing.assert_allclose(matrices.max(axis=2), 2 / 3 + 1 / 12)


def test_expectation_maximization_equals_plain_numpy() -> None:
    rng = np.random.default_rng(9)
    texts = planted(40, 16, [(GATA, 0.6)], seed=9) + [random_text(rng, 12) for _ in range(10)]
    sequences = encode(texts)
    background = letter_frequencies(sequences)
    width = 9
    start = rng.dirichlet(np.ones(4), width)
    weight = rng.random((1, 50, 16 - width + 1))
    matrix, fraction = kernels.expectation_maximization(
        four_mers(sequences)[None], sequences.lengths, start, 0.4, False, background, weight
    )
    own, own_fraction = plain_zoops(sequences, start, 0.4, background, weight[0])
    np.testing.assert_allclose(matrix, own, atol=2e-6)
    assert fraction == pytest.approx(own_fraction, abs=2e-6)


def plain_zoops(
    sequences: Sequences,
    matrix: np.ndarray,
    fraction: float,
    background: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Bailey & Elkan's equations written out, for comparison."""
    width = len(matrix)
    for _ in range(kernels.MAX_ITERATIONS):
        counts = np.tile(kernels.PSEUDOCOUNT * background, (width, 1))
        expected = 0.0
        for row, length, free in zip(sequences.letters, sequences.lengths, weight, strict=True):
            places = length - width + 1
            odds = np.array(
                [
                    free[j]
                    * np.prod(
                        [matrix[c, row[j + c]] / background[row[j + c]] for c in range(width)]
                    )
                    for j in range(places)
                ]
            )
            z = fraction / places * odds
            z /= 1 - fraction + z.sum()
            expected += z.sum()
            for j in range(places):
                for c in range(width):
                    counts[c, row[j + c]] += z[j]
        new = counts / counts.sum(axis=1, keepdims=True)
        moved = np.sqrt(((new - matrix) ** 2).sum())
        matrix, fraction = new, expected / len(sequences.lengths)
        if moved < kernels.TOLERANCE:
            break
    return matrix, fraction


def test_windows_on_the_other_strand() -> None:
    sequences = encode(["AAAAATCTTATCA", "TGATAAGAGGGGG"])
    strands = [sequences, reverse_complement(sequences)]
    codes4 = np.stack([four_mers(s) for s in strands])
    matrix = np.full((8, 4), 0.01)
    matrix[np.arange(8), ["ACGT".index(c) for c in GATA]] = 0.97
    background = np.full(4, 0.25)
    odds = kernels.four_mer_odds(matrix, background)
    weight = np.ones((2, 2, 6))
    score, start = kernels.best_windows(codes4, sequences.lengths, 8, odds, weight, 0.5)
    assert start.tolist() == [13 + 0, 0]  # the reverse complement of the first begins with it
    assert (score > 0.9).all()


def test_widths_grow_by_root_two() -> None:
    assert widths_to_try(8, 14) == [8, 11, 14]
    assert widths_to_try(8, 8) == [8]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_meme_finds_the_same(name: str) -> None:
    """Recorded MEME 5.5.8 runs: the same motifs with the same width and E-value, or none."""
    recorded = RECORDED[name]
    found = search(recorded["sequences"].split())
    significant = [m for m in found if m.log_e_value < np.log(0.05)]
    expected = [m for m in recorded["motifs"] if m["log10_evalue"] < np.log10(0.05)]
    assert len(significant) == len(expected)
    for own, reference in zip(significant, expected, strict=True):
        matrix = np.array(reference["matrix"])
        assert abs(len(own.counts) - reference["width"]) <= 1
        assert aligned_correlation(own.counts / own.n_sites, matrix, len(matrix) - 1)[0] > 0.99
    if expected:
        log10_e = found[0].log_e_value / np.log(10)
        assert log10_e == pytest.approx(expected[0]["log10_evalue"], abs=3.0)


def test_every_start_constant_is_used_with_fewer_sequences() -> None:
    found = search(planted(6, 20, [(GATA, 1.0)], seed=10), n_motifs=1)
    assert found
    assert found[0].n_sites <= 6
    assert (
        builtin.find_motifs(
            encode(["ACGTACGTAC"]),
            np.full(4, 0.25),
            n_motifs=1,
            min_width=8,
            max_width=10,
            both_strands=False,
            seed=0,
        )
        == []
    )
