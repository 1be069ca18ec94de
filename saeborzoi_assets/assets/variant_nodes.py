"""Through which nodes of an SAE each variant acts."""

from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Figures
from saeborzoi.jobs.provenance import require_whole
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import MOTIF_SHOWN
from saeborzoi_assets.shown import check, path, say, table
from saeborzoi_resources.platform import Platform

_SHOWN = ["variant_set", "variant", "track", "effect", "node", "share", "state", "p_value"]
_MAX_GAP = 0.1


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE, for every set of variants."""

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
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            platform.catalog.require_made("tomtom_matches", sae.key, range(sae.n_nodes))
            version = platform.version_of("variant_nodes", sae.key)
            output = platform.store.sae_artifact(sae.key, "variant_nodes")
            motifs = platform.store.work(sae.key, "variant_nodes") / f"{version.digest}.parquet"
            job = platform.job(
                version,
                context.run.run_id,
                output=output,
                layer=sae.layer,
                sae=sae,
                inputs={
                    "trained_sae": platform.artifact("trained_sae", sae.key),
                    "motif": motifs,
                },
            )
            tables: dict[str, pd.DataFrame] = {}

            def lay_out() -> None:
                motifs.parent.mkdir(parents=True, exist_ok=True)
                with write_file(motifs) as temporary:
                    frame = platform.catalog.frame(MOTIF_SHOWN, [sae.key])
                    frame.to_parquet(temporary, index=False)

            def catalogue(_: list[Figures]) -> None:
                whole = require_whole(output, version.digest)
                tables["variant_node"] = pd.read_parquet(whole / "variant_node.parquet")
                platform.record(
                    made_by(context, version, output),
                    Scope(sae_key=sae.key),
                    tables,
                    partial(say, context),
                )
                motifs.unlink(missing_ok=True)

            figures = platform.compute.run(context, [job], catalogue, lay_out)[0]
        rows = tables["variant_node"]
        acting = rows[(rows["part"] == "node") & rows["acts_through"]]
        strongest = acting.reindex(acting["attribution"].abs().sort_values().index[::-1])
        of_nodes = acting.groupby("node")["variant"].nunique().sort_values(ascending=False)
        gap = figures.get("share_of_gap")
        return dg.MaterializeResult(
            metadata={
                **{name: value for name, value in figures.items() if value is not None},
                "strongest": table(strongest[_SHOWN]),
                "nodes": table(of_nodes.rename("n_variants").reset_index()),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[check("complete", gap is None or gap <= _MAX_GAP, share_of_gap=gap)],
        )

    return variant_nodes
