"""Which of a model's tracks are looked at, and the level of a track on a sequence."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Sequence

import torch
from torch import Tensor

from saeborzoi.effects.statistics import Loss
from saeborzoi.errors import InputError
from saeborzoi.models.model import SequenceModel

_NAMED = 5
"""Tracks that a message names, at most."""


def with_tracks(model: SequenceModel, patterns: Sequence[str]) -> SequenceModel:
    """The model with some of its tracks only, in the model's order.

    Parameters
    ----------
    patterns
        Names, or patterns such as ``"CAGE:*"``; none for every track.

    Raises
    ------
    InputError
        Where the model has no outputs, or no track of such a name; names the nearest.
    """
    outputs = model.outputs
    if outputs is None:
        raise InputError(
            "this model has no outputs, so that nothing can be asked of its predictions: name them "
            "in the loader (`outputs` of LoadedModel), or set predicts = false in [model]"
        )
    if not patterns:
        return model
    index = chosen_tracks(outputs.tracks, patterns)
    whole = model._forward or model.module

    def forward(one_hot: Tensor) -> Tensor:
        y: Tensor = whole(one_hot)
        return y[:, torch.tensor(index, device=y.device)]

    names = tuple(outputs.tracks[i] for i in index)
    return dataclasses.replace(
        model, outputs=dataclasses.replace(outputs, tracks=names), _forward=forward
    )


def chosen_tracks(tracks: Sequence[str], patterns: Sequence[str]) -> list[int]:
    """Numbers of the tracks that patterns name, in their order; of all where there is none.

    Raises
    ------
    InputError
        Where a pattern names none; names the nearest.
    """
    chosen: set[int] = set() if patterns else set(range(len(tracks)))
    for pattern in patterns:
        indices = [
            i
            for i, track in enumerate(tracks)
            if track == pattern or fnmatch.fnmatchcase(track, pattern)
        ]
        if not indices:
            near = difflib.get_close_matches(pattern, tracks, _NAMED, cutoff=0)
            raise InputError(
                f"[effects] tracks: the model has no track {pattern!r} among its "
                f"{len(tracks):,}; the nearest are {', '.join(near)}"
            )
        chosen |= set(indices)
    return sorted(chosen)


def level(y: Tensor, loss: Loss) -> Tensor:
    """(n, n_tracks) float64: level of each track on each sequence.

    The mean over bins, on the log scale of the model's outputs (see `statistics.loss_of`): log-odds
    for logits and probabilities, log2(1 + mean) for coverage.

    Raises
    ------
    InputError
        Where a level is not finite, as the logarithm of a negative mean.
    """
    levels = loss.log(y.double().mean(2, keepdim=True)).double()[:, :, 0]
    if not torch.isfinite(levels).all():
        lowest = float(y.detach().double().mean(2).min())
        raise InputError(
            f"an output has no level on the scale {loss.log_scale!r}: its mean over bins is "
            f"{lowest:.3g} at the lowest; name the outputs' true `scale` "
            'in the loader, as "log" where they may be negative'
        )
    return levels
