"""Stage `top_activations`: the strongest positions and the statistics of every node."""

from __future__ import annotations

import scipy.sparse
import torch

from saeborzoi.activations.normalization import read_channel_max
from saeborzoi.catalog.store import COACTIVATION, NODE_STATISTICS, TOP_ACTIVATIONS, Store
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, require_input, write_artifact
from saeborzoi.nodes.top_activations import top_activations
from saeborzoi.sae.checkpoint import load_checkpoint, require_fits
from saeborzoi.sae.data_fit import require_trained_on
from saeborzoi.sources.positions import plans_of
from saeborzoi.stages.normalization_constants import FILE


def run(job: Job, progress: Progress = silent) -> Figures:
    """Scan the training data; writes `top_activations.parquet`, `node_statistics.parquet` and
    `coactivation.npz` (scipy's sparse format, upper triangle).

    Returns
    -------
    dict
        n_positions, n_nodes, n_dead, n_top_rows, median_frequency, n_passes.
    """
    assert job.hyperparameters is not None, "a job about an SAE"
    layer, selection = job.layer_settings, job.settings.selection
    cache = Store(job.settings.project.store).genome_cache
    with plans_of(job.settings, layer, cache, progress, validation=False) as (plan, _):
        source = require_input(job, "trained_sae")
        require_trained_on(source, plan.source, job.key)
        sae = load_checkpoint(source, layer.n_channels)
        constants = require_input(job, "normalization_constants") / FILE
        channel_max = read_channel_max(constants, layer.n_channels).used
        require_fits(sae, source, job.hyperparameters, channel_max)
        torch.set_num_threads(job.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        scan = top_activations(
            sae.to(device),
            plan,
            selection.n_top,
            selection.strong_fraction,
            job.threads,
            progress,
            job.work,
        )
        fingerprint = plan.source.identity()["data_fingerprint"]
    statistics = scan.statistics
    document = provenance(job, data_fingerprint=fingerprint)
    with write_artifact(job.output, job.data_version, document) as output:
        scan.top.to_parquet(output / TOP_ACTIVATIONS, index=False)
        statistics.to_parquet(output / NODE_STATISTICS, index=False)
        if scan.coactivation is not None:
            scipy.sparse.save_npz(output / COACTIVATION, scan.coactivation)
    return {
        "n_positions": plan.n_positions,
        "n_nodes": sae.n_nodes,
        "n_dead": int((statistics["n_nonzero"] == 0).sum()),
        "n_top_rows": len(scan.top),
        "median_frequency": float(statistics["frequency"].median()),
        "n_passes": scan.n_passes,
    }
