"""Nodes of an SAE in the plane, by where they fire, and clusters by what their nodes share."""

import dagster as dg
import numpy as np

from saeborzoi_assets.common import artifact, explained, keep
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import family_of_nodes, only_supported, selected_seqlets
from saeborzoi_assets.shown import check, image, path, say, table
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        coordinates_finite="every selected node has a place",
        every_node_clustered="clusters hold every selected node once",
    )
    def umap_embedding(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """UMAP of the selected nodes' activation over the loci of their seqlets, k-means clusters
        on it, and what the nodes of each cluster have in common: a family of motifs, a class of
        annotation, a composition, or a kind of node."""
        from saeborzoi.motifs.families import node_labels
        from saeborzoi.motifs.matching import best_matches
        from saeborzoi.nodes.cluster_labels import cluster_labels, composition, traits_of
        from saeborzoi.nodes.embedding import embed_nodes, node_locus_matrix

        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            with platform.catalog.kept_open():
                seqlets = selected_seqlets(
                    platform, sae, "node, chrom, start_bp, end_bp, activation, sequence"
                )
                platform.catalog.require_made("tomtom_matches", sae.key, range(sae.n_nodes))
                platform.catalog.require_made("annotation_overlaps", sae.key)
                family = family_of_nodes(platform, sae)
                matches = only_supported(platform, sae, "motif_match")
                motifs = platform.catalog.rows("motif", sae.key, "node, motif, consensus")
                evidence = platform.catalog.rows("motif_evidence", sae.key)
                unmatched = platform.catalog.rows("unmatched_node", sae.key)
                overlaps = platform.catalog.rows("annotation_overlap", sae.key)
                version = platform.version_of("umap_embedding", sae.key)
            say(context, f"UMAP of {seqlets['node'].nunique()} nodes")
            nodes, matrix = node_locus_matrix(seqlets)
            embedding = embed_nodes(nodes, matrix, **settings.embedding.model_dump())
            embedding["motif_family"] = embedding["node"].map(family)
            best = best_matches(matches).set_index("node")
            traits = traits_of(
                embedding["node"],
                node_labels(motifs, evidence, matches),
                best["archetype"].fillna(best["target_name"]),
                unmatched.set_index("node")["kind"],
                overlaps,
            )
            clusters = cluster_labels(embedding, traits, composition(seqlets))
            tables = {"node_embedding": embedding, "embedding_cluster": clusters}
            output = keep(context, platform, version, sae, tables)
        from saeborzoi.plots import umap_by_family

        coordinates = embedding[["umap_1", "umap_2"]].to_numpy(float)
        n_nodes = seqlets["node"].nunique()
        named = clusters[clusters["name"].notna()].sort_values("q_value")
        return dg.MaterializeResult(
            metadata={
                "umap": image(umap_by_family(embedding, matches)),
                "n_named_clusters": len(named),
                "n_clusters": len(clusters),
                "n_nodes": n_nodes,
                "named_clusters": table(named, 25),
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
