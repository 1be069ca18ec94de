"""Compiled loops against plain Python: seeds, gaps, numbers of sites, near-identical sequences."""

from __future__ import annotations

import numpy as np
import pytest

from saeborzoi.motifs.engine import (
    copies,
    gap_kernels,
    seed_kernels,
    seed_scan,
    significance,
    site_kernels,
)
from saeborzoi.motifs.engine.search_data import MotifWindows, SearchData, canonical_order
from saeborzoi.motifs.engine.starts import SEED_SHARPNESS, starting_points
from saeborzoi.motifs.sequences import encode, letter_frequencies


def data_of(texts: list[str], both: bool = False) -> SearchData:
    sequences = encode(texts)
    return SearchData.of(sequences, letter_frequencies(sequences, both), 8, both, False)


def texts_of(n: int, low: int, high: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), rng.integers(low, high + 1))) for _ in range(n)]


def test_order_of_equal_sequences_does_not_depend_on_what_was_given() -> None:
    texts = texts_of(30, 8, 12, 0) + ["ACGTACGT"] * 2
    given = canonical_order(encode(texts))
    other = canonical_order(encode(texts[::-1]))
    assert [texts[i] for i in given] == [texts[::-1][i] for i in other]
    assert sorted(given) == list(range(32))


@pytest.mark.parametrize("both", [False, True])
def test_windows_keep_off_earlier_sites(both: bool) -> None:
    data = data_of(["ACGTACGTACGTAC", "ACGTACGTAC"], both)
    free = np.ones((2, 14), np.uint8)
    row = int(np.flatnonzero(data.lengths == 14)[0])
    free[row, 0] = 0
    is_free = MotifWindows.of(data, 10, free).is_free
    assert is_free[0, row].tolist() == [0, 1, 1, 1, 1]
    assert is_free[0, 1 - row].tolist() == [1, 0, 0, 0, 0]
    if both:  # the first position of the given strand is the last of the other
        assert is_free[1, row].tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("n", "low", "high", "width", "both"),
    [
        (25, 9, 14, 8, False),
        (25, 9, 14, 8, True),
        (530, 33, 36, 33, False),  # more sequences than a vector has bits, six digits
        (20, 70, 72, 67, True),  # eight digits
        (12, 300, 330, 9, False),  # more places than a byte counts
    ],
)
def test_seeds_agree_with_every_window_as_counted_one_by_one(
    n: int, low: int, high: int, width: int, both: bool
) -> None:
    data = data_of(texts_of(n, low, high, 1), both)
    longest = data.longest
    free = np.ones((n, longest), np.uint8)
    free[:5, 4] = 0
    windows = MotifWindows.of(data, width, free)
    is_seed = windows.is_free[0]
    x, i = (int(v[-1]) for v in np.nonzero(is_seed))
    seed = data.letters[0, x, i : i + width]
    order, start, n_eligible = seed_kernels.align_seed(seed, data.is_letter, windows.mask)
    best: dict[int, tuple[int, int]] = {}
    for t in range(n):
        for s in range(len(data.letters)):
            for j in np.flatnonzero(windows.is_free[s, t]):
                agree = int((data.letters[s, t, j : j + width] == seed).sum())
                if agree > best.get(t, (-1, 0))[0]:
                    best[t] = agree, int(j) + longest * s
    assert n_eligible == len(best)
    assert order[:n_eligible].tolist() == sorted(best, key=lambda t: (-best[t][0], t))
    assert all(start[t] == place for t, (_, place) in best.items())
    rating = seed_scan.scan_seeds(
        data.letters[0], data.lengths, data.is_letter, windows.mask, is_seed, data.numbers,
        data.background,
    )  # fmt: skip
    assert rating.shape == (data.numbers.size, is_seed.sum())
    agreements = sorted((agree for agree, _ in best.values()), reverse=True)
    p = data.background[seed]
    for g, number in enumerate(data.numbers):
        n_sites = min(number, n_eligible)
        f = sum(agreements[:n_sites]) / (width * n_sites)
        unlike = (1 - f) * np.log((1 - f) / (1 - p)) if f < 1 else 0.0
        bound = n_sites * (f * np.log(f / p) + unlike).sum()
        assert rating[g, -1] == pytest.approx(bound)


def test_the_first_free_place_of_each_code_is_marked() -> None:
    rng = np.random.default_rng(11)
    # few highest bits, by which codes are looked up, and the largest code of all
    codes = rng.integers(0, 40, (30, 9), dtype=np.uint64) << np.uint64(52)
    codes[codes == codes.max()] = np.uint64(2**64 - 1)
    is_free = (rng.random(codes.shape) < 0.7).astype(np.uint8)
    first = seed_kernels.first_of_each(codes, is_free)
    places = np.flatnonzero(is_free)
    _, firsts = np.unique(codes.ravel()[places], return_index=True)
    np.testing.assert_array_equal(np.flatnonzero(first), np.sort(places[firsts]))


