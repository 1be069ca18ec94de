"""Activations computed where they are needed: windows of the genome, a model and a layer.

Which tiles are cut from the genome, and which positions count; how a tile is run belongs to
`saeborzoi.models.layer`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.reader import Raw
from saeborzoi.activations.source import SLAB_POSITIONS
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows, kept_positions
from saeborzoi.genome.fasta import reverse_complement
from saeborzoi.models.layer import LayerGeometry, LayerRunner, one_hot
from saeborzoi.models.model import SequenceModel

_IS_BASE = np.isin(np.arange(256), np.frombuffer(b"ACGTacgt", np.uint8))


class Places(NamedTuple):
    """Where the positions of windows lie on the genome: pad_bp on either side are seen but do not
    count, and a position stands for bp_per_position base pairs."""

    windows: Windows
    bp_per_position: int
    pad_bp: int

    @property
    def n_positions(self) -> int:
        """Of each window.

        Raises
        ------
        InputError
            Where windows differ in length, or it is no whole number of positions.
        """
        w = self.windows
        seen_bp = w.end_bp - w.start_bp + 2 * self.pad_bp
        odd = (seen_bp != seen_bp[0]) | (seen_bp % self.bp_per_position != 0)
        if odd.any():
            i = int(odd.argmax())
            raise InputError(
                f"{w.path}, line {w.line[i]}: the window has "
                f"{w.end_bp[i] - w.start_bp[i]} bp with 2 x {self.pad_bp} bp of padding; needed is "
                f"one length for all ({seen_bp[0]} bp in the first line), a multiple of the "
                f"{self.bp_per_position} bp of a position; cut the windows to such a length"
            )
        return int(seen_bp[0]) // self.bp_per_position

    def letters(self, genome: Genome, row: int, first_bp: int, n_bp: int) -> NDArray[np.uint8]:
        """(n_bp,) upper-case letters as the model reads them, from `first_bp` of what it sees of
        a window (which may be negative); N beyond the chromosome's ends."""
        w = self.windows
        is_reverse = bool(w.reverse([row])[0])
        if is_reverse:
            start = int(w.end_bp[row]) + self.pad_bp - first_bp - n_bp
        else:
            start = int(w.start_bp[row]) - self.pad_bp + first_bp
        letters = genome.padded([w.chrom[row]], [start], n_bp)[0]
        return reverse_complement(letters) if is_reverse else letters


class Scan(NamedTuple):
    """What looking through all the windows' letters shows.

    Attributes
    ----------
    pieces
        (n_ranges, 5) int64, as `shards.kept_pieces`: each locus once, and no position whose
        receptive field holds a letter other than A, C, G, T or reaches beyond the chromosome.
    digest
        Of the letters that the model sees, the windows' order and strands.
    """

    pieces: NDArray[np.int64]
    digest: str


def scan(places: Places, genome: Genome, before_bp: int, after_bp: int) -> Scan:
    """Look through the windows.

    Parameters
    ----------
    before_bp, after_bp
        What a position sees beside the base pairs that it covers.

    Raises
    ------
    InputError
        Where a window does not lie on the genome, or no position is left.
    """
    bp, n = places.bp_per_position, places.n_positions
    ranges = kept_positions(places.windows, n, bp, places.pad_bp)
    digest = hashlib.blake2b(digest_size=16)
    pieces: list[tuple[int, int, int, int, int]] = []
    for row, first, last in ranges.tolist():
        width = (last - first) * bp + before_bp + after_bp
        letters = places.letters(genome, row, first * bp - before_bp, width)
        digest.update(f"{row}\0{first}\0{last}\0".encode())
        digest.update(letters.tobytes())
        n_other = np.concatenate([[0], np.cumsum(~_IS_BASE[letters])])
        step = np.arange(last - first) * bp
        is_clean = n_other[step + before_bp + bp + after_bp] == n_other[step]
        edges = np.flatnonzero(
            np.diff(np.concatenate([[False], is_clean, [False]]).astype(np.int8))
        )
        pieces += [
            (0, row, first + a, first + b, row)
            for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        ]
    if not pieces:
        raise InputError(
            f"{places.windows.path}: no position is left: in every window what a position sees "
            "holds N or reaches beyond the chromosome; bring the windows of this genome"
        )
    return Scan(np.array(pieces, np.int64), digest.hexdigest())


