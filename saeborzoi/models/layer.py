"""One layer of a sequence model: running the model up to it, on tiles that give the same as the
whole sequence. How its geometry is measured is in `measure.py`; which genome a tile is cut from is
the business of `saeborzoi.activations.live`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saeborzoi.errors import InputError
from saeborzoi.models.model import SequenceModel

TILE_POSITIONS = 2048
"""Positions that are computed at once, unless the settings say otherwise."""

_ONE_HOT = np.zeros((256, 4), np.float32)
for _i, _letter in enumerate(b"ACGT"):
    _ONE_HOT[_letter, _i] = _ONE_HOT[_letter + 32, _i] = 1


@dataclass(frozen=True)
class LayerGeometry:
    """Where the positions of a layer lie on the input, as measured.

    Attributes
    ----------
    module
        Name of the module whose output the layer is.
    n_channels
        Channels of a position.
    bp_per_position
        Base pairs from a position to the next.
    receptive_field_bp
        Base pairs that a position sees; all of the input where `is_whole`.
    offset_bp
        Base pairs of the input before those that position 0 covers, which lie in the middle of
        what it sees.
    channels_last
        Whether the module's output is (n, positions, channels), not (n, channels, positions).
    is_whole
        Whether only whole inputs give right values, as after attention, or where the model takes
        no other length.
    n_positions
        Positions of a whole input; only where `is_whole`.
    """

    module: str
    n_channels: int
    bp_per_position: int
    receptive_field_bp: int
    offset_bp: int
    channels_last: bool = False
    is_whole: bool = False
    n_positions: int | None = None

    @property
    def before_bp(self) -> int:
        """Base pairs that a position sees before those that it covers."""
        return (self.receptive_field_bp - self.bp_per_position) // 2

    @property
    def after_bp(self) -> int:
        """Base pairs that a position sees behind those that it covers."""
        return self.receptive_field_bp - self.bp_per_position - self.before_bp


@dataclass(frozen=True)
class Tiling:
    """Shape of the input that gives a number of positions untouched by the input's ends.

    Attributes
    ----------
    n_positions
        Positions of a tile.
    n_dropped
        Positions at the output's start whose receptive field reaches beyond the input.
    lead_bp
        Base pairs of the input before those that the tile's first position covers.
    input_bp
        Base pairs of the input.
    """

    n_positions: int
    n_dropped: int
    lead_bp: int
    input_bp: int

    @classmethod
    def of(cls, geometry: LayerGeometry, n_positions: int) -> Tiling:
        """The smallest input for `n_positions`; for a layer that needs whole inputs, that.

        >>> conv1d_1 = LayerGeometry("res_tower.0.conv_layer", 608, 2, 24, 0)
        >>> Tiling.of(conv1d_1, 2048)
        Tiling(n_positions=2048, n_dropped=6, lead_bp=12, input_bp=4120)
        """
        g = geometry
        if g.is_whole:
            assert g.n_positions is not None
            return cls(g.n_positions, 0, g.offset_bp, g.receptive_field_bp)
        first_bp = g.offset_bp - g.before_bp
        n_dropped = max(0, -(first_bp // g.bp_per_position))
        last = n_dropped + n_positions - 1
        end_bp = first_bp + g.bp_per_position * last + g.receptive_field_bp
        # poolings cut off what is no whole number of positions
        input_bp = -(-end_bp // g.bp_per_position) * g.bp_per_position
        lead_bp = g.offset_bp + n_dropped * g.bp_per_position
        return cls(n_positions, n_dropped, lead_bp, input_bp)


class LayerRunner:
    """Runs a model up to one layer, in tiles of one shape.

    One tile at a time and always the same shape: libraries choose their kernels by shape, and with
    another kernel last bits would change with the batch.

    Parameters
    ----------
    model
        The model.
    geometry
        The layer, see `measure.layer_geometry`.
    tile_positions
        Positions of a tile.

    Attributes
    ----------
    tiling
        Shape of the input.
    """

    def __init__(
        self, model: SequenceModel, geometry: LayerGeometry, tile_positions: int = TILE_POSITIONS
    ) -> None:
        self.model, self.geometry = model, geometry
        self.tiling = Tiling.of(geometry, tile_positions)

    @cached_property
    def _module(self) -> nn.Module:
        return self.model.module.get_submodule(self.geometry.module)

    def tile(self, one_hot: Tensor) -> Tensor:
        """Activations of one tile.

        Parameters
        ----------
        one_hot
            (4, input_bp) float32 that starts `lead_bp` before the first position of the tile.

        Returns
        -------
        Tensor
            (n_positions, n_channels) float32, on the model's device.

        Raises
        ------
        InputError
            Where the GPU's memory does not hold a tile; names the tile that fits.
        """
        assert one_hot.shape == (4, self.tiling.input_bp), one_hot.shape
        try:
            output = self._run(one_hot)
        except torch.OutOfMemoryError:
            self._say_what_fits()
        first = self.tiling.n_dropped
        return output[first : first + self.tiling.n_positions]

    def _run(self, one_hot: Tensor) -> Tensor:
        with torch.no_grad(), self.model.numerics():
            output = run_to(
                self.model.module, self._module, one_hot[None].to(self.model.device)
            ).float()
        return output[0] if self.geometry.channels_last else output[0].T

    def _say_what_fits(self) -> NoReturn:
        n = self.tiling.n_positions
        while n > 1 and not self.geometry.is_whole:
            n //= 2
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                self._run(torch.zeros(4, Tiling.of(self.geometry, n).input_bp))
            except torch.OutOfMemoryError:
                continue
            raise InputError(
                f"layer {self.geometry.module}: the memory of {self.model.device} does not hold a "
                f"tile of {self.tiling.n_positions} positions ({self.tiling.input_bp:,} bp); "
                f"{n} fit: set tile_positions = {n} in [model]"
            )
        raise InputError(
            f"layer {self.geometry.module}: the memory of {self.model.device} does not hold a "
            f"tile of {self.tiling.input_bp:,} bp, nor a smaller one; "
            'set device = "cpu" in [model], or free the GPU'
        )


class _Reached(Exception):
    """Ends the forward pass at the layer; carries its output."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def run_to(model: nn.Module, layer: nn.Module, one_hot: Tensor) -> Tensor:
    """Output of one module of a model; what comes after it is not computed.

    Parameters
    ----------
    model, layer
        The whole, and one of its modules.
    one_hot
        (n, 4, n_bp).

    Returns
    -------
    Tensor
        As the module returned it: what would be changed in place afterwards is not.

    Raises
    ------
    InputError
        Where the forward pass does not call the module.
    """

    def stop(module: nn.Module, arguments: object, output: Tensor) -> None:
        raise _Reached(output)

    hook = layer.register_forward_hook(stop)
    try:
        model(one_hot)
    except _Reached as reached:
        return reached.output
    finally:
        hook.remove()
    raise InputError(
        f"a forward pass does not call the layer's module ({type(layer).__name__}); choose one "
        "that is called (`saeborzoi model` lists them)"
    )


