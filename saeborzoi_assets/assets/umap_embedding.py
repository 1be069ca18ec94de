"""Nodes of an SAE in the plane, by where they fire, and clusters named by enriched families."""

from collections.abc import Sequence

import dagster as dg
import numpy as np

from saeborzoi_assets.assets.motif_evidence import NAME as MOTIF_EVIDENCE
from saeborzoi_assets.assets.seqlets import NAME as SEQLETS
from saeborzoi_assets.assets.tomtom_matches import NAME as TOMTOM_MATCHES
from saeborzoi_assets.common import (
    OWNERS,
    check,
    check_specs,
    column_schema,
    explained,
    family_of_nodes,
    image,
    keep,
    only_supported,
    path,
    say,
    selected_seqlets,
    table,
)
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform, Version

NAME = "umap_embedding"
CODE_VERSION = "1"


def version_of(platform: Platform, key: str, nodes: Sequence[int] | None = None) -> Version:
    """What an SAE's embedding is made from now."""
    return platform.version(
        NAME,
        CODE_VERSION,
        key,
        sections={"embedding": platform.settings.embedding.model_dump()},
        inputs=[SEQLETS, TOMTOM_MATCHES, MOTIF_EVIDENCE],
    )


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @dg.asset(
        name=NAME,
        partitions_def=partitions.sae,
        deps=[SEQLETS, TOMTOM_MATCHES, MOTIF_EVIDENCE],
        group_name="comparison",
        kinds={"python", "parquet"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        metadata=column_schema("node_embedding", "embedding_cluster"),
        check_specs=check_specs(
            NAME,
            coordinates_finite="every selected node has a place",
            every_node_clustered="clusters hold every selected node once",
        ),
    )
    def umap_embedding(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """UMAP of the selected nodes' activation over the loci of their seqlets, k-means clusters
        on it, and the factor family most enriched in each cluster."""
        from saeborzoi.motifs.families import cluster_families
        from saeborzoi.nodes.embedding import embed_nodes, node_locus_matrix

        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            seqlets = selected_seqlets(platform, sae, "node, chrom, start_bp, end_bp, activation")
            platform.catalog.require_made(TOMTOM_MATCHES, sae.key, range(sae.n_nodes))
            family = family_of_nodes(platform, sae)
            matches = only_supported(platform, sae, platform.catalog.rows("motif_match", sae.key))
            version = version_of(platform, sae.key)
            say(context, f"UMAP of {seqlets['node'].nunique()} nodes")
            nodes, matrix = node_locus_matrix(seqlets)
            embedding = embed_nodes(nodes, matrix, **settings.embedding.model_dump())
            embedding["motif_family"] = embedding["node"].map(family)
            clusters = cluster_families(embedding, matches)
            tables = {"node_embedding": embedding, "embedding_cluster": clusters}
            output = keep(context, platform, version, sae, tables)
        from saeborzoi.plots import umap_by_family

        coordinates = embedding[["umap_1", "umap_2"]].to_numpy(float)
        n_nodes = seqlets["node"].nunique()
        return dg.MaterializeResult(
            metadata={
                "n_nodes": n_nodes,
                "n_clusters": len(clusters),
                "n_named_clusters": int(clusters["family"].notna().sum()),
                "umap": image(umap_by_family(embedding, matches)),
                "clusters": table(clusters.sort_values("p_value"), 25),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "coordinates_finite",
                    bool(np.isfinite(coordinates).all()) and len(embedding) == n_nodes,
                    n_nodes=len(embedding),
                ),
                check(
                    "every_node_clustered",
                    int(clusters["n_nodes"].sum()) == len(embedding),
                    n_clustered=int(clusters["n_nodes"].sum()),
                ),
            ],
        )

    return umap_embedding
