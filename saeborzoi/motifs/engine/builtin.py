"""Built-in motif discovery: MEME's model, search and statistics, written from the papers and from
its documented options, with nothing to install.

ZOOPS expectation maximization (Bailey & Elkan 1994, 1995: zero or one occurrence a sequence,
starting points from subsequences, erasing of motifs that were found) over widths that grow by the
square root of 2 and, at each, over numbers of sites that may be expected; for each converged matrix
the number of sites and the run of columns with the smallest E-value (Bailey & Gribskov 1998; Hertz
& Stormo 1999). Nothing is drawn at random. `README.md` beside this file has the method in order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs import properties
from saeborzoi.motifs.engine.copies import copy_weights
from saeborzoi.motifs.engine.search import Motif, Search
from saeborzoi.motifs.engine.search_data import SearchData
from saeborzoi.motifs.sequences import Sequences


def widths_to_try(min_width: int, max_width: int) -> list[int]:
    """Widths from `min_width`, each sqrt(2) times the last, and `max_width`.

    >>> widths_to_try(8, 34)
    [8, 11, 15, 21, 29, 34]
    """
    widths = []
    width = min_width
    while width < max_width:
        widths.append(width)
        width = max(width + 1, int(width * math.sqrt(2)))
    return [*widths, max_width]


def find_motifs(
    sequences: Sequences,
    background: NDArray[np.float64],
    *,
    n_motifs: int,
    min_width: int,
    max_width: int,
    both_strands: bool,
    max_e_value: float = 0.05,
    min_sites: int | None = None,
    weights: NDArray[np.float64] | None = None,
    keep_table: bool = False,
) -> list[Motif]:
    """The motifs of one set of sequences; the same for any order of the sequences.

    Parameters
    ----------
    sequences
        Sequences of at least `min_width` bp (shorter ones hold no site).
    background
        (4,) float64, probability of A C G T.
    n_motifs, min_width, max_width
        How many motifs, and their widths in bp.
    both_strands
        Whether a site may lie on the reverse complement.
    max_e_value
        The search ends with the first motif above it.
    min_sites
        A motif with fewer is suspect; left out, `properties.least_sites`.
    weights
        (n_sequences,) float64, what a site of each sequence counts for `min_sites` and repeats;
        left out, `copies.copy_weights`.
    keep_table
        Keep the tables of significance for the next set with the same background.

    Returns
    -------
    list of Motif
        At most `n_motifs` motifs in the order in which they were found, each after erasing the
        sites of those before. After them come at most as many suspect ones: they were found first
        and put aside, and the search went on in what they left. Only the last of the others may
        be above `max_e_value`.
    """
    search = Search(
        SearchData.of(sequences, background, min_width, both_strands, keep_table),
        widths_to_try(min_width, max(min(max_width, int(sequences.lengths.max())), min_width)),
        min_sites or properties.least_sites(sequences.lengths.size),
        copy_weights(sequences, both_strands) if weights is None else weights,
    )
    motifs: list[Motif] = []
    suspects: list[Motif] = []
    while len(motifs) < n_motifs:
        motif = search.best(allow_suspect=len(suspects) < n_motifs)
        if motif is None:
            break
        if motif.log_e_value >= math.log(max_e_value):
            motifs.append(motif._replace(suspect=None))
            break
        (motifs if motif.suspect is None else suspects).append(motif)
        search.put_aside(motif)
    return motifs + suspects
