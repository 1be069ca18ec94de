"""What a node's motif says of both alleles of a variant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.genome.alleles import allele_letters
from saeborzoi.genome.fasta import Genome
from saeborzoi.motifs.evidence import log_odds

_CODE = np.full(256, 4, np.uint8)
_CODE[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
_UNIFORM = np.full(4, 0.25)


def motif_bits(
    variants: pd.DataFrame,
    nodes: NDArray[np.int64],
    matrices: Mapping[int, NDArray[np.float64]],
    genome: Genome,
    both_strands: bool,
) -> pd.DataFrame:
    """Score of a node's motif on both alleles, at its best place that holds a changed letter.

    Parameters
    ----------
    variants
        (n,) rows as `Variants.table`.
    nodes
        (n,) the node of each.
    matrices
        Node to its motif (width, 4) of probabilities; a node without one has no score.
    both_strands
        Whether the motif may lie on either strand.

    Returns
    -------
    DataFrame
        motif_ref_bits, motif_alt_bits: log2 odds against a uniform background; NaN without a motif.
    """
    bits = np.full((len(variants), 2), np.nan)
    rows = variants[["chrom", "start_bp", "ref", "alt"]].reset_index(drop=True)
    for node in np.unique(nodes):
        if int(node) not in matrices:
            continue
        scores = log_odds(matrices[int(node)], _UNIFORM) / np.log(2)
        width = len(scores)
        turned = [scores, scores[::-1, ::-1]] if both_strands else [scores]
        here = np.flatnonzero(nodes == node)
        some = rows.iloc[here]
        longest = int(max(some["ref"].str.len().max(), some["alt"].str.len().max()))
        start = some["start_bp"].to_numpy(np.int64) - (width - 1)
        letters = allele_letters(genome, some, start, longest + 2 * (width - 1))
        for side, (side_letters, alleles) in enumerate(
            ((letters.ref, some["ref"]), (letters.alt, some["alt"]))
        ):
            codes = _CODE[side_letters]
            n_places = alleles.str.len().to_numpy(np.int64) + width - 1
            best = np.full(len(here), -np.inf)
            for matrix in turned:
                padded = np.hstack([matrix, np.zeros((width, 1))])  # N says nothing
                for offset in range(int(n_places.max())):
                    score = padded[np.arange(width), codes[:, offset : offset + width]].sum(1)
                    best = np.where(offset < n_places, np.maximum(best, score), best)
            bits[here, side] = best
    return pd.DataFrame(bits, columns=["motif_ref_bits", "motif_alt_bits"], index=variants.index)


def best_place(
    text: str, matrix: NDArray[np.float64], low: int, high: int, both_strands: bool
) -> tuple[int, bool, float] | None:
    """Where a motif scores best on a text, holding one of its letters `low ... high`.

    Returns
    -------
    tuple or None
        Offset, whether it lies on the reverse strand, and the score in bits; None where the text is
        too short.

    Examples
    --------
    >>> word = np.eye(4)[[0, 1, 2, 3]]
    >>> best_place("TTACGTTT", word, 3, 4, False)[:2]
    (2, False)
    """
    scores = np.vstack([(log_odds(matrix, _UNIFORM) / np.log(2)).T, np.zeros(len(matrix))]).T
    codes = _CODE[np.frombuffer(text.encode(), np.uint8)]
    width = len(scores)
    turned = np.hstack([scores[::-1, 3::-1], np.zeros((width, 1))])
    places = [
        (offset, is_reverse, float(table[np.arange(width), codes[offset : offset + width]].sum()))
        for is_reverse, table in ((False, scores), *([(True, turned)] if both_strands else []))
        for offset in range(max(0, low - width + 1), min(high, len(text) - width + 1))
    ]
    return max(places, key=lambda place: place[2]) if places else None
