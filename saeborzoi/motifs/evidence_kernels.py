"""Compiled loops of the evidence for motifs: scores of sequences, and shuffling that keeps
dinucleotides.

Arrays in, arrays out. All functions release the GIL. `codes4` is as in `engine/kernels.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def best_log_odds(codes4: U1, lengths: I8, log_odds: F8) -> tuple[F8, I8]:
    """Largest log-odds score of any window of each sequence, on any of the strands.

    Parameters
    ----------
    log_odds
        (width, 4) float64.

    Returns
    -------
    (n_sequences,) float64, -inf where a sequence is shorter than the motif; (n_sequences,) int64,
    where the window starts, `start + longest` on strand 1.
    """
    n_strands, n_sequences, longest = codes4.shape
    width = log_odds.shape[0]
    n_blocks = (width + 3) // 4
    scores = np.zeros((n_blocks, 256))
    for c in range(width):
        for code in range(256):
            scores[c // 4, code] += log_odds[c, (code >> (2 * (3 - c % 4))) & 3]
    best = np.full(n_sequences, -np.inf)
    start = np.zeros(n_sequences, np.int64)
    for i in range(n_sequences):
        for s in range(n_strands):
            for j in range(lengths[i] - width + 1):
                x = 0.0
                for b in range(n_blocks):
                    x += scores[b, codes4[s, i, j + 4 * b]]
                if x > best[i]:
                    best[i] = x
                    start[i] = j + s * longest
    return best, start


@njit(cache=True, nogil=True)
def _random(state: NDArray[np.uint64], n: int) -> int:
    """A whole number in [0, n), by splitmix64 (Steele, Lea & Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return int((z >> np.uint64(32)) * np.uint64(n) >> np.uint64(32))


@njit(cache=True, nogil=True)
def shuffle_dinucleotides(letters: U1, lengths: I8, seed: int) -> U1:
    """Each sequence shuffled with its dinucleotide counts, first and last letter kept.

    A random Eulerian walk over the graph whose edges are the dinucleotides (Altschul & Erickson
    1985): the last edge out of each letter is drawn until these edges lead from every letter to
    the last one; the other edges follow in random order.

    Parameters
    ----------
    letters
        (n_sequences, longest) uint8, 0..3.

    Returns
    -------
    (n_sequences, longest) uint8; beyond the end of a sequence as given.
    """
    state = np.array([np.uint64(seed)], np.uint64)
    shuffled = letters.copy()
    n_sequences, longest = letters.shape
    edges = np.empty((4, longest), np.int64)
    count = np.zeros(4, np.int64)
    used = np.zeros(4, np.int64)
    for i in range(n_sequences):
        length = lengths[i]
        if length < 4:
            continue
        count[:] = 0
        for j in range(length - 1):
            a = letters[i, j]
            edges[a, count[a]] = letters[i, j + 1]
            count[a] += 1
        final = letters[i, length - 1]
        while True:
            for a in range(4):
                if a != final and count[a] > 0:
                    k = _random(state, count[a])
                    last = count[a] - 1
                    edges[a, k], edges[a, last] = edges[a, last], edges[a, k]
            connected = True
            for a in range(4):
                b = a
                steps = 0
                while count[a] > 0 and b != final and steps < 4:
                    b = edges[b, count[b] - 1]
                    steps += 1
                connected = connected and (count[a] == 0 or b == final)
            if connected:
                break
        for a in range(4):
            n = count[a] if a == final else count[a] - 1
            for k in range(n - 1, 0, -1):
                m = _random(state, k + 1)
                edges[a, k], edges[a, m] = edges[a, m], edges[a, k]
        used[:] = 0
        a = letters[i, 0]
        for j in range(1, length):
            b = edges[a, used[a]]
            used[a] += 1
            shuffled[i, j] = b
            a = b
    return shuffled
