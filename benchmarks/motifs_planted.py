"""Motifs of JASPAR planted in random sequences: whether the search from few starting points finds
as small an E-value as one from nearly all, and how often a second motif is called where there is
none.

    python benchmarks/motifs_planted.py [--shares 0.05 0.2 0.6] [--lengths 18 34] [--names CTCF ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pyjaspar
from numpy.typing import NDArray

from saeborzoi.motifs.engine import starts
from saeborzoi.motifs.engine.builtin import Motif, find_motifs
from saeborzoi.motifs.sequences import encode, letter_frequencies

NAMES = (
    "CTCF", "GATA1", "JUN", "SPI1", "TP53", "NRF1", "HNF4A", "REST", "MEF2A", "CEBPA", "NFYA",
    "ETS1", "RUNX1",
)  # fmt: skip
N_SEQUENCES = 1000
COMPOSITION = (0.29, 0.21, 0.21, 0.29)
NEARLY_ALL = 2500
LOG_E = np.log(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2, 0.6])
    parser.add_argument("--lengths", type=int, nargs="+", default=[18, 34])
    parser.add_argument("--names", nargs="+", default=NAMES)
    arguments = parser.parse_args()
    few = starts._N_ALIGNED
    shortfall, seconds, second, n_one = [], np.zeros(2), 0, 0
    for name, both, texts in sets(arguments):
        found = []
        for arm, n_ranked in enumerate((few, NEARLY_ALL)):
            starts._N_ALIGNED = n_ranked
            begun = time.process_time()
            found.append(search(texts))
            seconds[arm] += time.process_time() - begun
        own, all_starts = (motifs[0].log_e_value / np.log(10) for motifs in found)
        shortfall.append(own - all_starts)
        if shortfall[-1] > 1:
            print(f"{name}: log10 E {own:.1f}, from nearly all starts {all_starts:.1f}")
        if not both:
            n_one += 1
            second += len(found[0]) > 1 and found[0][1].log_e_value < LOG_E
    print(
        f"{sum(x <= 1 for x in shortfall)} of {len(shortfall)} sets within 1 of log10 E, at "
        f"1 / {seconds[1] / seconds[0]:.0f} of the CPU time; a second motif with E < 0.05 in "
        f"{second} of {n_one} sets with one motif on one strand"
    )


def sets(arguments: argparse.Namespace) -> Iterator[tuple[str, bool, list[str]]]:
    """Name, whether the motif lies on both strands, and sequences."""
    jaspar = pyjaspar.jaspardb(release="JASPAR2024")
    for name in arguments.names:
        counts = jaspar.fetch_motifs_by_name(name)[0].counts
        matrix = np.array([counts[letter] for letter in "ACGT"]).T + 0.1
        matrix /= matrix.sum(axis=1, keepdims=True)
        for share in arguments.shares:
            for length in (n for n in arguments.lengths if n >= len(matrix)):
                for both in (False, True):
                    text = f"{name} in {share:.0%} of {length} bp"
                    yield text, both, planted(matrix, share, length, both)


def planted(matrix: NDArray[np.float64], share: float, length: int, both: bool) -> list[str]:
    rng = np.random.default_rng(length)
    texts = []
    for _ in range(N_SEQUENCES):
        codes = rng.choice(4, length, p=COMPOSITION)
        if rng.random() < share:
            site = np.array([rng.choice(4, p=column) for column in matrix])
            if both and rng.random() < 0.5:
                site = 3 - site[::-1]
            start = rng.integers(length - len(matrix) + 1)
            codes[start : start + len(matrix)] = site
        texts.append("".join("ACGT"[code] for code in codes))
    return texts


def search(texts: list[str]) -> list[Motif]:
    sequences = encode(texts)
    return find_motifs(
        sequences,
        letter_frequencies(sequences),
        n_motifs=2,
        min_width=8,
        max_width=int(sequences.lengths.max()),
        both_strands=False,
    )


if __name__ == "__main__":
    main()