def one_hot(letters: NDArray[np.uint8]) -> Tensor:
    """(..., 4, n) float32 of (..., n) uint8 ASCII letters, A C G T; any other letter is zeros.

    >>> one_hot(np.frombuffer(b"ACgN", np.uint8)).tolist()[2]
    [0.0, 0.0, 1.0, 0.0]
    """
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(_ONE_HOT[letters], -1, -2)))


def reverse_complement(sequence: Tensor) -> Tensor:
    """The other strand of (..., 4, n) in the order A C G T."""
    return sequence.flip(-2, -1)


def require_module(model: SequenceModel, layer: str) -> str:
    """The module of a layer's name, refused where the model has none.

    Raises
    ------
    InputError
        Names the nearest ones.
    """
    name = model.module_of(layer)
    names = [n for n, _ in model.module.named_modules() if n]
    if name not in names:
        raise InputError(
            f"the model has no module {name!r}; the nearest are {_nearest(name, names)}; fix "
            "`module` of the layer (`saeborzoi model` lists them all)"
            + (f". Known by name: {', '.join(model.layers)}" if model.layers else "")
        )
    return name


def _nearest(name: str, names: Iterable[str]) -> str:
    return ", ".join(map(repr, difflib.get_close_matches(name, list(names), n=3, cutoff=0)))
