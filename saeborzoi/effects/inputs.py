"""Sequences of the length that a model takes, cut from windows of the genome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saeborzoi.activations.live import Places
from saeborzoi.effects.targets import Targets
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows
from saeborzoi.models.layer import one_hot


class Batch(NamedTuple):
    """Sequences that a model takes at once.

    Attributes
    ----------
    one_hot
        (n, 4, input_bp) float32.
    target
        (n, n_tracks, n_bins) what was measured there, on the model's scale (probabilities where
        the model gives logits); None where it is not known.
    """

    one_hot: Tensor
    target: Tensor | None = None


class SequencesOfWindows:
    """Batches of sequences on windows; can be gone through several times.

    A window as long as the model's input is one sequence; a shorter one is extended by the genome
    on both sides alike, a longer one is cut into several.

    Parameters
    ----------
    windows, genome
        Where; a window on the reverse strand is read on it.
    input_bp
        Base pairs that the model takes.
    step_bp
        Base pairs between starts of sequences of one window; None for `input_bp`.
    pad_bp
        Base pairs on either side of a window that belong to it, as `pad_bp` of a layer.
    batch_size
        Sequences of a batch; the last one may have fewer.
    at_most
        Sequences, spread evenly over all; None for all.
    n_fraction
        Sequences with a larger share of other letters than A, C, G, T, as beyond a chromosome's
        end, are left out.
    targets
        What was measured on each window, which must give one sequence then; None where it is not
        known.

    Raises
    ------
    InputError
        Where nothing is left, or a window with targets gives several sequences.
    """

    def __init__(
        self,
        windows: Windows,
        genome: Genome,
        input_bp: int,
        *,
        step_bp: int | None = None,
        pad_bp: int = 0,
        batch_size: int = 1,
        at_most: int | None = None,
        n_fraction: float = 0.0,
        targets: Targets | None = None,
    ) -> None:
        self._places, self._genome = Places(windows, 1, pad_bp), genome
        self._input_bp, self._batch_size = input_bp, batch_size
        self._targets = targets
        seen_bp = windows.end_bp - windows.start_bp + 2 * pad_bp
        starts = [
            (row, first)
            for row, n_bp in enumerate(seen_bp.tolist())
            for first in _starts(n_bp, input_bp, step_bp or input_bp)
        ]
        if targets is not None and len(starts) != len(windows):
            raise InputError(
                f"{windows.path}: {len(windows):,} windows give {len(starts):,} sequences of "
                f"{input_bp:,} bp, but {targets.path} has one row a window; bring windows of at "
                f"most {input_bp:,} bp"
            )
        clean = [start for start in starts if self._n_share(*start) <= n_fraction]
        if not clean:
            raise InputError(
                f"{windows.path}: none of {len(starts)} sequences of {input_bp:,} bp is left: in "
                f"each more than {n_fraction:.0%} is N or beyond the chromosome; bring other "
                "windows, or allow more"
            )
        self.n_left_out = len(starts) - len(clean)
        if at_most is not None and at_most < len(clean):
            chosen = np.linspace(0, len(clean) - 1, at_most).round().astype(int)
            clean = [clean[i] for i in chosen]
        self._starts = clean

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self._starts)

    def __iter__(self) -> Iterator[Batch]:
        """Batches, in the order of the windows."""
        for low in range(0, len(self), self._batch_size):
            some = self._starts[low : low + self._batch_size]
            letters = torch.stack([one_hot(self._letters(*start)) for start in some])
            rows = [row for row, _ in some]
            yield Batch(letters, None if self._targets is None else self._targets.of(rows))

    def one_hot(self, sequence: int) -> Tensor:
        """(1, 4, input_bp) of one sequence."""
        return one_hot(self._letters(*self._starts[sequence]))[None]

    def _letters(self, row: int, first_bp: int) -> np.ndarray:
        return self._places.letters(self._genome, row, first_bp, self._input_bp)

    def _n_share(self, row: int, first_bp: int) -> float:
        return float(1 - np.isin(self._letters(row, first_bp), _BASES).mean())


_BASES = np.frombuffer(b"ACGT", np.uint8)


def _starts(seen_bp: int, input_bp: int, step_bp: int) -> range:
    """First base pairs of the sequences of a window; negative before it.

    >>> list(_starts(500, 200, 100)), list(_starts(100, 200, 100))
    ([0, 100, 200, 300], [-50])
    """
    if seen_bp < input_bp:
        return range(-((input_bp - seen_bp) // 2), 1, input_bp)
    return range(0, seen_bp - input_bp + 1, step_bp)
