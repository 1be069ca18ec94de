"""Another tensor in the place of a layer's output, and the model's predictions with it.

What is put there is a function of the layer's output; which function is the business of others:
an SAE's reconstruction (`saeborzoi.sae.split`), an ablation (`saeborzoi.effects`), a tensor that
gradients are wanted of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel

Replace = Callable[[Tensor], Tensor]
"""From the layer's output (n, n_positions, n_channels) float32 to what goes in its place."""


class Splice:
    """A model and the layer whose output is replaced.

    Positions come before channels whatever the module's own order is, values are the layer's own
    (not divided by the channel maxima), and float32 whatever the model computes in. What `replace`
    gets and what it returns are copied: a later module that changes its input in place changes
    neither.

    Parameters
    ----------
    model
        The model; has outputs.
    geometry
        The layer, see `measure.layer_geometry`.
    """

    def __init__(self, model: SequenceModel, geometry: LayerGeometry) -> None:
        self.model, self.geometry = model, geometry

    @cached_property
    def _module(self) -> nn.Module:
        return self.model.module.get_submodule(self.geometry.module)

    def predict(self, one_hot: Tensor, replace: Replace) -> Tensor:
        """Predictions with the layer's output replaced.

        Gradients flow through `replace` unless they are switched off; to begin at the layer, let
        it return a detached tensor that asks for them.

        Parameters
        ----------
        one_hot
            (n, 4, input_bp), see `SequenceModel.predict`.
        replace
            See `Replace`; must keep the shape.

        Returns
        -------
        Tensor
            (n, n_tracks, n_bins) float32; bit for bit the model's own where `replace` returns
            what it gets.

        Raises
        ------
        InputError
            Where a prediction does not call the module exactly once, its output is not such as
            measured, or `replace` gives another shape or values that are not finite.
        """
        with self._hooked(replace) as calls:
            y = self.model.predict(one_hot)
        if not calls:
            raise InputError(
                f"layer {self.geometry.module}: a prediction does not call it, so that nothing "
                "can be spliced in; choose a module that is called (`saeborzoi model` lists them)"
            )
        return y

    def layer(self, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output (n, n_positions, n_channels) float32, and the predictions."""
        kept: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            kept.append(x)
            return x

        y = self.predict(one_hot, keep)
        return kept[0], y

    @contextlib.contextmanager
    def _hooked(self, replace: Replace) -> Iterator[list[int]]:
        calls: list[int] = []

        def splice(module: nn.Module, arguments: object, output: object) -> Tensor:
            calls.append(1)
            if len(calls) > 1:
                raise InputError(
                    f"layer {self.geometry.module}: a prediction calls it more than once, so "
                    "that its output is not one thing; choose the module before or after it"
                )
            return self._replaced(output, replace)

        hook = self._module.register_forward_hook(splice)
        try:
            yield calls
        finally:
            hook.remove()

    def _replaced(self, output: object, replace: Replace) -> Tensor:
        g = self.geometry
        if not isinstance(output, Tensor) or output.ndim != 3:
            output_shape = (
                tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            )
            raise InputError(
                f"layer {g.module}: its output is {output_shape}; needed are sequences x channels "
                "x positions; choose a convolution"
            )
        x = output if g.channels_last else output.transpose(1, 2)
        if x.shape[2] != g.n_channels:
            raise InputError(
                f"layer {g.module}: {x.shape[2]} channels, measured were {g.n_channels}; measure "
                "the layer of this model"
            )
        x = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        shape = x.shape
        # what is computed there is no part of the model: no rounding to its dtype
        with torch.autocast(x.device.type, enabled=False):
            new = replace(x)
        if new.shape != shape:
            raise InputError(
                f"layer {g.module}: {tuple(new.shape)} was given in the place of its output of "
                f"{tuple(shape)} (sequences, positions, channels); give that shape"
            )
        if not torch.isfinite(new).all():
            raise InputError(
                f"layer {g.module}: what was given in the place of its output holds NaN or "
                "infinity; fix the SAE or the change that was made"
            )
        # the same strides as the output's: later kernels, and so last bits, depend on them
        return torch.empty_like(output).copy_(new if g.channels_last else new.transpose(1, 2))


def bypass(splice: Splice, one_hot: Tensor, other: Tensor) -> NDArray[np.float64]:
    """Share of each track's change between sequences that goes past the layer, as by a skip.

    The model reads `other`, with the layer's output held at what it is for `one_hot`: a track that
    depends on the sequence through this layer alone does not move then.

    Parameters
    ----------
    splice
        Model and layer.
    one_hot, other
        (n, 4, input_bp) each, different sequences.

    Returns
    -------
    ndarray
        (n_tracks,) float64: sum of squared changes with the layer held over that without, over
        sequences and bins. 0 where nothing goes past; may exceed 1 where both ways oppose each
        other; NaN where a track is the same for both.
    """
    with torch.no_grad():
        x, y = splice.layer(one_hot)
        moved = _squares(splice.model.predict(other) - y)
        held = _squares(splice.predict(other, lambda _: x) - y)
    return np.divide(held, moved, out=np.full(len(moved), np.nan), where=moved > 0)


def _squares(change: Tensor) -> NDArray[np.float64]:
    return change.double().square().sum((0, 2)).cpu().numpy()
