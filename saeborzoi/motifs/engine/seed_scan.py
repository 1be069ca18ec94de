"""Compiled loops over starting points: every subsequence of the data is compared with every window
of every sequence.

A window scores the letters in which it agrees with the subsequence. That is all there is to it: a
starting matrix gives each letter of the subsequence `SEED_SHARPNESS` and the others the same.

Scores are kept in binary, many sequences at a time: `bit_planes.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine import bit_planes
from saeborzoi.motifs.engine.bit_planes import BLOCK, LANES, add_word

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]
U8 = NDArray[np.uint64]


def scan_seeds(
    letters: U1,
    lengths: I8,
    is_letter: U1,
    mask: U1,
    is_seed: U1,
    numbers: I8,
    background: F8,
) -> F8:
    """A lower bound of the log-likelihood ratio of each subsequence's best windows.

    The best so many windows agree with the subsequence in a share `f` of their letters. Were it the
    same share in each column, the ratio would be at least `n sum_c KL(f, p_c)`, `p_c` the
    background of the column's letter. It orders subsequences well enough to align a few only.

    Parameters
    ----------
    letters
        (n_sequences, longest) uint8, given strand: the subsequences.
    is_letter, mask
        As of `SearchData` and `MotifWindows`.
    is_seed
        (n_sequences, n_windows) uint8, 1 where a subsequence is to be rated.
    numbers
        (n_numbers,) int64, ascending.

    Returns
    -------
    (n_numbers, n_seeds) float64, nats, of the subsequences in order. Where there are fewer free
    windows than the number, that of all of them; -inf where there are fewer than two.
    """
    n, n_windows = is_seed.shape
    width = letters.shape[1] - n_windows + 1
    x = np.arange(n * width + 1, dtype=float)
    rating = np.full((numbers.size, np.count_nonzero(is_seed)), -np.inf)
    _scan(
        letters, lengths, bit_planes.packed(is_letter), bit_planes.packed(mask), len(mask),
        is_seed, numbers, np.log(background), np.log(1.0 - background),
        x * np.log(np.maximum(x, 1)), bit_planes.planes_for(width), rating,
    )  # fmt: skip
    return rating


@njit(cache=True, nogil=True)
def _scan(
    letters: U1,
    lengths: I8,
    is_letter: U8,
    mask: U8,
    n_strands: int,
    is_seed: U1,
    numbers: I8,
    log_p: F8,
    log_q: F8,
    x_log_x: F8,
    planes: tuple[int, ...],
    rating: F8,
) -> None:
    n, longest = letters.shape
    n_windows = is_seed.shape[1]
    width = longest - n_windows + 1
    n_blocks = (n + BLOCK - 1) // BLOCK
    step = len(planes) * LANES
    agree = np.zeros(n_strands * n_windows * n_blocks * step, np.uint64)
    best = np.zeros(n_blocks * step, np.uint64)
    counts = np.zeros(width // 8 * 8 + 8, np.int64)
    n_rated = 0
    for x in range(n):
        if not is_seed[x].any():
            continue
        for i in range(lengths[x] - width + 1):
            best[:] = 0
            for s in range(n_strands):
                # a row holds one diagonal, along which one letter leaves and one joins
                for j in range(1 if i > 0 else n_windows):
                    row = (s * n_windows + (n_windows - i + j) % n_windows) * n_blocks
                    agree[row * step : (row + n_blocks) * step] = 0
                    word, column = letters[x, i : i + width], s * 4 * longest + j
                    add_word(planes, agree, row * step, n_blocks, word, is_letter, column, longest)
                    if is_seed[x, i]:
                        free = (s * n_windows + j) * n_blocks
                        for k in range(n_blocks):
                            bit_planes.keep_larger(
                                planes, best, k * step, agree, (row + k) * step,
                                mask, (free + k) * LANES,
                            )  # fmt: skip
                if i == 0:
                    continue
                joins = (s * 4 + letters[x, i + width - 1]) * longest + width - 1
                leaves = (s * 4 + letters[x, i - 1]) * longest - 1
                # the rows of diagonals below the first one are at the end
                for first, last in ((1, i), (max(i, 1), n_windows)):
                    row = (s * n_windows + (n_windows - i + first) % n_windows) * n_blocks
                    for k in range(n_blocks):
                        bit_planes.move_and_keep_larger(
                            planes, best, k * step, agree, (row + k) * step,
                            is_letter, ((joins + first) * n_blocks + k) * LANES,
                            is_letter, ((leaves + first) * n_blocks + k) * LANES,
                            mask, ((s * n_windows + first) * n_blocks + k) * LANES,
                            last - first, n_blocks,
                        )  # fmt: skip
            if is_seed[x, i]:
                sum_p, sum_q = 0.0, 0.0
                for c in range(width):
                    sum_p += log_p[letters[x, i + c]] / width
                    sum_q += log_q[letters[x, i + c]] / width
                _rate(
                    best, n_blocks, width, numbers, sum_p, sum_q, x_log_x, planes, counts,
                    rating[:, n_rated],
                )  # fmt: skip
                n_rated += 1


@njit(cache=True, nogil=True)
def _rate(
    best: U8,
    n_blocks: int,
    width: int,
    numbers: I8,
    mean_log_p: float,
    mean_log_q: float,
    x_log_x: F8,
    planes: tuple[int, ...],
    counts: I8,
    rating: F8,
) -> None:
    """The bound of `scan_seeds` at each number, from each sequence's best agreement."""
    g, taken, letters = 0, 0, 0
    bit_planes.count_each(planes, best, 0, n_blocks, width // 8 + 1, counts)
    for agree in range(width, -1, -1):
        here = counts[agree] if agree > 0 else 0  # no free window, or none that agrees at all
        last = agree == 0
        while g < numbers.size and (last or taken + here >= numbers[g]):
            n = taken if last else numbers[g]
            if n < 2:
                break
            alike = letters + (n - taken) * agree
            unlike = n * width - alike
            rating[g] = (
                x_log_x[alike] + x_log_x[unlike] - x_log_x[n * width]
                - alike * mean_log_p - unlike * mean_log_q
            )  # fmt: skip
            g += 1
        letters += here * agree
        taken += here
