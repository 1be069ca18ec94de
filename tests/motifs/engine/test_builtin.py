"""Built-in discovery: planted motifs, noise, MEME's recorded answers, EM against plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from saeborzoi.motifs.engine import kernels
from saeborzoi.motifs.engine.builtin import Motif, find_motifs, widths_to_try
from saeborzoi.motifs.engine.search_data import MotifWindows, SearchData
from saeborzoi.motifs.properties import aligned_correlation
from saeborzoi.motifs.sequences import Sequences, encode, letter_frequencies

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


def search(
    texts: list[str], n_motifs: int = 2, both: bool = False, min_sites: int | None = None
) -> list[Motif]:
    sequences = encode(texts)
    return find_motifs(
        sequences,
        letter_frequencies(sequences, both),
        n_motifs=n_motifs,
        min_width=8,
        max_width=int(sequences.lengths.max()),
        both_strands=both,
        min_sites=min_sites,
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
        motifs = search([random_text(rng, 18) for _ in range(200)], both=both)
        assert all(motif.log_e_value > np.log(0.05) for motif in motifs)


def test_sequences_of_unlike_length_and_too_short_ones() -> None:
    texts = planted(150, 26, [(GATA, 0.7)], seed=4)
    texts += [text[:15] for text in planted(50, 15, [(GATA, 0.7)], seed=5)] + ["ACGTA"] * 10
    (motif, *_) = search(texts)
    assert GATA in word_of(motif)
    assert motif.sequence.max() < 200


def test_the_order_of_the_sequences_changes_nothing() -> None:
    texts = planted(200, 20, [(GATA, 0.5), (BOX, 0.2)], seed=6)
    order = np.random.default_rng(0).permutation(len(texts))
    given, shuffled = search(texts), search([texts[i] for i in order])
    assert len(given) == len(shuffled) == 2
    for a, b in zip(given, shuffled, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
        assert a.log_e_value == b.log_e_value
        sites = {(int(i), int(x)) for i, x in zip(a.sequence, a.start, strict=True)}
        assert sites == {(int(order[i]), int(x)) for i, x in zip(b.sequence, b.start, strict=True)}


def test_uneven_composition_of_whole_sequences_is_no_motif() -> None:
    rng = np.random.default_rng(7)
    texts = []
    for _ in range(200):  # G and C in the middle, A and T at the ends, no motif
        text = rng.choice(list("ACGT"), 14, p=[0.3, 0.2, 0.2, 0.3])
        text[4:10] = rng.choice(list("ACGT"), 6, p=[0.2, 0.3, 0.3, 0.2])
        texts.append("".join(text))
    assert all(not (len(motif.counts) == 14 and motif.n_sites >= 180) for motif in search(texts))


def test_erased_sites_do_not_come_back() -> None:
    first, *rest = search(planted(200, 14, [(GATA, 0.95)], seed=8))
    assert GATA in word_of(first)
    assert all(motif.log_e_value > np.log(0.05) for motif in rest if motif.suspect is None)


def test_no_site_of_a_motif_is_a_site_of_the_next() -> None:
    """Weak sites that the first motif left over may come back, as in MEME; its own sites do not."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(400):
        text = list(random_text(rng, 20))
        if rng.random() < 0.7:
            start = rng.integers(11)
            for c, letter in enumerate("TGATAAGACC"):
                text[start + c] = letter if rng.random() < 0.8 else str(rng.choice(list("ACGT")))
        texts.append("".join(text))
    first, second, *_ = search(texts)
    assert first.n_sites > 200
    assert second.log_e_value > first.log_e_value / 4
    taken = {
        (int(i), int(x) + c)
        for i, x in zip(first.sequence, first.start, strict=True)
        for c in range(len(first.counts))
    }
    for i, x in zip(second.sequence, second.start, strict=True):
        assert not any((int(i), int(x) + c) in taken for c in range(len(second.counts)))


@pytest.mark.parametrize(
    ("n_expected", "width", "longest"), [(4, 9, 16), (25, 9, 16), (50, 9, 16), (25, 37, 40)]
)
def test_expectation_maximization_equals_plain_numpy(
    n_expected: int, width: int, longest: int
) -> None:
    rng = np.random.default_rng(9)
    texts = planted(40, longest, [(GATA, 0.6)], seed=9)
    texts += [random_text(rng, longest - 3) for _ in range(10)]
    background = letter_frequencies(encode(texts))
    data = SearchData.of(encode(texts), background, 8, False, False)
    start = rng.dirichlet(np.ones(4), width)
    is_free = (rng.random((1, 50, longest - width + 1)) < 0.8).astype(np.uint8)
    is_free *= np.arange(longest - width + 1) <= data.lengths[:, None] - width
    matrix, _, probability, place, n_eligible, _ = kernels.expectation_maximization(
        data.words,
        MotifWindows(data, width, is_free).free_bits,
        data.by_length,
        data.lengths,
        start,
        n_expected,
        n_expected / 50,
        kernels.MAX_ITERATIONS,
        background,
    )
    sequences = Sequences(data.letters[0], data.lengths)
    plain, z = plain_zoops(sequences, start, n_expected, background, is_free[0])
    np.testing.assert_allclose(matrix, plain, atol=1e-5)
    np.testing.assert_allclose(probability, z.max(axis=1), atol=2e-5)
    held = probability > 0
    np.testing.assert_array_equal(place[held], z.argmax(axis=1)[held])
    assert n_eligible == held.sum() == is_free[0].any(axis=1).sum()


