"""A layer's activations of both alleles of variants, near the variant or in whole windows.

Alleles of one length meet position by position. Where an allele changes the length, what follows
is moved, and a layer's positions no longer lie on the same sequence: left of the change they are
those of the window that keeps its start, right of it those of the window that keeps its end, so
that only positions that see the change differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.effects.attribution import Change
from saeborzoi.genome.alleles import Letters, allele_letters, length_changes
from saeborzoi.genome.fasta import Genome
from saeborzoi.models.layer import LayerGeometry, Tiling, one_hot, run_to
from saeborzoi.models.model import SequenceModel

_N = ord("N")


def cut_positions(
    variants: pd.DataFrame, start_bp: NDArray[np.int64], geometry: LayerGeometry
) -> NDArray[np.int64]:
    """(n,) the first position right of each change, in windows that begin at `start_bp`."""
    at = variants["start_bp"].to_numpy(np.int64) - start_bp - geometry.offset_bp
    return at // geometry.bp_per_position + 1


def joined(left: Tensor, right: Tensor, cut: Tensor) -> Tensor:
    """Positions before `cut` (n,) from one, the others from the other, (n, n_positions, ...)."""
    step = torch.arange(left.shape[1], device=left.device)
    return torch.where((step < cut[:, None])[:, :, None], left, right)


class Near(NamedTuple):
    """The layer near some variants.

    Attributes
    ----------
    change
        All positions that see the variant, and some beside them; `first` counts from the window's
        start.
    sees_unknown
        (n, n_positions) bool, positions that see a letter other than A, C, G, T.
    """

    change: Change
    sees_unknown: NDArray[np.bool_]


class NearLayer:
    """Runs a model up to a layer on the few positions that see a variant; keeps no graph.

    Parameters
    ----------
    model, geometry
        The model, and its layer as measured.
    genome
        The reference.
    longest_bp
        Of the alleles; decides the number of positions.
    batch_size
        Sequences at once, always so many.
    """

    def __init__(
        self,
        model: SequenceModel,
        geometry: LayerGeometry,
        genome: Genome,
        longest_bp: int,
        batch_size: int,
    ) -> None:
        g = geometry
        self._model, self._geometry, self._genome = model, g, genome
        self._size = batch_size
        self._module = model.module.get_submodule(g.module)
        width = (g.receptive_field_bp + longest_bp + g.bp_per_position) // g.bp_per_position + 1
        self._tiling = Tiling.of(g, width)

    def __call__(self, variants: pd.DataFrame, start_bp: NDArray[np.int64]) -> Near:
        """The layer near variants, positions counted in windows that begin at `start_bp`."""
        g, t = self._geometry, self._tiling
        if g.is_whole:
            first = np.zeros(len(variants), np.int64)
        else:
            at = variants["start_bp"].to_numpy(np.int64) - start_bp - g.offset_bp
            # what lies behind the last base pair that position `first - 1` sees
            first = -((g.bp_per_position + g.after_bp - 1 - at) // g.bp_per_position)
        tile_bp = start_bp + g.offset_bp + first * g.bp_per_position - t.lead_bp
        letters = allele_letters(self._genome, variants, tile_bp, t.input_bp)
        ref, alt = self._run(letters.ref), self._run(letters.alt)
        if length_changes(variants).any():
            cut = torch.as_tensor(cut_positions(variants, start_bp, g) - first).to(ref.device)
            alt = joined(alt, self._run(letters.alt_right), cut)
        change = Change(torch.as_tensor(first, device=ref.device), ref, alt)
        return Near(change, self._unknown(letters))

    def _run(self, letters: NDArray[np.uint8]) -> Tensor:
        g, t = self._geometry, self._tiling
        parts = []
        for low in range(0, len(letters), self._size):
            some = letters[low : low + self._size]
            with torch.no_grad(), self._model.numerics():
                output = run_to(
                    self._model.module,
                    self._module,
                    same_size(one_hot(some), self._size).to(self._model.device),
                ).float()
            x = output if g.channels_last else output.transpose(1, 2)
            parts.append(x[: len(some), t.n_dropped : t.n_dropped + t.n_positions])
        return torch.cat(parts).contiguous()

    def _unknown(self, letters: Letters) -> NDArray[np.bool_]:
        g, t = self._geometry, self._tiling
        is_n = letters.ref == _N
        n, width = len(is_n), t.n_positions
        if g.is_whole or not is_n.any():
            return np.broadcast_to(is_n.any(1)[:, None], (n, width)).copy()
        count = np.concatenate([np.zeros((n, 1), np.int64), np.cumsum(is_n, 1)], axis=1)
        low = t.lead_bp - g.before_bp + np.arange(width) * g.bp_per_position
        high = np.minimum(low + g.receptive_field_bp, is_n.shape[1])
        return count[:, high] > count[:, np.maximum(low, 0)]


def same_size(batch: Tensor, n: int) -> Tensor:
    """A batch of always the same size: the first sequence repeated at its end."""
    lack = n - len(batch)
    return torch.cat([batch, batch[:1].expand(lack, *batch.shape[1:])]) if lack > 0 else batch
