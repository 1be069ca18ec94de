"""Fidelity: how far a model's outputs stay as they are with an SAE spliced in.

Reconstruction error does not say it: how much of what an SAE leaves unexplained the model would
have used is measured here, against two ablations that say how much the layer matters at all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.effects.inputs import Batch
from saeborzoi.effects.statistics import (
    Correlation,
    Loss,
    PublishedCorrelation,
    loss_of,
    recovered,
    summed,
)
from saeborzoi.errors import InputError
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.layer import LayerGeometry, run_to
from saeborzoi.models.model import SequenceModel, same_weights
from saeborzoi.models.splice import Replace, Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import reconstruction, split, without_channel_max

MODEL = "model"
"""The row of the model itself."""

SPLICES = {
    "sae": "the SAE's reconstruction",
    "sae_with_error": "nodes, background and error: the model, but for rounding",
    "sae_without_channel_max": "as published, activations not divided by channel_max",
    "zero": "0 everywhere (zero ablation)",
    "mean": "each channel's mean over all positions (mean ablation)",
}
"""What is put in the layer's place."""
OF_TARGETS = ("r_target", "r_log_target", "r_published_target")
"""Figures that there are where there are targets."""


class Fidelity(NamedTuple):
    """Figures of an SAE in its model.

    Attributes
    ----------
    n_sequences
        Sequences looked at.
    loss, loss_against
        Which loss, and of what: "own outputs" of the model, or "targets".
    log_scale
        What `r_log` is taken on: "log-odds", "as it is" or "log2(1 + y)".
    per_track
        One row a splice (`SPLICES`, and `model`) and track: splice, track, r (against the model,
        on its own scale), r_log (on the log scale), r_published (sae-borzoi's: r over bins, mean
        over sequences that have one), loss (mean a value; in nats), recovered_zero and
        recovered_mean (loss recovered against zero and mean ablation); where there are targets
        also r_target, r_log_target, r_published_target. NaN where a figure is not defined: a
        constant track, a single bin, an ablation that costs nothing.
    over_all
        One row a splice: the same over all tracks together, and n_constant_tracks, whose r is NaN
        and which no mean over tracks should forget.
    """

    n_sequences: int
    loss: str
    loss_against: Literal["own outputs", "targets"]
    log_scale: str
    per_track: pd.DataFrame
    over_all: pd.DataFrame


def fidelity(
    model: SequenceModel,
    geometry: LayerGeometry,
    sae: SparseAutoencoder,
    batches: Iterable[Batch],
    trained_on: str | None = None,
    progress: Progress = silent,
) -> Fidelity:
    """Fidelity of an SAE on some sequences.

    Predictions are reduced on the model's device, none is kept.

    Parameters
    ----------
    model, geometry
        The model, and the SAE's layer as measured.
    sae
        Any device; is copied.
    batches
        Sequences, for validation others than those of training; gone through twice. With targets
        in all of them or in none.
    trained_on
        Fingerprint of the model on whose activations the SAE was trained, see
        `saeborzoi.sae.data_fit.model_of`; None where that is not known, as of shards.

    Raises
    ------
    InputError
        Where the model has other weights than `trained_on`, the SAE does not fit the layer, targets
        do not fit the outputs, there is nothing to go through, or predictions are not finite.
    """
    if trained_on is not None:
        same_weights(model, trained_on, "the SAE")
    if sae.n_channels != geometry.n_channels:
        raise InputError(
            f"an SAE on {sae.n_channels} channels, but layer {geometry.module} has "
            f"{geometry.n_channels}; take the SAE of this layer"
        )
    if iter(batches) is batches:
        raise InputError(
            "batches can be gone through once only, and are needed twice (for the mean "
            "activation, too); give a list"
        )
    sae = copy.deepcopy(sae).to(model.device).requires_grad_(False)
    mean = layer_mean(model, geometry, batches).float()
    replacements: dict[str, Replace] = {
        "sae": lambda x: reconstruction(sae, x),
        "sae_with_error": lambda x: sum_of_parts(sae, x),
        "sae_without_channel_max": lambda x: without_channel_max(sae, x),
        "zero": torch.zeros_like,
        "mean": lambda x: mean.expand_as(x),
    }
    assert replacements.keys() == SPLICES.keys()
    splice = Splice(model, geometry)
    gathered: _Gathered | None = None
    n = 0
    with torch.no_grad():
        for batch in batches:
            y = _finite(model.predict(batch.one_hot), MODEL)
            target = _target(model, batch, y)
            if gathered is None:
                gathered = _Gathered(model, target is not None)
            gathered.add(MODEL, y, y, target)
            for name, replace in replacements.items():
                spliced = _finite(splice.predict(batch.one_hot, replace), name)
                gathered.add(name, y, spliced, target)
            n += len(y)
            progress("sequences with the SAE spliced in", n, 0)
    assert gathered is not None, "layer_mean refuses an empty iterable"
    return gathered.result(n)