def plain_zoops(
    sequences: Sequences,
    matrix: np.ndarray,
    n_expected: int,
    background: np.ndarray,
    is_free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Bailey & Elkan's equations written out, for comparison: matrix, and the probabilities of the
    windows under the matrix before it."""
    width, n = len(matrix), len(sequences.lengths)
    fraction = n_expected / n
    for _ in range(kernels.MAX_ITERATIONS):
        counts = np.tile(kernels.PSEUDOCOUNT * background, (width, 1))
        z = np.zeros(is_free.shape)
        for i, (row, length) in enumerate(zip(sequences.letters, sequences.lengths, strict=True)):
            places = length - width + 1
            for j in range(places):
                ratios = [matrix[c, row[j + c]] / background[row[j + c]] for c in range(width)]
                z[i, j] = is_free[i, j] * fraction / places * np.prod(ratios)
            if z[i].any():
                z[i] /= 1 - fraction + z[i].sum()
            for j in range(places):
                for c in range(width):
                    counts[c, row[j + c]] += z[i, j]
        new = counts / counts.sum(axis=1, keepdims=True)
        moved = np.sqrt(((new - matrix) ** 2).sum())
        weight = kernels.EXPECTED_WEIGHT
        matrix = new
        fraction = min((weight * n_expected + (1 - weight) * z.sum()) / n, 1.0)
        if moved < kernels.TOLERANCE:
            break
    return matrix, z


def test_widths_grow_by_root_two() -> None:
    assert widths_to_try(8, 14) == [8, 11, 14]
    assert widths_to_try(8, 8) == [8]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_meme_finds_the_same(name: str) -> None:
    """Recorded MEME 5.5.8 runs: the same motifs with the same width and E-value, or none."""
    recorded = RECORDED[name]
    motifs = search(recorded["sequences"].split())
    significant = [m for m in motifs if m.log_e_value < np.log(0.05)]
    expected = [m for m in recorded["motifs"] if m["log10_evalue"] < np.log10(0.05)]
    assert len(significant) == len(expected)
    for motif, reference in zip(significant, expected, strict=True):
        matrix = np.array(reference["matrix"])
        assert abs(len(motif.counts) - reference["width"]) <= 1
        assert aligned_correlation(motif.counts / motif.n_sites, matrix, len(matrix) - 1)[0] > 0.99
    if expected:
        log10_e = motifs[0].log_e_value / np.log(10)
        assert log10_e == pytest.approx(expected[0]["log10_evalue"], abs=1.0)


def test_few_sequences() -> None:
    (motif,) = search(planted(6, 20, [(GATA, 1.0)], seed=10), n_motifs=1)
    assert 2 <= motif.n_sites <= 6
    assert search(["ACGTACGTAC"], n_motifs=1) == []


def copies(n: int, length: int, seed: int) -> list[str]:
    """Copies of one element, one letter in twelve of each changed."""
    rng = np.random.default_rng(seed)
    element = rng.integers(4, size=length)
    texts = []
    for _ in range(n):
        changed = rng.random(length) < 1 / 12
        texts.append(
            "".join("ACGT"[c] for c in np.where(changed, rng.integers(4, size=length), element))
        )
    return texts


def test_copies_of_an_element_stand_behind_the_motif_and_do_not_hide_it() -> None:
    texts = planted(260, 26, [(GATA, 0.7)], seed=12) + copies(140, 26, seed=13)
    motif, *rest = search(texts)
    assert GATA in word_of(motif)
    assert motif.suspect is None
    assert motif.n_effective_sites == motif.n_sites
    (repeat,) = [m for m in rest if m.suspect == "repeat"]
    assert repeat.log_e_value < motif.log_e_value
    assert repeat.n_sites > 130
    assert repeat.n_effective_sites < 10


def test_a_wide_motif_is_no_repeat_although_its_seqlets_are_alike() -> None:
    word = "TTCAGCACCATGGACAGCGCC"
    motif, *_ = search(planted(300, 26, [(word, 0.6)], seed=14), n_motifs=1)
    assert len(motif.counts) >= 19
    assert motif.suspect is None
    assert motif.n_effective_sites == motif.n_sites


def test_few_sites_are_said_and_the_search_goes_on() -> None:
    strong = "TGATAAGACCGTA"
    texts = planted(400, 22, [(BOX, 0.02)], seed=15)
    rng = np.random.default_rng(16)
    for i in rng.choice(400, 7, replace=False):
        texts[i] = texts[i][:4] + strong + texts[i][17:]
    for i in rng.choice(400, 120, replace=False):
        texts[i] = texts[i][:6] + "CACGTG" + texts[i][12:]
    motifs = search(texts, min_sites=20)
    assert "CACGTG" in word_of(motifs[0])
    few = [m for m in motifs if m.suspect == "few_sites"]
    assert any(strong[:8] in word_of(m) and m.n_sites < 20 for m in few)
    assert all(m.suspect is None for m in search(texts, min_sites=2))


def test_a_stack_of_uneven_sequences_is_composition_and_erases_nothing() -> None:
    rng = np.random.default_rng(17)
    texts = []
    for text in planted(300, 16, [(GATA, 0.4)], seed=17):
        ends = rng.choice(list("ACGT"), 16, p=[0.36, 0.14, 0.14, 0.36])
        letters = [e if rng.random() < 0.3 and c in (0, 1, 14, 15) else t
                   for c, (t, e) in enumerate(zip(text, ends, strict=True))]  # fmt: skip
        texts.append("".join(letters))
    motifs = search(texts)
    assert GATA in word_of(motifs[0])
    assert all(len(m.counts) < 16 or m.suspect == "composition" for m in motifs)
