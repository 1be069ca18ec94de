"""Which seqlets of a node are shown: the strongest of each band of activation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEQLETS_PER_BAND = 50
"""Seqlets of each band of activation that a site carries: the strongest."""
BANDS = (0.75, 0.5, 0.25, 0.0)
"""Lower ends of the bands of activation, as fractions of the node's maximum."""


def bands_of(activation: NDArray[np.float64], maximum: NDArray[np.float64]) -> NDArray[np.int64]:
    """Band of each activation, (n,) int: place in `BANDS`; `maximum` is that of its node, (n,)."""
    fraction = activation / np.where(maximum > 0, maximum, 1)
    # a band includes its upper end only at the top, where the maximum itself lies
    return np.searchsorted(-np.array(BANDS[:-1]), -fraction, side="left")


def shown(node: NDArray[np.int64], band: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the first `SEQLETS_PER_BAND` of each node and band, in order; (n,) both, in order
    of rank within a node."""
    groups = node * len(BANDS) + band
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_first)
    place = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    return np.sort(order[place < SEQLETS_PER_BAND])
