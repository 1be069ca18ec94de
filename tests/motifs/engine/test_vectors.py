"""Look-ups of eight numbers at a time, on processors with and without an instruction for them."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from saeborzoi.motifs.engine import vectors


@pytest.mark.parametrize("permutes", [None, False])
def test_window_odds_equal_plain_numpy(
    permutes: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if permutes is not None:
        monkeypatch.setattr(vectors, "_permutes", lambda context: permutes)
    look_up = vectors.window_odds

    @njit
    def odds_of(words, free, tables, n_pairs, odds, total, top, where):  # type: ignore[no-untyped-def]
        look_up(words, 0, free, tables, n_pairs, odds, 0, total, top, where, 0, 7)

    rng = np.random.default_rng(3)
    n_pairs = 19  # more letters than a word has
    pairs = rng.integers(0, 16, (8, 32), dtype=np.uint64)
    shifts = np.arange(16, dtype=np.uint64) * np.uint64(4)
    # the second word is 32 windows of 8 sequences on
    words = np.zeros(33 * 8, np.uint64)
    words[:8] = (pairs[:, :16] << shifts).sum(axis=1)
    words[32 * 8 :] = (pairs[:, 16:] << shifts).sum(axis=1)
    tables = rng.random((n_pairs, 16)) + 0.5
    expected = np.prod([tables[p, pairs[:, p].astype(int)] for p in range(n_pairs)], axis=0)
    free = 0b10110111
    expected[[3, 6]] = 0.0
    odds, total, top = np.zeros(8), np.ones(8), np.full(8, np.median(expected))
    where = np.zeros(8, np.int64)
    odds_of(words, free, tables.ravel(), n_pairs, odds, total, top, where)
    if permutes is False:
        assert "vpermi2var" not in "".join(odds_of.inspect_llvm().values())
    np.testing.assert_allclose(odds, expected)
    np.testing.assert_allclose(total, 1 + expected)
    larger = expected > np.median(expected)
    np.testing.assert_array_equal(where, np.where(larger, 7, 0))
    np.testing.assert_allclose(top[larger], expected[larger])