def layer_mean(model: SequenceModel, geometry: LayerGeometry, batches: Iterable[Batch]) -> Tensor:
    """(n_channels,) float64 on the model's device: mean activation over all positions.

    The model runs up to the layer only.

    Raises
    ------
    InputError
        Where there is no sequence.
    """
    layer = model.module.get_submodule(geometry.module)
    total = torch.zeros(geometry.n_channels, dtype=torch.float64, device=model.device)
    n = 0
    for batch in batches:
        model.require_length(batch.one_hot.shape[-1])
        with torch.no_grad(), model.numerics():
            x = run_to(model.module, layer, batch.one_hot.to(model.device))
        axes = (0, 1) if geometry.channels_last else (0, 2)
        total += x.sum(axes, dtype=torch.float64)
        n += x.numel() // geometry.n_channels
    if not n:
        raise InputError("no sequences to measure fidelity on; give at least one batch")
    return total / n


def sum_of_parts(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Nodes, background and error added up again."""
    parts = split(sae, x)
    return parts.nodes + parts.background + parts.error


def _finite(y: Tensor, name: str) -> Tensor:
    if not torch.isfinite(y).all():
        raise InputError(
            f"predictions ({name}) hold NaN or infinity, so that nothing can be compared; set "
            'dtype = "float32" in [model], or fix the model'
        )
    return y


def _target(model: SequenceModel, batch: Batch, y: Tensor) -> Tensor | None:
    target = batch.target
    if target is None:
        return None
    if target.shape != y.shape:
        raise InputError(
            f"targets of shape {tuple(target.shape)}, but the model predicts {tuple(y.shape)} "
            "(sequences, tracks, bins); bring the targets of these outputs"
        )
    assert model.outputs is not None
    scale = model.outputs.scale
    low = 0.0 if scale in ("logit", "probability", "squashed") else -np.inf
    high = 1.0 if scale in ("logit", "probability") else np.inf
    if not (torch.isfinite(target) & (target >= low) & (target <= high)).all():
        raise InputError(
            f"targets must be finite numbers from {low:g} to {high:g} for outputs on the scale "
            f"{scale!r}; fix the targets"
        )
    return target.to(y.device)


class _Sums:
    """What is gathered of one splice."""

    def __init__(self) -> None:
        self.r: dict[str, Correlation | PublishedCorrelation] = {}
        self.loss: Tensor | float = 0.0

    def add(self, name: str, kind: type[Correlation | PublishedCorrelation], *pair: Tensor) -> None:
        self.r.setdefault(name, kind()).add(*pair)


class _Gathered:
    """What is gathered of all splices."""

    def __init__(self, model: SequenceModel, has_targets: bool) -> None:
        assert model.outputs is not None
        self._tracks = model.outputs.tracks
        self._loss: Loss = loss_of(model.outputs.scale)
        self._has_targets = has_targets
        self._of: dict[str, _Sums] = {}
        self._n_values = 0
        """Of one track."""

    def add(self, name: str, y: Tensor, spliced: Tensor, target: Tensor | None) -> None:
        if (target is not None) != self._has_targets:
            raise InputError(
                "some batches have targets and some do not; give them for all or for none"
            )
        loss, sums = self._loss, self._of.setdefault(name, _Sums())
        log = loss.log(spliced)
        sums.add("r", Correlation, y, spliced)
        sums.add("r_log", Correlation, loss.log(y), log)
        sums.add("r_published", PublishedCorrelation, y, spliced)
        if target is not None:
            sums.add("r_target", Correlation, target, spliced)
            sums.add("r_log_target", Correlation, loss.log_target(target), log)
            sums.add("r_published_target", PublishedCorrelation, target, spliced)
        against = loss.own_target(y) if target is None else target
        sums.loss = sums.loss + summed(loss.each(spliced, against))
        if name == MODEL:
            self._n_values += y.shape[0] * y.shape[2]

    def result(self, n_sequences: int) -> Fidelity:
        losses = {name: _array(sums.loss) / self._n_values for name, sums in self._of.items()}
        per_track = pd.concat(
            [pd.DataFrame(self._rows_of_tracks(name, losses)) for name in self._of],
            ignore_index=True,
        )
        over_all = pd.DataFrame([self._row_over_all(name, losses) for name in self._of])
        return Fidelity(
            n_sequences=n_sequences,
            loss=self._loss.name,
            loss_against="targets" if self._has_targets else "own outputs",
            log_scale=self._loss.log_scale,
            per_track=per_track,
            over_all=over_all,
        )

    def _rows_of_tracks(self, name: str, losses: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
        columns = {
            "splice": name,
            "track": list(self._tracks),
            **{column: r.per_track() for column, r in self._of[name].r.items()},
            "loss": losses[name],
        }
        for ablation in ("zero", "mean"):
            columns[f"recovered_{ablation}"] = list(
                map(recovered, losses[ablation], losses[name], losses[MODEL])
            )
        return columns

    def _row_over_all(self, name: str, losses: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
        overall = {key: float(loss.mean()) for key, loss in losses.items()}
        r = self._of[name].r
        return {
            "splice": name,
            **{column: item.over_all() for column, item in r.items()},
            "loss": overall[name],
            "recovered_zero": recovered(overall["zero"], overall[name], overall[MODEL]),
            "recovered_mean": recovered(overall["mean"], overall[name], overall[MODEL]),
            "n_constant_tracks": int(np.isnan(r["r"].per_track()).sum()),
        }


def _array(loss: Tensor | float) -> NDArray[np.float64]:
    assert isinstance(loss, Tensor)
    return loss.cpu().numpy()
