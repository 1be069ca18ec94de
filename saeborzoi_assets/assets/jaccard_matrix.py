"""How far the loci of each pair of selected nodes are the same."""

import dagster as dg
import numpy as np
import pandas as pd

from saeborzoi_assets.common import artifact, explained, keep
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import family_of_nodes, selected_seqlets
from saeborzoi_assets.shown import check, image, path, say, table
from saeborzoi_resources.platform import Platform

_N_CHECKED = 30
"""Nodes that the check compares again."""


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        in_range="every stored pair has 0 < jaccard <= 1 and node_a < node_b",
        symmetric="compared the other way round, a sample of nodes gives the same",
        unit_diagonal="a node compared with itself gives 1",
    )
    def jaccard_matrix(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Jaccard index in base pairs of every pair of selected nodes whose seqlets overlap, and
        whether their motifs are of one family: such pairs are redundant."""
        from saeborzoi.nodes.jaccard import node_jaccard

        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            with platform.catalog.kept_open():
                seqlets = selected_seqlets(platform, sae, "node, chrom, start_bp, end_bp")
                family = family_of_nodes(platform, sae)
                version = platform.version_of("jaccard_matrix", sae.key)
            say(context, f"Jaccard index of {seqlets['node'].nunique()} nodes")
            frame = node_jaccard(seqlets)
            of_a, of_b = (frame[node].map(family) for node in ("node_a", "node_b"))
            frame["same_family"] = (of_a == of_b).fillna(False).astype(bool)
            tables = {"node_jaccard": frame}
            output = keep(context, platform, version, sae, tables)
        from saeborzoi.plots import jaccard_heatmap

        return dg.MaterializeResult(
            metadata={
                "n_nodes": int(seqlets["node"].nunique()),
                "n_pairs": len(frame),
                "n_pairs_above_half": int((frame["jaccard"] > 0.5).sum()),
                "n_of_one_family_above_half": int(
                    (frame["same_family"] & (frame["jaccard"] > 0.5)).sum()
                ),
                "closest": table(frame.nlargest(15, "jaccard"), 15),
                **({"jaccard": image(jaccard_heatmap(frame))} if len(frame) else {}),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=checks(frame, seqlets),
        )

    return jaccard_matrix


def checks(frame: pd.DataFrame, seqlets: pd.DataFrame) -> list[dg.AssetCheckResult]:
    """Range of all pairs; symmetry and diagonal of a sample, computed anew."""
    from saeborzoi.nodes.jaccard import node_jaccard

    in_range = frame["jaccard"].between(0, 1, inclusive="right") & (
        frame["node_a"] < frame["node_b"]
    )
    nodes = np.sort(seqlets["node"].unique())[:_N_CHECKED]
    sample = seqlets[seqlets["node"].isin(nodes)]
    turned = node_jaccard(sample.assign(node=-sample["node"]))
    turned = turned.assign(node_a=-turned["node_b"], node_b=-turned["node_a"])
    stored = frame[frame["node_a"].isin(nodes) & frame["node_b"].isin(nodes)]
    both = stored.merge(turned, on=["node_a", "node_b"], how="outer", suffixes=("", "_turned"))
    same = np.isclose(both["jaccard"], both["jaccard_turned"])
    doubled = node_jaccard(pd.concat([sample, sample.assign(node=-1 - sample["node"])]))
    itself = doubled[doubled["node_a"] == -1 - doubled["node_b"]]
    return [
        check("in_range", in_range.all(), n_wrong=int((~in_range).sum()), n_pairs=len(frame)),
        check("symmetric", bool(same.all()), n_wrong=int((~same).sum()), n_pairs=len(both)),
        check(
            "unit_diagonal",
            len(itself) == len(nodes) and bool(np.isclose(itself["jaccard"], 1).all()),
            n_nodes=len(nodes),
        ),
    ]
