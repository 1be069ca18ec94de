"""Strongest positions and statistics of every node of an SAE, from one pass over the shards."""

import dagster as dg

from saeborzoi.catalog.store import NODE_STATISTICS
from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path
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
            stage = run_stage(
                context,
                platform,
                version,
                sae.layer,
                sae,
                inputs=inputs,
                files={"node": NODE_STATISTICS},
            )
        figures, node = stage.figures, stage.tables["node"]
        from saeborzoi.plots import activation_frequency

        dead = float((node["n_nonzero"] == 0).mean())
        consistent = node["n_nonzero"].between(0, node["n_positions"])
        return dg.MaterializeResult(
            metadata={
                **{k: v for k, v in figures.items() if v is not None},
                "activation_frequency": image(activation_frequency(node)),
                "files": path(stage.output),
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
