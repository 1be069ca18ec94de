"""Strongest positions and statistics of every node of an SAE, from one pass over the shards."""

from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.catalog.store import NODE_STATISTICS
from saeborzoi.jobs.job import Figures
from saeborzoi.jobs.provenance import require_whole
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path, say
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        counts_consistent="counts of firing positions lie between 0 and the positions scanned",
        nodes_alive="dead nodes are at most [checks] max_dead_fraction",
    )
    def top_activations(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Exact global top N positions of every node, with counts, mean, maximum, standard
        deviation and histogram of its activation; padded edges cropped, each locus once."""
        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            inputs = {
                "trained_sae": platform.artifact("trained_sae", sae.key),
                "normalization_constants": platform.artifact(
                    "normalization_constants", sae.layer.name
                ),
            }
            version = platform.version_of("top_activations", sae.key)
            output = platform.store.sae_artifact(sae.key, "top_activations")
            job = platform.job(
                version,
                context.run.run_id,
                output=output,
                layer=sae.layer,
                sae=sae,
                inputs=inputs,
            )

            def catalogue(_: list[Figures]) -> None:
                whole = require_whole(output, version.digest)
                platform.record(
                    made_by(context, version, output),
                    Scope(sae_key=sae.key),
                    {"node": pd.read_parquet(whole / NODE_STATISTICS)},
                    partial(say, context),
                )

            figures = platform.compute.run(context, [job], catalogue)[0]
            node = pd.read_parquet(output / NODE_STATISTICS)
        from saeborzoi.plots import activation_frequency

        dead = float((node["n_nonzero"] == 0).mean())
        consistent = node["n_nonzero"].between(0, node["n_positions"])
        return dg.MaterializeResult(
            metadata={
                **{k: v for k, v in figures.items() if v is not None},
                "activation_frequency": image(activation_frequency(node)),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check("counts_consistent", consistent.all(), n_wrong=int((~consistent).sum())),
                check(
                    "nodes_alive",
                    dead <= settings.checks.max_dead_fraction,
                    dead_fraction=dead,
                    max_dead_fraction=settings.checks.max_dead_fraction,
                ),
            ],
        )

    return top_activations
