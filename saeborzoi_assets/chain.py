"""The assets of the chain for `saeborzoi trace`: what one partition of each is."""

from saeborzoi_assets.assets import (
    annotation_overlaps,
    feature_browser,
    jaccard_matrix,
    meme_motifs,
    motif_evidence,
    normalization_constants,
    sae_comparison,
    seqlets,
    tomtom_matches,
    top_activations,
    trained_sae,
    umap_embedding,
)
from saeborzoi_resources.upkeep.trace import ChainAsset

CHAIN = (
    ChainAsset(normalization_constants.NAME, "layer", normalization_constants.version_of),
    ChainAsset(trained_sae.NAME, "sae", trained_sae.version_of),
    ChainAsset(top_activations.NAME, "sae", top_activations.version_of),
    ChainAsset(seqlets.NAME, "node", seqlets.version_of),
    ChainAsset(meme_motifs.NAME, "node", meme_motifs.version_of),
    ChainAsset(tomtom_matches.NAME, "node", tomtom_matches.version_of),
    ChainAsset(motif_evidence.NAME, "sae", motif_evidence.version_of),
    ChainAsset(umap_embedding.NAME, "sae", umap_embedding.version_of),
    ChainAsset(annotation_overlaps.NAME, "sae", annotation_overlaps.version_of),
    ChainAsset(jaccard_matrix.NAME, "sae", jaccard_matrix.version_of),
    ChainAsset(feature_browser.NAME, "sae", feature_browser.version_of),
    ChainAsset(sae_comparison.NAME, "project", sae_comparison.version_of),
)
"""In the order in which they are made."""
