"""What a sequence model is to the rest: a frozen module that turns DNA into tracks.

How one is loaded is in `loaders.py`; what its layers are like is in `layer.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from saeborzoi.errors import InputError

Dtype = Literal["float32", "tf32", "bfloat16", "float16"]
Scale = Literal["raw", "logit", "probability", "log", "squashed"]

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Outputs:
    """What a model predicts.

    Attributes
    ----------
    tracks
        Name of each track.
    n_bins
        Bins of each track; 1 for a model that says one number for a whole sequence.
    bin_bp
        Base pairs of a bin.
    crop_bp
        Base pairs of the input before the first bin.
    scale
        Of the numbers: "logit", "probability", "log", "squashed" (Borzoi's) or "raw".
    """

    tracks: tuple[str, ...]
    n_bins: int
    bin_bp: int
    crop_bp: int = 0
    scale: Scale = "raw"


@dataclass(frozen=True)
class LoadedModel:
    """What a loader returns; a bare module will do where the settings say the rest.

    Attributes
    ----------
    module
        Takes (n, 4, input_bp) float32, one-hot A C G T, zeros for N.
    input_bp
        Base pairs that it takes at once; None leaves it to the settings.
    outputs
        What it predicts; None where only its first layers are there, so that nothing can be
        asked of its predictions.
    layers
        Names of layers that people know, each with the module that it is.
    forward
        How the module predicts; left out, by calling it.
    """

    module: nn.Module
    input_bp: int | None = None
    outputs: Outputs | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    forward: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class SequenceModel:
    """A model that is ready to be used: in evaluation mode, its parameters frozen.

    Attributes
    ----------
    module
        See `LoadedModel`.
    input_bp
        Base pairs of the input that `predict` takes.
    outputs
        What `predict` gives; None where the model has no outputs.
    layers
        Names of layers that people know, each with the module that it is.
    fingerprint
        Of every tensor as it was loaded: 32 hexadecimal digits, the same on every device and
        for every dtype.
    device
        Where the tensors are.
    dtype
        What is computed in: "float32", "tf32" (as float32, a GPU may round products to ten bits
        of mantissa), or "bfloat16" and "float16" by autocasting.
    """

    module: nn.Module
    input_bp: int
    outputs: Outputs | None
    layers: Mapping[str, str]
    fingerprint: str
    device: torch.device
    dtype: Dtype = "float32"
    _forward: Callable[[Tensor], Tensor] | None = None

    def predict(self, one_hot: Tensor) -> Tensor:
        """Predictions of sequences.

        Parameters
        ----------
        one_hot
            (n, 4, input_bp), A C G T, zeros for N. Gradients flow to it where it asks for them.

        Returns
        -------
        Tensor
            (n, n_tracks, n_bins) float32.

        Raises
        ------
        InputError
            Where the model has no outputs, or the length is another one than it was made for:
            attention keeps positions of the first length that it saw, and would go on with them.
        """
        if self.outputs is None:
            raise InputError(
                "this model has no outputs: only its first layers were loaded; bring the whole "
                "model, or name its outputs in the loader"
            )
        self.require_length(one_hot.shape[-1])
        with self.numerics():
            y = (self._forward or self.module)(one_hot.to(self.device))
        y = y[:, :, None] if y.ndim == 2 else y
        expected = (len(one_hot), len(self.outputs.tracks), self.outputs.n_bins)
        if tuple(y.shape) != expected:
            raise InputError(
                f"the model's output has shape {tuple(y.shape)}, but its loader names "
                f"{len(self.outputs.tracks)} tracks of {self.outputs.n_bins} bins, which is "
                f"{expected}; fix `outputs` in the loader"
            )
        return y.float()

    def require_length(self, n_bp: int) -> None:
        """Refuse an input of another length than the model takes.

        Raises
        ------
        InputError
            Names both.
        """
        if n_bp != self.input_bp:
            raise InputError(
                f"a sequence of {n_bp:,} bp, but the model takes {self.input_bp:,} bp; cut or "
                "extend the sequence, or fix input_bp of [model]"
            )

    def module_of(self, layer: str) -> str:
        """Name of the module of a layer: the one that people know it by, or itself."""
        return self.layers.get(layer, layer)

    @contextlib.contextmanager
    def numerics(self) -> Iterator[None]:
        """Compute in `dtype`, by kernels that give the same on every run."""
        autocast = _AUTOCAST.get(self.dtype)
        tf32 = self.dtype != "float32"
        with (
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
            ),
            torch.autocast(self.device.type, autocast, enabled=autocast is not None),
        ):
            yield


def fingerprint_of_tensors(module: nn.Module) -> str:
    """Digest of name, type, shape and content of every tensor; 32 hexadecimal digits.

    Counters of batch norm, which nothing depends on, are left out: formats differ in them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def same_weights(now: SequenceModel, then: str, what: str) -> None:
    """Refuse a model with other weights than something was made from.

    Parameters
    ----------
    then
        Fingerprint of the model that it was made from.
    what
        What was made from it, for the message.

    Raises
    ------
    InputError
        Names both fingerprints.
    """
    if now.fingerprint != then:
        raise InputError(
            f"{what} belongs to a model with the fingerprint {then}, but the loaded one has "
            f"{now.fingerprint}: other weights, as of another replicate; fix `loader` or "
            "`weights` of [model], or train the SAE on this model"
        )
