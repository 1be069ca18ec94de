"""Matches of each motif with known motifs."""

import dagster as dg
import numpy as np
import pandas as pd

from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.common import artifact, explained, node_batches, run_node_stage, run_result
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
        versions, frames, figures, outputs = [], [], {}, []
        with explained():
            from saeborzoi.motifs.matching import check_matching_engine

            batches = node_batches(context, platform)
            platform.store.require_writable()
            check_matching_engine(settings.matching.engine, settings.matching.executable)
            for sae, nodes in batches:
                platform.catalog.require_made("meme_motifs", sae.key, nodes)
                motifs = platform.catalog.rows("motif", sae.key, "node", nodes=nodes)
                with_motif = sorted(set(motifs["node"].tolist()))
                version = platform.version_of("tomtom_matches", sae.key, nodes)
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
                best = _best(result.frame)
                for node in nodes:
                    own = {"best_match": best.get(node, "none")}
                    figures[str(PartitionKey(sae.key, node))] = own
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


def _best(matches: pd.DataFrame) -> dict[int, str]:
    """Name of each node's best significant match."""
    from saeborzoi.motifs.matching import best_matches

    best = best_matches(matches)
    return dict(zip(best["node"], best["target_name"], strict=True))


def _checks(matches: pd.DataFrame) -> list[dg.AssetCheckResult]:
    q = matches["q_value"].to_numpy(float)
    outside = ~((q >= 0) & (q <= 1))
    ordered = matches.sort_values(["node", "motif", "database", "p_value", "q_value"])
    falls = ordered.groupby(["node", "motif", "database"])["q_value"].diff() < -1e-12
    return [
        check("q_values_in_range", not outside.any(), n_wrong=int(np.sum(outside))),
        check("q_values_monotone", not falls.any(), n_wrong=int(falls.sum())),
    ]
