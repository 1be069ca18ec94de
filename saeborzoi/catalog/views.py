"""The catalogue's views: questions that several readers ask, each with a comment on its grain."""

from saeborzoi.pipeline import MAKER
from saeborzoi.settings.hyperparameters import Hyperparameters

_SETTINGS = ", ".join(f"s.{name}" for name in Hyperparameters.model_fields)
_COMPARED = [name for name in Hyperparameters.model_fields if name not in ("layer", "seed")]
"""Settings that a factor may hang on."""


def _shared(name: str) -> str:
    """SQL for a setting that all SAEs of a group share though the layer has others."""
    return (
        f"CASE WHEN count(DISTINCT {name}) = 1 AND any_value(n_{name}) > 1 "
        f"THEN '{name} ' || any_value({name}) END"
    )


BEST_FIRST = ("motif", "p_value", "target_id", "database")
"""Order of a node's supported matches, the one that names it first: of its first motif that has
any, smallest p; where p is equal, the names decide and not the order of the rows."""

_SUPPORTED = """
        LEFT JOIN motif_evidence v USING (hyperparameters, node, motif)
        WHERE m.is_significant AND coalesce(v.is_supported, true)
"""

SUPPORTED_VIEW = {"motif": "supported_motif", "motif_match": "supported_match"}
"""Table to the view of its rows that are significant and that the evidence does not speak
against."""

