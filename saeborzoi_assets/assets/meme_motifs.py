"""Motifs discovered in each selected node's seqlets."""

import dagster as dg
import numpy as np
import pandas as pd

from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.common import artifact, explained, node_batches, run_result
from saeborzoi_assets.jobs import run_node_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path, table
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a node; many in one run."""

    @artifact(
        partitions,
        matrices_sum_to_one="each column of each matrix is a distribution",
        e_values_finite="log10 E-values are numbers",
    )
    def meme_motifs(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """Motifs of each selected node, by the built-in engine, MEME or STREME."""
        settings = platform.settings
        versions, frames, figures, outputs = [], [], {}, []
        with explained():
            from saeborzoi.motifs.discovery import check_discovery_engine
            from saeborzoi.motifs.options import DiscoveryOptions

            batches = node_batches(context, platform)
            platform.store.require_writable()
            check_discovery_engine(DiscoveryOptions(**settings.motifs.model_dump()))
            for sae, nodes in batches:
                with platform.catalog.kept_open():
                    platform.catalog.require_made("seqlets", sae.key, nodes)
                    selection = platform.catalog.rows("node_selection", sae.key, nodes=nodes)
                    version = platform.version_of("meme_motifs", sae.key, nodes)
                selected = selection.loc[selection["selected"], "node"].tolist()
                result = run_node_stage(
                    context,
                    platform,
                    version,
                    sae,
                    nodes,
                    selected,
                    "seqlet",
                    "motif",
                )
                versions.append(version.digest)
                frames.append(result.frame)
                outputs.append(result.output)
                best = _best(result.frame)
                for row in selection.itertuples():
                    figures[str(PartitionKey(sae.key, row.node))] = _figures(row, best)
        from saeborzoi.plots import motif_logos

        motifs = pd.concat(frames)
        significant = motifs[motifs["is_significant"].astype(bool)]
        summary = {
            "n_motifs": len(motifs),
            "n_significant": len(significant),
            "n_nodes_with_motif": int(significant["node"].nunique()),
            "best": table(
                significant.nsmallest(10, "log10_e_value")[
                    ["node", "motif", "consensus", "width_bp", "n_sites", "log10_e_value"]
                ]
            ),
            "logos": image(motif_logos(motifs)),
            "files": path(outputs[0]),
        }
        return run_result(context, versions, summary, figures, _checks(motifs))

    return meme_motifs


def _best(motifs: pd.DataFrame) -> pd.DataFrame:
    """The most significant motif of each node that has any; the index is the node."""
    significant = motifs[motifs["is_significant"].astype(bool)]
    ordered = significant.sort_values("log10_e_value", kind="stable")
    return ordered.drop_duplicates("node").set_index("node")


def _figures(row: object, best_motifs: pd.DataFrame) -> dict[str, object]:
    """What a node's own partition shows."""
    if not row.selected:  # type: ignore[attr-defined]
        return {"state": f"not selected: {row.reason}"}  # type: ignore[attr-defined]
    if row.node not in best_motifs.index:  # type: ignore[attr-defined]
        return {"state": "no significant motif"}
    best = best_motifs.loc[row.node]  # type: ignore[attr-defined]
    return {
        "state": "motif",
        "consensus": best["consensus"],
        "log10_e_value": float(best["log10_e_value"]),
    }


def _checks(motifs: pd.DataFrame) -> list[dg.AssetCheckResult]:
    off = [
        bool(np.abs(np.vstack(matrix).sum(axis=1) - 1).max() > 1e-6) for matrix in motifs["matrix"]
    ]
    finite = np.isfinite(motifs["log10_e_value"].to_numpy(float))
    return [
        check("matrices_sum_to_one", not any(off), n_wrong=sum(off), n_motifs=len(motifs)),
        check("e_values_finite", finite.all(), n_wrong=int((~finite).sum())),
    ]
