"""Activation of each node along its seqlets, and its mean around its strongest positions.

Summed in a pass over the data that is made anyway; what reads it belongs to the stage.
"""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.activations.loader import Slab, SlabPlan

RADIUS_BP = 500
STRANDS = ("+", "-")
COLUMNS = ("node", "strand", "step_bp", "n_loci", "mean_activation", "n_covered")


class Profiles:
    """Sums over a pass, and each shown seqlet's activations.

    Takes ``16 n_nodes (2 R + 1)`` bytes, R positions in `RADIUS_BP`, 4 bytes a position of each
    shown seqlet, and a search among a node's strongest positions for each activation.

    Parameters
    ----------
    top
        node, rank, window, position of the strongest positions of each node.
    is_shown
        (n,) bool, of which positions to keep the activation along the seqlet.
    n_nodes
        Nodes of the SAE.
    plan
        The positions of the pass.
    is_reverse
        (n_windows,) bool, whether the model read the window on the reverse strand.
    bp_per_position
        Base pairs that a position covers.
    seqlet_width_bp
        Width of a seqlet.
    """

    def __init__(
        self,
        top: pd.DataFrame,
        is_shown: NDArray[np.bool_],
        n_nodes: int,
        plan: SlabPlan,
        is_reverse: NDArray[np.bool_],
        bp_per_position: int,
        seqlet_width_bp: int,
    ) -> None:
        self._n_positions = plan.source.n_positions
        self._bp = bp_per_position
        self._reach = max(1, RADIUS_BP // bp_per_position)
        node, window, position = (
            top[name].to_numpy(np.int64) for name in ("node", "window", "position")
        )
        place = window * self._n_positions + position
        order = np.lexsort((place, node))
        self._place, of_node = place[order], node[order]
        self._node, self._rank = of_node, top["rank"].to_numpy()[order]
        self._start = np.searchsorted(of_node, np.arange(n_nodes + 1))
        self._strand = is_reverse[window[order]].astype(np.int64)
        first, last = self._ranges(plan)
        mine = np.searchsorted(first, self._place, "right") - 1
        self._low = np.maximum(first[mine] - self._place, -self._reach)
        self._high = np.minimum(last[mine] - 1 - self._place, self._reach)
        self._sums = np.zeros((n_nodes, 2, 2 * self._reach + 1))
        edges = np.zeros((n_nodes, 2, 2 * self._reach + 2), np.int64)
        np.add.at(edges, (of_node, self._strand, self._low + self._reach), 1)
        np.add.at(edges, (of_node, self._strand, self._high + self._reach + 1), -1)
        self._n = np.cumsum(edges, axis=2)[:, :, :-1]
        self._along = self._of_seqlets(is_shown[order], seqlet_width_bp)

    def _of_seqlets(self, is_shown: NDArray[np.bool_], width_bp: int) -> NDArray[np.float32]:
        """0 at each position that a shown seqlet overlaps, NaN where its window has none."""
        reach = min(positions_beside(width_bp, self._bp), self._reach)
        self._row = np.where(is_shown, np.cumsum(is_shown) - 1, -1)
        offset = np.arange(-reach, reach + 1)
        low, high = self._low[is_shown, None], self._high[is_shown, None]
        return np.where((offset >= low) & (offset <= high), 0, np.nan).astype(np.float32)

    def _ranges(self, plan: SlabPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last (exclusive) place of each stretch of kept positions of a window."""
        stretches = plan.stretches
        stretches = stretches[np.lexsort((stretches[:, 1], stretches[:, 0]))]
        first = stretches[:, 0] * self._n_positions + stretches[:, 1]
        last = stretches[:, 0] * self._n_positions + stretches[:, 2]
        # a slab's end cuts no stretch, the window's does
        begins = np.ones(len(first), bool)
        begins[1:] = (first[1:] != last[:-1]) | (stretches[1:, 0] != stretches[:-1, 0])
        return first[begins], last[np.append(np.flatnonzero(begins)[1:] - 1, len(last) - 1)]

    def add(self, slab: Slab, value: np.ndarray, node: np.ndarray, count: np.ndarray) -> None:
        """Take in the active nodes of a slab: (n, width) float32 and int32, of which the first
        count[i] of row i hold."""
        place = slab.window * self._n_positions + slab.position
        _add(
            place, value, node, count, self._start, self._place, self._strand, self._low,
            self._high, self._reach, self._sums, self._row, self._along,
        )  # fmt: skip

    def along_seqlets(self) -> pd.DataFrame:
        """node, rank, step_bp, activations, of table `seqlet_activation`: one row a shown seqlet,
        in reading direction, the middle value its own position's."""
        is_shown = self._row >= 0
        table = pd.DataFrame(
            {
                "node": self._node[is_shown].astype(np.int32),
                "rank": self._rank[is_shown].astype(np.int32),
                "step_bp": self._bp,
                "activations": list(self._along),
            }
        )
        return table.sort_values(["node", "rank"], ignore_index=True)

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, of table `node_profile`: one row a node and strand on which some of its
        strongest positions were read."""
        n_loci = self._n[:, :, self._reach]
        node, strand = np.nonzero(n_loci)
        n = self._n[node, strand]
        mean = np.divide(self._sums[node, strand], n, out=np.full(n.shape, np.nan), where=n > 0)
        return pd.DataFrame(
            {
                "node": node.astype(np.int32),
                "strand": [STRANDS[i] for i in strand],
                "step_bp": self._bp,
                "n_loci": n_loci[node, strand],
                "mean_activation": list(mean),
                "n_covered": list(n),
            }
        )


def positions_beside(width_bp: int, bp_per_position: int) -> int:
    """Positions on either side of a seqlet's own that it overlaps, the wider side's.

    >>> positions_beside(26, 7), positions_beside(26, 2), positions_beside(26, 128)
    (2, 6, 0)
    """
    left_bp = width_bp // 2 - bp_per_position // 2
    right_bp = width_bp - left_bp - bp_per_position
    return max(0, -(-left_bp // bp_per_position), -(-right_bp // bp_per_position))


@numba.njit(nogil=True, cache=True)
def _add(  # type: ignore[no-untyped-def]
    place, value, node, count, start, top, strand, low, high, reach, sums, row, along
):
    beside = along.shape[1] // 2
    for i in range(len(place)):
        for e in range(count[i]):
            j = node[i, e]
            first, last = start[j], start[j + 1]
            t = first + np.searchsorted(top[first:last], place[i] - reach)
            while t < last and top[t] <= place[i] + reach:
                offset = place[i] - top[t]
                if low[t] <= offset <= high[t]:
                    sums[j, strand[t], offset + reach] += value[i, e]
                    if row[t] >= 0 and abs(offset) <= beside:
                        along[row[t], offset + beside] = value[i, e]
                t += 1