VIEWS = {
    "supported_motif": f"SELECT m.* FROM motif m {_SUPPORTED}",
    "supported_match": f"SELECT m.* FROM motif_match m {_SUPPORTED}",
    "best_match": f"""
        SELECT * FROM supported_match
        QUALIFY row_number() OVER (
            PARTITION BY hyperparameters, node ORDER BY {", ".join(BEST_FIRST)}) = 1
    """,
    "node_summary": """
        SELECT n.hyperparameters, n.node, n.frequency, n.activation_max, n.activation_mean,
               s.selected, s.reason, s.n_seqlets,
               m.motif, m.consensus, m.width_bp, m.n_sites, m.log10_e_value,
               m.n_effective_sites, m.suspect,
               v.is_supported, v.fdr, v.motif_family,
               t.database, t.target_id, t.target_name, t.factor_family, t.q_value,
               e.umap_1, e.umap_2, e.cluster,
               o.annotation, o.annotation_class, o.odds_ratio,
               m.suspect AS artefact, v.motif_family AS family_id,
               t.factor_family AS target_family
        FROM node n
        LEFT JOIN node_selection s USING (hyperparameters, node)
        LEFT JOIN best_match t USING (hyperparameters, node)
        LEFT JOIN (
            SELECT * FROM motif WHERE is_significant
        ) m ON m.hyperparameters = n.hyperparameters AND m.node = n.node
           AND m.motif = coalesce(t.motif, (
               SELECT min(f.motif) FROM motif f
               WHERE f.hyperparameters = n.hyperparameters AND f.node = n.node
                 AND f.is_significant))
        LEFT JOIN motif_evidence v ON v.hyperparameters = n.hyperparameters
           AND v.node = n.node AND v.motif = m.motif
        LEFT JOIN node_embedding e ON e.hyperparameters = n.hyperparameters AND e.node = n.node
        LEFT JOIN (
            SELECT * FROM annotation_overlap WHERE n_overlapping > 0
            QUALIFY row_number() OVER (
                PARTITION BY hyperparameters, node
                ORDER BY z_shuffled DESC, annotation, annotation_class) = 1
        ) o ON o.hyperparameters = n.hyperparameters AND o.node = n.node
    """,
    "transcription_factor": """
        SELECT hyperparameters, database, target_name,
               any_value(factor_family) AS factor_family,
               count(DISTINCT node) AS n_nodes,
               list(DISTINCT node ORDER BY node) AS nodes,
               list(DISTINCT node ORDER BY node) FILTER (is_best) AS best_of_nodes,
               min(q_value) AS best_q_value,
               any_value(factor_family) AS target_family
        FROM (
            SELECT m.*, b.target_id IS NOT NULL AS is_best
            FROM supported_match m
            LEFT JOIN best_match b USING (hyperparameters, node, motif, database, target_id)
        )
        GROUP BY hyperparameters, database, target_name
    """,
    "track_driver": """
        SELECT e.hyperparameters, e.track, e.loci, e.node_rank, e.node, t.target_name,
               e.ablated, e.ablated_std, e.doubled, e.level, e.control, e.control_std, e.z,
               e.q_value, e.is_significant, e.n_loci
        FROM node_effect e LEFT JOIN best_match t USING (hyperparameters, node)
    """,
    "variant_explained": """
        SELECT n.hyperparameters, n.variant_set, n.variant, v.name, v.chrom, v.start_bp, v.end_bp,
               v.ref, v.alt, n.track, n.effect, n.part, n.rank, n.node, t.target_name,
               n.attribution, n.share, n.state, n.activation_ref, n.activation_alt,
               n.motif_ref_bits, n.motif_alt_bits, n.position_bp, n.p_value, n.q_value,
               n.acts_through, n.method, n.sees_unknown
        FROM variant_node n
        LEFT JOIN variant v USING (variant_set, variant)
        LEFT JOIN best_match t USING (hyperparameters, node)
    """,
    "node_variant": """
        SELECT hyperparameters, node, target_name, variant_set, variant, name, track, effect,
               attribution, share, state, motif_ref_bits, motif_alt_bits, p_value, q_value, method
        FROM variant_explained WHERE part = 'node' AND acts_through
    """,
    "sae_summary": f"""
        SELECT s.hyperparameters, {_SETTINGS}, s.fvu, s.validation_fvu, s.l0,
               s.dead_fraction, s.training_s,
               s.n_nodes, coalesce(d.n_nodes_done, 0) AS n_nodes_done,
               coalesce(n.n_selected, 0) AS n_selected,
               coalesce(m.n_nodes_with_motif, 0) AS n_nodes_with_motif,
               coalesce(b.n_nodes_with_match, 0) AS n_nodes_with_match,
               coalesce(f.n_factors, 0) AS n_factors,
               coalesce(b.n_best_factors, 0) AS n_best_factors, b.mean_log10_q,
               l.r_log AS fidelity_r_log, l.recovered_mean, l.recovered_zero
        FROM sae s
        LEFT JOIN (
            SELECT owner AS hyperparameters, count(*) AS n_nodes_done
            FROM materialization WHERE asset = '{MAKER["motif_match"]}' GROUP BY ALL
        ) d USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, count(*) AS n_selected
            FROM node_selection WHERE selected GROUP BY ALL
        ) n USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, count(DISTINCT node) AS n_nodes_with_motif
            FROM supported_motif GROUP BY ALL
        ) m USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, count(DISTINCT target_name) AS n_factors
            FROM supported_match GROUP BY ALL
        ) f USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, count(*) AS n_nodes_with_match,
                   count(DISTINCT target_name) AS n_best_factors,
                   avg(-log10(greatest(q_value, 1e-300))) AS mean_log10_q
            FROM best_match GROUP BY ALL
        ) b USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, r_log, recovered_mean, recovered_zero
            FROM fidelity WHERE splice = 'sae'
        ) l USING (hyperparameters)
    """,
    "factor_by_sae": f"""
        WITH found AS (
            SELECT {_SETTINGS}, f.*
            FROM transcription_factor f JOIN sae s USING (hyperparameters)
        ), layers AS (
            SELECT layer, count(DISTINCT hyperparameters) AS n_saes_of_layer,
                   {", ".join(f"count(DISTINCT {name}) AS n_{name}" for name in _COMPARED)}
            FROM found GROUP BY layer
        )
        SELECT layer, database, target_name, any_value(factor_family) AS factor_family,
               count(*) AS n_saes, any_value(n_saes_of_layer) AS n_saes_of_layer,
               list(hyperparameters ORDER BY hyperparameters) AS saes,
               sum(n_nodes)::BIGINT AS n_nodes, min(best_q_value) AS best_q_value,
               concat_ws(', ', {", ".join(map(_shared, _COMPARED))}) AS only_with,
               any_value(factor_family) AS target_family
        FROM found JOIN layers USING (layer)
        GROUP BY layer, database, target_name
    """,
}
"""Columns at the end that repeat another one (`artefact`, `family_id`, `target_family`) are for
queries that were written for earlier releases."""

VIEW_COMMENTS = {
    "supported_motif": "one row a significant motif that its evidence supports, or whose evidence "
    "is not made yet",
    "supported_match": "one row a significant match of a motif that its evidence supports, or "
    "whose evidence is not made yet",
    "best_match": "one row a node with a supported match: the one that names it, of its first "
    "motif that has any, smallest p",
    "sae_summary": "one row a trained SAE: its figures and what its nodes found, as it stands now",
    "factor_by_sae": "one row a factor of a database and layer: which SAEs found it (any "
    "significant match), and the settings that all of them share though the layer has others",
    "node_summary": "one row a node with everything known of it: statistics, selection, motif, "
    "best match, place in the embedding, annotation most enriched",
    "track_driver": "which nodes drive a track: one row a node kept of it, node_rank 1 moves it "
    "most when ablated, with the factor that names the node",
    "variant_explained": "which nodes explain a variant: one row a variant, track and part of the "
    "layer, with the factor that names the node",
    "node_variant": "which variants act through a node: those of whose effect it carries more than "
    "any node does of nearly all neutral changes",
    "transcription_factor": "one row a factor of a database and SAE: the nodes that match it, and "
    "those of which it is the best match",
}