class LiveSource:
    """Activations of a layer on windows of the genome; a `Source`.

    Where a tile begins depends on its place in the window alone, so that a value is the same
    whatever is asked for around it.

    Parameters
    ----------
    model, geometry
        The model, and its layer as measured.
    genome, places
        What is read, and where.
    stored_as
        "float16", or "float32" where values do not fit that.
    tile_positions
        Positions that are computed at once; more than a slab has make no difference.

    Raises
    ------
    InputError
        Where windows do not fit the layer.
    """

    def __init__(
        self,
        model: SequenceModel,
        geometry: LayerGeometry,
        genome: Genome,
        places: Places,
        stored_as: str = "float16",
        tile_positions: int = 2048,
    ) -> None:
        self.model, self.geometry, self.genome, self.places = model, geometry, genome, places
        self.n_positions = places.n_positions
        self.n_channels = geometry.n_channels
        self.dtype = np.dtype(stored_as)
        # a slab is not a tile, so that the order of training does not depend on the latter
        self._slab = (
            self.n_positions if geometry.is_whole else min(SLAB_POSITIONS, self.n_positions)
        )
        self._runner = LayerRunner(model, geometry, min(tile_positions, self._slab))
        self._lock = threading.Lock()
        if geometry.is_whole and geometry.n_positions != self.n_positions:
            raise InputError(
                f"{places.windows.path}: windows of {self.n_positions} positions, but layer "
                f"{geometry.module} is right on whole inputs of {geometry.n_positions} positions "
                f"({geometry.receptive_field_bp:,} bp) only; bring windows of that length, or set "
                "pad_bp of the layer so that they are"
            )

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.geometry.module} on {self.places.windows.path}"

    def slab_shape(self, place: int) -> tuple[int, int]:
        """The same for every tile."""
        return 1, self._slab

    @cached_property
    def scan(self) -> Scan:
        """See `scan`; made at the first use."""
        g = self.geometry
        # a layer that sees everything would lose a whole window to one N
        before, after = (0, 0) if g.is_whole else (g.before_bp, g.after_bp)
        return scan(self.places, self.genome, before, after)

    def everything(self) -> NDArray[np.int64]:
        """What counts: padding is not computed, and N would decide the maxima."""
        return self.scan.pieces

    @contextlib.contextmanager
    def reader(self) -> Iterator[LiveSource]:
        """Itself: nothing is opened."""
        yield self

    def read(self, place: int, rows: slice, positions: slice) -> Raw:
        """Activations (n_rows, n_positions, n_channels).

        Raises
        ------
        InputError
            Where a value is not finite, or does not fit float16; names the place.
        """
        return np.stack([self._row(row, positions) for row in range(rows.start, rows.stop)])

    def is_plain(self, place: int) -> bool:
        """Nothing lies in a file."""
        return False

    def scatter(
        self, place: int, row: int, first: int, pool: Raw, target: NDArray[np.int64]
    ) -> None:
        """As `read`, into rows of an array."""
        pool[target] = self._row(row, slice(first, first + len(target)))

    @property
    def device(self) -> torch.device:
        """The model's."""
        return self.model.device

    def read_there(self, row: int, positions: slice) -> torch.Tensor:
        """As `read`, of one row, on the model's device."""
        n, parts, low = self._runner.tiling.n_positions, [], positions.start
        while low < positions.stop:
            slab = low // self._slab * self._slab
            tile = slab + (low - slab) // n * n
            high = min(tile + n, slab + self._slab, positions.stop)
            parts.append(self._tile(row, tile)[low - tile : high - tile])
            low = high
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _row(self, row: int, positions: slice) -> Raw:
        values: Raw = self.read_there(row, positions).cpu().numpy()
        return values

    def _tile(self, row: int, first: int) -> torch.Tensor:
        """(n_positions, n_channels) of a tile."""
        tiling, bp = self._runner.tiling, self.places.bp_per_position
        letters = self.places.letters(
            self.genome, row, first * bp - tiling.lead_bp, tiling.input_bp
        )
        with self._lock:  # one pass at a time: PyTorch uses every core by itself
            values = self._runner.tile(one_hot(letters))
        stored = values.to(torch.float16 if self.dtype == np.float16 else torch.float32)
        if not torch.isfinite(stored).all():
            self._say_which(stored.cpu().numpy(), values.cpu().numpy(), row, first)
        return stored

    def _say_which(self, stored: Raw, values: NDArray[np.float32], row: int, first: int) -> None:
        """Refuse values that are not finite, where it is not only beyond the window."""
        position, channel = (int(i) for i in np.argwhere(~np.isfinite(stored))[0])
        w = self.places.windows
        where = f"{w.chrom[row]}:{w.start_bp[row]}-{w.end_bp[row]}"
        value = values[position, channel]
        fix = (
            'set stored_as = "float32" in [model] (float16 ends at 65504)'
            if np.isfinite(value)
            else 'the model\'s weights or dtype make it overflow: set dtype = "float32" in [model]'
        )
        raise InputError(
            f"{self.name}: the activation in {where}, position {first + position}, channel "
            f"{channel} is {value:g}, which is not finite as {self.dtype}; {fix}"
        )

    def identity(self) -> dict[str, Any]:
        """`data_fingerprint`, and `data_parts`: model, layer, how it is computed, and windows
        (with their letters); another name of module, or device, is the same data."""
        g = self.geometry
        parts = {
            "model": self.model.fingerprint,
            "layer": f"{g.module}, {g.n_channels} channels, {g.bp_per_position} bp",
            "computed as": f"{self.model.dtype}, stored as {self.dtype}",
            "windows on genome": self.scan.digest,
        }
        text = json.dumps(parts, sort_keys=True).encode()
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        return {"data_fingerprint": digest, "data_parts": parts}
