"""Stage `normalization_constants`: the maximum of each channel of a layer."""

from __future__ import annotations

from saeborzoi.activations.normalization import channel_max, read_channel_max
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.activations.values import require_plausible
from saeborzoi.files import write_folder, write_json
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import PROVENANCE, provenance

FILE = "channel_max.json"


def run(job: Job, progress: Progress = silent) -> Figures:
    """Find or import the constants; writes `channel_max.json`, `channel_normalization.parquet`.

    Returns
    -------
    dict
        n_channels, n_replaced and replaced (channels whose maximum was <= 0), smallest, largest.
    """
    layer = job.layer_settings
    if layer.channel_max is not None:
        constants = read_channel_max(layer.channel_max, layer.n_channels)
        origin = {"imported_from": str(layer.channel_max)}
    else:
        folder = ShardFolder.open(layer.train.shards, layer.n_channels)
        require_plausible(folder)
        constants = channel_max(folder, progress)
        origin = {"data_fingerprint": folder.fingerprint()}
    with write_folder(job.output) as output:
        write_json(output / FILE, constants.published_json())
        constants.table().to_parquet(output / "channel_normalization.parquet", index=False)
        write_json(output / PROVENANCE, provenance(job, **origin))
    return {
        "n_channels": layer.n_channels,
        "n_replaced": len(constants.replaced),
        "replaced": constants.replaced,
        "smallest": float(constants.used.min()),
        "largest": float(constants.used.max()),
        **origin,
    }
