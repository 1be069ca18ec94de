"""Stage `normalization_constants`: the maximum of each channel of a layer."""

from __future__ import annotations

from saeborzoi.activations.normalization import channel_max, read_channel_max
from saeborzoi.catalog.store import CHANNEL_NORMALIZATION, Store
from saeborzoi.files import write_json
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, write_artifact
from saeborzoi.sources.positions import plans_of

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
        with plans_of(
            job.settings,
            layer,
            Store(job.settings.project.store).genome_cache,
            progress,
            validation=False,
        ) as (plan, _):
            constants = channel_max(plan.source, progress)
            origin = {"data_fingerprint": plan.source.identity()["data_fingerprint"]}
    document = provenance(job, **origin)
    with write_artifact(job.output, job.data_version, document) as output:
        write_json(output / FILE, constants.published_json())
        constants.table().to_parquet(output / CHANNEL_NORMALIZATION, index=False)
    return {
        "n_channels": layer.n_channels,
        "n_replaced": len(constants.replaced),
        "replaced": constants.replaced,
        "smallest": float(constants.used.min()),
        "largest": float(constants.used.max()),
        **origin,
    }
