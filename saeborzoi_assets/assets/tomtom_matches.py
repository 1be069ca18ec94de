"""Matches of each motif with known motifs."""

from collections.abc import Iterable

import dagster as dg
import numpy as np
import pandas as pd

from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.common import artifact, explained, node_batches, run_result
from saeborzoi_assets.jobs import run_node_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path, table
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a node; many in one run."""

    @artifact(
        partitions,
        q_values_in_range="q-values lie in [0, 1]",
        q_values_monotone="within a motif and database, q never falls as p rises",
    )
    def tomtom_matches(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Best matches of every motif in each motif database, with p, E and q."""
        settings = platform.settings
        versions, frames, outputs = [], [], []
        figures: dict[str, dict[str, object]] = {}
        with explained():
            from saeborzoi.motifs.matching import check_matching_engine

            batches = node_batches(context, platform)
            platform.store.require_writable()
            check_matching_engine(settings.matching.engine, settings.matching.executable)
            for sae, nodes in batches:
                with platform.catalog.kept_open():
                    platform.catalog.require_made("meme_motifs", sae.key, nodes)
                    motifs = platform.catalog.rows(
                        "motif",
                        sae.key,
                        "node, motif, consensus, log10_e_value, is_significant",
                        nodes=nodes,
                    )
                    version = platform.version_of("tomtom_matches", sae.key, nodes)
                with_motif = sorted(set(motifs["node"].tolist()))
                result = run_node_stage(
                    context,
                    platform,
                    version,
                    sae,
                    nodes,
                    with_motif,
                    "motif",
                    "motif_match",
                )
                versions.append(version.digest)
                frames.append(result.frame)
                outputs.append(result.output)
                figures |= {
                    str(PartitionKey(sae.key, node)): node_figures
                    for node, node_figures in _figures(nodes, motifs, result.frame).items()
                }
        matches = pd.concat(frames)
        significant = matches[matches["is_significant"].astype(bool)]
        factors = significant.groupby("target_name")["node"].nunique().sort_values(ascending=False)
        summary = {
            "n_matches": len(significant),
            "n_nodes_with_match": int(significant["node"].nunique()),
            "n_factors": len(factors),
            "most_nodes": table(factors.reset_index().rename(columns={"node": "n_nodes"})),
            "files": path(outputs[0]),
        }
        return run_result(context, versions, summary, figures, _checks(matches))

    return tomtom_matches


def _figures(
    nodes: Iterable[int], motifs: pd.DataFrame, matches: pd.DataFrame
) -> dict[int, dict[str, object]]:
    """What each node's own partition shows: the match that names it and the motif that has it,
    else its strongest motif."""
    from saeborzoi.motifs.matching import best_matches

    significant = motifs[motifs["is_significant"].astype(bool)].sort_values("log10_e_value")
    strongest = significant.drop_duplicates("node").set_index("node")
    by_motif = motifs.set_index(["node", "motif"])
    best = best_matches(matches).set_index("node")
    figures: dict[int, dict[str, object]] = {}
    for node in nodes:
        if node in best.index:
            match = best.loc[node]
            figures[node] = {
                "state": "match",
                "best_match": match["target_name"],
                "q_value": float(match["q_value"]),
                **_motif(by_motif.loc[(node, match["motif"])]),
            }
        elif node in strongest.index:
            figures[node] = {"state": "motif, no match", **_motif(strongest.loc[node])}
        else:
            figures[node] = {"state": "no motif"}
    return figures


def _motif(row: pd.Series) -> dict[str, object]:
    return {"consensus": row["consensus"], "log10_e_value": float(row["log10_e_value"])}


def _checks(matches: pd.DataFrame) -> list[dg.AssetCheckResult]:
    q = matches["q_value"].to_numpy(float)
    outside = ~((q >= 0) & (q <= 1))
    ordered = matches.sort_values(["node", "motif", "database", "p_value", "q_value"])
    falls = ordered.groupby(["node", "motif", "database"])["q_value"].diff() < -1e-12
    return [
        check("q_values_in_range", not outside.any(), n_wrong=int(np.sum(outside))),
        check("q_values_monotone", not falls.any(), n_wrong=int(falls.sum())),
    ]
