"""One number a sequence and track: what a variant's effect is a difference of."""

from __future__ import annotations

import torch
from torch import Tensor

from saeborzoi.errors import InputError
from saeborzoi.models.model import Outputs, SequenceModel

_SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1 before their logarithm."""


class TrackScore:
    """The score of predictions: the mean over the central bins, on a scale where differences are
    fold changes.

    Squashed coverage, as Borzoi's, is ``log2(1 + mean)``, so that a difference of two is a log
    fold change; probabilities are log-odds; logits, logarithms and raw outputs stay as they are.
    Gradients flow through it.

    Parameters
    ----------
    outputs
        What the model predicts.
    input_bp
        Base pairs that it takes.
    span_bp
        Bins that reach into so many base pairs around the middle of the input count; at least the
        one that holds the middle.

    Raises
    ------
    InputError
        Where the outputs do not cover the middle.
    """

    def __init__(self, outputs: Outputs, input_bp: int, span_bp: int) -> None:
        middle = input_bp // 2 - outputs.crop_bp
        low = (middle - span_bp // 2) // outputs.bin_bp
        high = -(-(middle + max(span_bp - span_bp // 2, 1)) // outputs.bin_bp)
        self.bins = slice(max(low, 0), min(high, outputs.n_bins))
        self._scale = outputs.scale
        if self.bins.start >= self.bins.stop:
            raise InputError(
                f"the middle of an input of {input_bp:,} bp lies in none of the model's "
                f"{outputs.n_bins:,} bins of {outputs.bin_bp} bp; fix crop_bp of its outputs"
            )

    def __call__(self, y: Tensor) -> Tensor:
        """(n, n_tracks) float64 of predictions (n, n_tracks, n_bins)."""
        mean = y[:, :, self.bins].double().mean(2)
        if self._scale == "squashed":
            return torch.log2(1 + mean)
        if self._scale == "probability":
            return torch.logit(mean, eps=_SMALLEST)
        return mean

    @property
    def words(self) -> str:
        """What it is, for tables and pages."""
        return {
            "squashed": "log2(1 + mean of the central bins)",
            "probability": "log-odds of the mean of the central bins",
            "logit": "mean of the central bins, in logits",
        }.get(self._scale, "mean of the central bins")


def score_of(model: SequenceModel, span_bp: int) -> TrackScore:
    """The score of a model's predictions.

    Raises
    ------
    InputError
        Where it has no outputs.
    """
    if model.outputs is None:
        raise InputError(
            "this model has no outputs, so that a variant moves none: only its first layers were "
            "loaded; bring the whole model"
        )
    return TrackScore(model.outputs, model.input_bp, span_bp)