def test_the_seed_of_a_planted_word_is_ranked_first() -> None:
    texts = texts_of(60, 16, 16, 2)
    for i in range(30):
        texts[i] = texts[i][:3] + "TGATAAGACC" + texts[i][13:]
    starts = starting_points(MotifWindows.of(data_of(texts), 10, np.ones((60, 16), np.uint8)))
    assert starts is not None
    matrix = starts.matrix(4, 0)  # 32 sites expected
    assert "".join("ACGT"[c] for c in matrix.argmax(axis=1)) == "TGATAAGACC"
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix.max(axis=1), SEED_SHARPNESS)


def test_no_start_where_nothing_is_free() -> None:
    data = data_of(["ACGTACGTAC"] * 3)
    assert starting_points(MotifWindows.of(data, 8, np.zeros((3, 10), np.uint8))) is None


def sites(texts: list[str], width: int) -> tuple[int, int]:
    data = encode(texts)
    n = len(texts)
    return gap_kernels.columns_without_gaps(
        np.arange(n), np.zeros(n, np.int64), n, data.letters[None], width, 8
    )


def test_columns_beyond_a_gap_are_left_out() -> None:
    """A site that fits the best one only after a shift by one is aligned with gaps."""
    word = "ACGGTCATTGCAAGCTTAGCCATGACT"
    shifted = word[:9] + "A" + word[9:26]
    assert sites([word, word, word], 27) == (0, 27)
    # a letter more before column 9, none for the last column
    assert sites([word, word, shifted], 27) == (9, 17)
    # a site that is unlike in some letters needs no gap
    changed = "".join("ACGT"["ACGT".index(c) - 1] if i % 4 == 0 else c for i, c in enumerate(word))
    assert sites([word, changed, word], 27) == (0, 27)
    # where each run without gaps is too short, as few sites as possible may have one
    early = word[1:14] + "C" + word[14:]
    late = word[:20] + "A" + word[20:26]
    _, width = sites([word, early, late, shifted], 27)
    assert 8 <= width < 27


def test_log_e_of_each_number_is_that_of_its_sites_alone() -> None:
    data = data_of(texts_of(40, 12, 12, 4))
    order, start = np.arange(40), np.zeros(40, np.int64)
    values = site_kernels.log_e_values(
        order, start, 40, data.padded_letters, 12, 12, data.log_background, data.x_log_x,
        data.table, data.log_ways(12),
    )  # fmt: skip
    assert np.isinf(values[:2]).all()
    counts = site_kernels.site_counts(order, start, 7, data.padded_letters, 12, 12)
    exact = site_kernels.log_e_value(
        counts, 7, data.log_background, data.x_log_x, data.excess(7), data.log_ways(12)
    )
    assert values[7] == pytest.approx(exact)  # tables of so few sites are their own
    np.testing.assert_array_equal(data.excess(11), significance.column_excess(11, data.background))


def test_copies_weigh_as_one() -> None:
    rng = np.random.default_rng(5)
    element = "".join(rng.choice(list("ACGT"), 40))
    copied = [element[k : k + 26] for k in (0, 1, 3, 3)]
    alone = texts_of(6, 26, 26, 6)
    weights = copies.copy_weights(encode(copied + alone), both_strands=False)
    np.testing.assert_allclose(weights, [0.25] * 4 + [1.0] * 6)
    flipped = copied[0][::-1].translate(str.maketrans("ACGT", "TGCA"))
    pair = encode([copied[0], flipped, *alone])
    assert copies.copy_weights(pair, both_strands=False)[0] == 1.0
    assert copies.copy_weights(pair, both_strands=True)[:2].tolist() == [0.5, 0.5]
    short = encode(["ACGTACGTACGTAC", "ACGTACGTACGTAC", "ACGTACGTACGTAT", "ACGTACGTAC"])
    assert copies.copy_weights(short, both_strands=False).tolist() == [0.5, 0.5, 1.0, 1.0]
    # agreements above 255 do not begin again at 0; 75 % of the letters are too few
    long = rng.choice(list("ACGT"), 400)
    worn, other = long.copy(), long.copy()
    worn[::6] = np.where(worn[::6] == "A", "C", "A")
    other[::4] = np.where(other[::4] == "A", "C", "A")
    element, random = "".join(long), "".join(rng.choice(list("ACGT"), 400))
    like = encode([element, "".join(worn)[3:], "".join(other), random])
    assert copies.copy_weights(like, both_strands=False).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_what_lies_beside_the_sites_tells_copies_from_a_wide_motif() -> None:
    rows, start, weights = np.arange(40), np.full(40, 3), np.full(40, 1 / 40)
    element = "".join(np.random.default_rng(7).choice(list("ACGT"), 26))
    same = encode([element] * 40)
    beside = encode([t[:3] + element[3:23] + t[23:] for t in texts_of(40, 26, 26, 8)])
    for sequences, expected in ((same, 1.0), (beside, 40.0)):
        independent = copies.effective_sites(
            sequences.letters[None], sequences.lengths, rows, start, 20, weights
        )
        assert independent == pytest.approx(expected)
