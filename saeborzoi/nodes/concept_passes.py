"""Passes over positions that give each active node's level, see `concept_kernels.py`.

Nodes and levels of small data are kept from the first pass for the ones after it; what is counted
of them belongs to `concepts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.loader import Slab, SlabPlan
from saeborzoi.jobs.job import Progress, StageInterrupted, silent, stop_requested
from saeborzoi.nodes import concept_kernels as kernels

_KEPT_BYTES = 256 * 2**20
"""Memory of what is kept of a plan's positions, at most."""
Active = Callable[[NDArray[np.generic]], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(n, n_channels) positions as stored to values and nodes (n, width), and count (n,), of those
active."""
Watch = Callable[[Slab, np.ndarray, np.ndarray, np.ndarray], None]
"""Takes a slab with the values, nodes and count of `Active`."""


class Levels(NamedTuple):
    """Active nodes of a slab: where it lies, nodes (n, width) int32 and levels (n, width) uint8, of
    which the first count[i] of row i hold."""

    slab: Slab
    node: np.ndarray
    level: np.ndarray
    n_active: np.ndarray

    @property
    def n_bytes(self) -> int:
        """Memory of its arrays."""
        return sum(array.nbytes for array in (*self.slab, *self[1:]))


class Passes:
    """Passes over positions, one after another.

    Parameters
    ----------
    active
        Active nodes of positions.
    activation_max
        (n_nodes,) float64, largest activation of each node on the training data.
    progress
        Told of every slab.
    """

    def __init__(
        self, active: Active, activation_max: NDArray[np.float64], progress: Progress = silent
    ) -> None:
        self._active, self._activation_max = active, activation_max
        self._progress = progress
        self._kept: dict[int, list[Levels]] = {}

    def over(self, plan: SlabPlan, what: str, watch: Watch | None = None) -> Iterator[Levels]:
        """Every slab of a plan, in order. `watch` gets each of them in the first pass.

        Raises
        ------
        StageInterrupted
            Where `job.stop_requested` was set.
        """
        done = 0
        for levels in self._kept.get(id(plan)) or self._computed(plan, watch):
            yield levels
            done += len(levels.n_active)
            self._progress(what, done, plan.n_positions)
            if stop_requested.is_set():
                raise StageInterrupted(
                    f"stopped after {done:,} of {plan.n_positions:,} positions; run it again"
                )

    def _computed(self, plan: SlabPlan, watch: Watch | None) -> Iterator[Levels]:
        kept: list[Levels] | None = []
        n_bytes = 0
        for slab in plan.in_order():
            value, node, count = self._active(slab.activation)
            if watch is not None:
                watch(slab, value, node, count)
            level = kernels.levels(value, node, count, self._activation_max)
            place = slab._replace(activation=np.empty(0))
            if kept is None:
                yield Levels(place, node, level, count)
                continue
            kept.append(Levels(place, node.copy(), level, count.copy()))
            yield kept[-1]
            n_bytes += kept[-1].n_bytes
            if n_bytes > _KEPT_BYTES:
                kept = None
        if kept is not None:
            self._kept[id(plan)] = kept
