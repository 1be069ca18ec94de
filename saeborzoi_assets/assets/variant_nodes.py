"""Through which nodes of an SAE each variant acts."""

import dagster as dg

from saeborzoi.files import write_file
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import MOTIF_SHOWN
from saeborzoi_assets.shown import check, path, table
from saeborzoi_resources.platform import Platform

_SHOWN = ["variant", "track", "effect", "node", "share", "state", "p_value"]
_MAX_GAP = 0.1


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE and set of variants."""

    @artifact(
        partitions,
        complete="of exact attributions, the gaps are at most a tenth of the effects together",
    )
    def variant_nodes(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Each variant's effect on its most moved tracks by nodes, background, error and what goes
        past the layer; with the nodes' motifs on both alleles, against neutral changes."""
        with explained():
            key = PartitionKey.parse(context.partition_key)
            sae, variant_set = platform.sae(key.owner), key.variant_set
            assert variant_set is not None, "its partitions are SAEs with sets"
            platform.store.require_writable()
            platform.catalog.require_made("tomtom_matches", sae.key, range(sae.n_nodes))
            platform.catalog.require_made("variant_effects", set_key(variant_set))
            version = platform.version_of("variant_nodes", sae.key, variant_set=variant_set)
            motifs = platform.store.work(sae.key, "variant_nodes") / f"{version.digest}.parquet"

            def lay_out() -> None:
                motifs.parent.mkdir(parents=True, exist_ok=True)
                with write_file(motifs) as temporary:
                    frame = platform.catalog.frame(MOTIF_SHOWN, [sae.key])
                    frame.to_parquet(temporary, index=False)

            stage = run_stage(
                context,
                platform,
                version,
                sae.layer,
                sae,
                variant_set=variant_set,
                inputs={
                    "trained_sae": platform.artifact("trained_sae", sae.key),
                    "motif": motifs,
                },
                lay_out=lay_out,
                own_input=motifs,
            )
        figures, rows = stage.figures, stage.tables["variant_node"]
        acting = rows[(rows["part"] == "node") & rows["acts_through"]]
        strongest = acting.reindex(acting["attribution"].abs().sort_values().index[::-1])
        of_nodes = acting.groupby("node")["variant"].nunique().sort_values(ascending=False)
        gap = figures.get("share_of_gap")
        return dg.MaterializeResult(
            metadata={
                **{name: value for name, value in figures.items() if value is not None},
                "strongest": table(strongest[_SHOWN]),
                "nodes": table(of_nodes.rename("n_variants").reset_index()),
                "files": path(stage.output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[check("complete", gap is None or gap <= _MAX_GAP, share_of_gap=gap)],
        )

    return variant_nodes
