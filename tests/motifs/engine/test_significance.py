"""The statistics behind E-values, against enumeration and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from saeborzoi.motifs.engine import significance as sg

BACKGROUND = np.array([0.3, 0.2, 0.15, 0.35])


def enumerated_tail(n: int, background: np.ndarray) -> np.ndarray:
    """ln P(LLR >= x) at the edges of the bins, over every composition of n letters."""
    bin_nats = -n * math.log(background.min()) / sg.N_BINS
    probability: dict[int, float] = {}
    for counts in itertools.product(range(n + 1), repeat=3):
        rest = n - sum(counts)
        if rest < 0:
            continue
        c = np.array([*counts, rest])
        p = math.exp(stats.multinomial.logpmf(c, n, background))
        parts = [
            round(k * math.log(k / n / q) / bin_nats)
            for k, q in zip(c, background, strict=True)
            if k
        ]
        score = sum(parts)
        probability[score] = probability.get(score, 0.0) + p
    return np.array(
        [
            math.log(max(sum(p for s, p in probability.items() if s >= k), 1e-300))
            for k in range(sg.N_BINS + 1)
        ]
    )


@pytest.mark.parametrize("n", [2, 5, 14])
def test_column_tail_equals_enumeration(n: int) -> None:
    exact = enumerated_tail(n, BACKGROUND)
    x = np.arange(sg.N_BINS + 1) * -n * math.log(BACKGROUND.min()) / sg.N_BINS
    tail = sg.column_excess(n, BACKGROUND) - x
    reached = exact > -600  # beyond the largest score the enumeration has nothing
    np.testing.assert_allclose(tail[reached], exact[reached], atol=1e-9)


def test_column_tail_follows_chi_square_where_bins_are_fine() -> None:
    n = 60
    llr = np.array([3.0, 6.0, 9.0])
    bin_nats = -n * math.log(BACKGROUND.min()) / sg.N_BINS
    own = [sg.column_minus_log_p(x, bin_nats, sg.column_excess(n, BACKGROUND)) for x in llr]
    np.testing.assert_allclose(own, -stats.chi2.logsf(2 * llr, 3), atol=0.6)


def test_table_interpolates_between_numbers_of_sites() -> None:
    table = sg.column_table(200, BACKGROUND)
    for n in (12, 77, 133, 200):
        bin_nats = -n * math.log(BACKGROUND.min()) / sg.N_BINS
        for llr in np.array([0.1, 0.4, 0.8]) * n:
            exact = sg.column_minus_log_p(llr, bin_nats, sg.column_excess(n, BACKGROUND))
            near = sg.column_minus_log_p(llr, bin_nats, table[n])
            assert near == pytest.approx(exact, abs=1.0)


@pytest.mark.parametrize(("s", "n"), [(0.5, 8), (12.0, 12), (40.0, 15), (600.0, 30)])
def test_product_of_p_values_is_a_gamma_tail(s: float, n: int) -> None:
    assert sg.log_product_p(s, n) == pytest.approx(math.log(special.gammaincc(n, s)), rel=1e-9)


def test_product_of_p_values_far_beyond_underflow() -> None:
    i = np.arange(15)
    reference = -8000 + special.logsumexp(i * math.log(8000) - special.gammaln(i + 1))
    assert sg.log_product_p(8000.0, 15) == pytest.approx(reference)


def test_choices_and_places() -> None:
    assert sg.log_choices(10, 3) == pytest.approx(math.log(120))
    lengths = np.array([20, 14, 10, 6])
    ways = sg.log_ways(lengths, 2)
    assert ways.shape == (21, 5)
    # 2 x 13, 2 x 7, 2 x 3 places; the last sequence is too short
    places = np.array([1, 26, 26 * 14, 26 * 14 * 6, 26 * 14 * 6])
    np.testing.assert_allclose(np.exp(ways[8]), places * [1, 4, 6, 4, 1])
    np.testing.assert_allclose(np.exp(ways[20, 1]), 2 * 4)


def test_tables_of_a_background_are_kept() -> None:
    key = tuple(BACKGROUND.tolist())
    assert sg.cached_column_table(30, key) is sg.cached_column_table(30, key)
