"""Stage `trained_sae`: train SAEs in one pass over the data, or import one, and measure them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.normalization import read_channel_max
from saeborzoi.catalog.store import TRAINING_LOG, Store
from saeborzoi.files import write_json
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, require_input, write_artifact
from saeborzoi.sae import distributed
from saeborzoi.sae.checkpoint import (
    import_published,
    load_checkpoint,
    read_config,
    require_fits,
    save_checkpoint,
)
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import Trained, TrainingData, TrainingLoop, in_batches
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.sections import Layer
from saeborzoi.sources.positions import plans_of
from saeborzoi.stages.normalization_constants import FILE

LOG_COLUMNS = {
    "step": "int64",
    "split": "object",
    "n_positions": "int64",
    "loss": "float64",
    "fvu": "float64",
    "l0": "float64",
    "dead_fraction": "float64",
    "learning_rate": "float64",
    "positions_per_s": "float64",
}


def run(job: Job, progress: Progress = silent) -> Figures:
    """Train the SAEs of a job; where the settings name a checkpoint, import it; a baseline is
    left as training would start from it.

    For each, writes `cfg.json`, `sae.safetensors`, `sae_weights.safetensors`,
    `training_log.parquet` and `metrics.json`. Unfinished training is kept in `job.work` and taken
    up by the next run of the same job. Started by torchrun, the processes train together and all
    but the first end here.

    Returns
    -------
    dict
        Of the job's own SAE n_channels, n_nodes, k, n_positions, loss, fvu, validation_fvu (None
        without validation data), l0, dead_fraction, training_s (its share of the pass),
        stopped_early, median_channel_explained_variance; under `together` the same of each
        further SAE.
    """
    layer = job.layer_settings
    cache = Store(job.settings.project.store).genome_cache
    with plans_of(job.settings, layer, cache, progress) as (train, validation):
        return _run(job, progress, train, validation)


def _run(job: Job, progress: Progress, train: SlabPlan, validation: SlabPlan | None) -> Figures:
    jobs, layer = job.each(), job.layer_settings
    hyperparameters = [sae_job.hyperparameters for sae_job in jobs if sae_job.hyperparameters]
    identity = train.source.identity()
    constants = require_input(job, "normalization_constants") / FILE
    channel_max = read_channel_max(constants, layer.n_channels).used
    data = TrainingData(train, validation, channel_max, identity["data_fingerprint"])
    torch.set_num_threads(job.threads)
    group = distributed.join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loop = TrainingLoop(
        data,
        Schedule(**job.settings.training.schedule),
        device=device,
        threads=job.threads,
        work=job.work,
        progress=progress if group.rank == 0 else silent,
        group=group,
    )
    source = job.settings.checkpoint_of(hyperparameters[0])
    if source is not None:
        sae = _imported(source, hyperparameters[0], layer, channel_max)
        trained = [Trained(sae.to(device), [], 0, False, 0.0)]
    elif hyperparameters[0].is_baseline:
        trained = [Trained(loop.initial(h), [], 0, False, 0.0) for h in hyperparameters]
    else:
        trained = loop.run(hyperparameters)
    if group.rank > 0:
        # all processes hold the same SAEs; the first one measures and writes them
        raise SystemExit(0)
    figures = {}
    for sae_job, result in zip(jobs, trained, strict=True):
        progress("evaluating", 0, 0, sae_job.key)
        share = dataclasses.replace(result, training_s=result.training_s / len(jobs))
        figures[sae_job.key] = _measured_and_written(sae_job, share, loop, source, identity)
    loop.forget()
    first = figures.pop(job.key)
    return {**first, "together": figures} if figures else first


def _measured_and_written(
    job: Job, trained: Trained, loop: TrainingLoop, source: Path | None, identity: Mapping[str, Any]
) -> Figures:
    """Evaluate one SAE and write its artifact."""
    data, hyperparameters = loop.data, job.hyperparameters
    assert hyperparameters is not None
    on_train = evaluate(trained.sae, in_batches(data.train), job.threads)
    validation_fvu = trained.validation_fvu
    if data.validation and validation_fvu is None:  # it was not trained here
        validation_fvu = evaluate(trained.sae, loop.validation_batches(), job.threads).fvu
    explained = on_train.explained_variance
    figures: Figures = {
        "n_channels": trained.sae.n_channels,
        "n_nodes": trained.sae.n_nodes,
        "k": trained.sae.k,
        "n_positions": trained.n_positions,
        "loss": on_train.loss,
        "fvu": on_train.fvu,
        "validation_fvu": validation_fvu,
        "l0": on_train.l0,
        "dead_fraction": on_train.dead_fraction,
        "training_s": trained.training_s,
        "stopped_early": trained.stopped_early,
        "median_channel_explained_variance": float(np.nanmedian(explained)),
    }
    origin: dict[str, Any] = {"data_fingerprint": data.fingerprint}
    if source is not None:
        origin |= _brought(source)
    document = provenance(job, **origin)
    with write_artifact(job.output, job.data_version, document) as output:
        save_checkpoint(
            trained.sae,
            output,
            hyperparameters=json.loads(hyperparameters.model_dump_json()),
            code_version=document["code_version"],
            **{**identity, **origin},
        )
        _log_table(trained).to_parquet(output / TRAINING_LOG, index=False)
        write_json(
            output / "metrics.json",
            {**figures, "channel_explained_variance": _plain(explained)},
        )
    return {**figures, **origin}


def _brought(source: Path) -> dict[str, str]:
    """Where an SAE that was trained elsewhere comes from, and on what, where it says so."""
    origin = {"imported_from": str(source)}
    trained_on = read_config(source).get("provenance", {}) if source.is_dir() else {}
    if "data_fingerprint" in trained_on:
        origin["trained_on_fingerprint"] = trained_on["data_fingerprint"]
    return origin


def _imported(
    source: Path, hyperparameters: Hyperparameters, layer: Layer, channel_max: np.ndarray
) -> SparseAutoencoder:
    k = hyperparameters.k(layer.n_channels)
    if source.is_dir():
        sae = load_checkpoint(source, layer.n_channels)
    else:
        sae = import_published(source, k, layer.n_channels)
        sae.channel_max.copy_(torch.from_numpy(channel_max))
    require_fits(sae, source, hyperparameters, channel_max)
    return sae


def _log_table(trained: Trained) -> pd.DataFrame:
    return pd.DataFrame(trained.log, columns=list(LOG_COLUMNS)).astype(LOG_COLUMNS)


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
