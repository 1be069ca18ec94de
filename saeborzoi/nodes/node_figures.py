"""What a pass over positions leaves of every node, however it was made: its tables.

The pass itself belongs to `top_activations.py` (a CPU) and `device_scan.py` (a GPU).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from saeborzoi.jobs.job import Progress, StageInterrupted, stop_requested

HISTOGRAM_OCTAVES = (-16, 16)
"""Activations from 2^-16 to 2^16 have bins of their own; the ends take what is beyond."""
_BINS_PER_OCTAVE = 4
N_BINS = (HISTOGRAM_OCTAVES[1] - HISTOGRAM_OCTAVES[0]) * _BINS_PER_OCTAVE
FIRST_BITS = (127 + HISTOGRAM_OCTAVES[0]) << 2
"""Exponent and two bits of mantissa of the first bin's lower edge: four bins an octave."""
BIN_SHIFT = 21
"""Bits of a float32 that a bin does not look at."""
_EDGES = (np.arange(FIRST_BITS, FIRST_BITS + N_BINS + 1, dtype=np.uint32) << BIN_SHIFT).view(
    np.float32
)


MAX_COACTIVATION_NODES = 16_384
"""Wider SAEs get no co-activation counts: they would take over 1 GiB."""


class NodeActivations(NamedTuple):
    """What a pass leaves.

    Attributes
    ----------
    top
        One row a kept position: node, rank (0 is the strongest), window, position (int32),
        activation (float32). Of equal activations the earlier position comes first.
    statistics
        One row a node; columns of table `node` but the key.
    coactivation
        (n_nodes, n_nodes) uint32, entry (a, b), a < b: positions where both are active; None
        for SAEs wider than `MAX_COACTIVATION_NODES`.
    n_passes
        Times that the data was read: 1, or 2 where the disk had no room for the activations.
    """

    top: pd.DataFrame
    statistics: pd.DataFrame
    coactivation: scipy.sparse.csr_array | None
    n_passes: int


@dataclass(frozen=True)
class NodeSums:
    """Of the activations of each node above 0.

    Attributes
    ----------
    count, total, squares, largest
        (n_nodes,) int64, float64, float64 and float32.
    histogram
        (n_nodes, n_bins) int64.
    """

    count: NDArray[np.int64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    largest: NDArray[np.float32]
    histogram: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(n_nodes,); 0 of a node that never fires."""
        return self.total / np.maximum(self.count, 1)

    def bounds(self, fraction: float) -> NDArray[np.float64]:
        """(2, n_nodes) float64: fraction x mean, fraction x maximum."""
        return fraction * np.stack([self.mean, self.largest.astype(float)])

    def table(self, n_positions: int, above: NDArray[np.int64]) -> pd.DataFrame:
        """Columns of table `node` but the key."""
        count, mean = self.count, self.mean
        variance = self.squares / np.maximum(count, 1) - mean**2
        edges, counts = zip(*map(_trimmed, self.histogram), strict=True)
        return pd.DataFrame(
            {
                "node": np.arange(len(count), dtype=np.int32),
                "n_positions": np.full(len(count), n_positions),
                "n_nonzero": count,
                "frequency": count / n_positions,
                "activation_max": self.largest.astype(float),
                "activation_mean": mean,
                "activation_std": np.sqrt(np.maximum(variance, 0)),
                "n_above_mean_fraction": above[0],
                "n_above_max_fraction": above[1],
                "histogram_edges": edges,
                "histogram_counts": counts,
            }
        )


def top_table(
    node: NDArray[np.integer],
    rank: NDArray[np.integer],
    identity: NDArray[np.int64],
    value: NDArray[np.float32],
    n_positions: int,
) -> pd.DataFrame:
    """See `NodeActivations.top`; `identity` is window x n_positions + position."""
    window, position = np.divmod(identity, n_positions)
    return pd.DataFrame(
        {
            "node": node.astype(np.int32),
            "rank": rank.astype(np.int32),
            "window": window.astype(np.int32),
            "position": position.astype(np.int32),
            "activation": value,
        }
    )


def report(progress: Progress, done: int, n_positions: int) -> None:
    """Say how far the pass is.

    Raises
    ------
    StageInterrupted
        Where `job.stop_requested` was set.
    """
    progress("top activations", done, n_positions)
    if stop_requested.is_set():
        raise StageInterrupted(f"stopped after {done:,} of {n_positions:,} positions; run it again")


def _trimmed(counts: NDArray[np.int64]) -> tuple[list[float], list[int]]:
    """Edges and counts of a node's histogram, without empty bins at either end."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return [], []
    first, last = int(filled[0]), int(filled[-1]) + 1
    return _EDGES[first : last + 1].tolist(), counts[first:last].tolist()
