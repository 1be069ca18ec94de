"""The catalogue's views: questions that several readers ask, each with a comment on its grain."""

from saeborzoi.pipeline import MAKER
from saeborzoi.settings.hyperparameters import BASELINES, Hyperparameters

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

FITS_AS_WELL = 0.05
"""A factor of the archetype fits as well as the best where its similarity is at most this much
less: paralogues are told apart by less than two SAEs of one layer differ."""
NAMED_MEMBERS = 3
"""Factors that stand in a node's name; the others are in `members`."""

MIN_F1, MIN_LIFT = 0.5, 1.5
"""A node detects a class of annotation: F1, and precision over the share that the class covers."""
CORE_BITS = 6.5
"""A factor's core holds at least this much in six neighbouring columns; composition and a stretch
of A and T do not."""

MAX_MATCH_FDR, MAX_BY_CHANCE = 0.01, 1
"""Of the matches of an SAE's motifs one in a hundred is by chance, or one of them all. By E < 0.05
alone one in twenty motifs that are like nothing known has a match, and an SAE has hundreds."""
NAMING_SHARE = 0.5
"""A motif names its node where at least this share of the seqlets are its sites: what most of them
lack is one of several things that the node detects."""
NAMING_SIMILARITY = 0.8
"""Some match of the archetype is at least this similar: true ones are, and those that TomTom takes
for the degenerate columns of a long matrix are not (`matching.aligned_similarity`)."""

SUPPORTED_VIEW = {"motif": "supported_motif", "motif_match": "supported_match"}
"""Table to the view of its rows that are significant and that the evidence does not speak
against."""

VIEWS = {
    "supported_motif": """
        SELECT m.* FROM motif m
        LEFT JOIN motif_evidence v USING (hyperparameters, node, motif)
        WHERE m.is_significant AND coalesce(v.is_supported, true)
    """,
    "supported_match": f"""
        WITH best_of_motif AS (
            SELECT m.hyperparameters, m.node, m.motif, m.database,
                   coalesce(min(m.e_value) FILTER (
                       m.is_significant AND coalesce(v.is_supported, true)), 1) AS e_value,
                   any_value(o.n_sites) AS n_sites
            FROM motif_match m
            LEFT JOIN motif o USING (hyperparameters, node, motif)
            LEFT JOIN motif_evidence v USING (hyperparameters, node, motif)
            WHERE coalesce(o.is_significant, true)
            GROUP BY ALL
        ), ranked AS (
            -- how many of the significant motifs would match as well by chance
            SELECT *, e_value * count(*) OVER of_sae AS n_by_chance,
                   row_number() OVER (of_sae ORDER BY e_value) AS place
            FROM best_of_motif
            WINDOW of_sae AS (PARTITION BY hyperparameters, database)
        ), judged AS (
            SELECT *, min(n_by_chance / place) OVER (
                PARTITION BY hyperparameters, database ORDER BY e_value
                RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS fdr
            FROM ranked
        )
        SELECT m.*, j.fdr, j.n_sites / s.n_seqlets AS site_share,
               coalesce(site_share >= {NAMING_SHARE}, true)
               AND coalesce(max(m.similarity) OVER (
                       PARTITION BY m.hyperparameters, m.node, m.motif, m.database, m.archetype
                   ) >= {NAMING_SIMILARITY}, true) AS may_name
        FROM motif_match m
        JOIN judged j USING (hyperparameters, node, motif, database)
        LEFT JOIN node_selection s USING (hyperparameters, node)
        LEFT JOIN motif_evidence v USING (hyperparameters, node, motif)
        WHERE m.is_significant AND coalesce(v.is_supported, true)
          AND (j.fdr < {MAX_MATCH_FDR} OR j.n_by_chance < {MAX_BY_CHANCE})
    """,
    "best_match": f"""
        SELECT * FROM supported_match WHERE may_name
        QUALIFY row_number() OVER (
            PARTITION BY hyperparameters, node ORDER BY {", ".join(BEST_FIRST)}) = 1
    """,
    "node_name": f"""
        SELECT hyperparameters, node, motif, database, archetype, members, target_id,
               target_name, q_value,
               archetype || CASE WHEN members = [archetype] THEN '' ELSE
                   ': ' || array_to_string(members[:{NAMED_MEMBERS}], ', ')
                   || CASE WHEN len(members) > {NAMED_MEMBERS} THEN ' …' ELSE '' END
               END AS name
        FROM (
            SELECT b.hyperparameters, b.node, b.motif, b.database, b.target_id, b.target_name,
                   b.q_value, coalesce(b.archetype, b.target_name) AS archetype,
                   list(m.target_name ORDER BY m.p_value, m.target_id)
                       FILTER (m.target_id = b.target_id
                               OR m.similarity >= b.similarity - {FITS_AS_WELL}) AS members
            FROM best_match b
            JOIN (
                -- a factor may have several matrices in one archetype
                SELECT * FROM supported_match QUALIFY row_number() OVER (
                    PARTITION BY hyperparameters, node, motif, database, archetype, target_name
                    ORDER BY p_value, target_id) = 1
            ) m
              ON m.hyperparameters = b.hyperparameters AND m.node = b.node AND m.motif = b.motif
             AND m.database = b.database
             AND m.archetype IS NOT DISTINCT FROM b.archetype
            GROUP BY ALL
        )
    """,
    "unmatched_node": f"""
        SELECT m.hyperparameters, m.node,
               CASE WHEN max(v.core_bits) < {CORE_BITS} THEN 'repeat or composition'
                    WHEN count(DISTINCT v.motif_family) > 1
                      OR bool_or(w.site_share < {NAMING_SHARE}) THEN 'mixed'
                    ELSE 'unknown' END AS kind
        FROM supported_motif m
        JOIN motif_evidence v USING (hyperparameters, node, motif)
        LEFT JOIN supported_match w ON w.hyperparameters = m.hyperparameters AND w.node = m.node
        LEFT JOIN best_match b ON b.hyperparameters = m.hyperparameters AND b.node = m.node
        WHERE b.node IS NULL
        GROUP BY ALL
    """,
    "current_label": f"""
        SELECT l.* FROM node_label l
        JOIN materialization m ON m.owner = l.hyperparameters AND m.asset = '{MAKER["sae"]}'
         AND m.data_version = l.trained_version
    """,
    "node_summary": """
        SELECT n.hyperparameters, n.node, n.frequency, n.activation_max, n.activation_mean,
               s.selected, s.reason, s.n_seqlets,
               m.motif, m.consensus, m.width_bp, m.n_sites, m.log10_e_value,
               m.n_effective_sites, m.suspect,
               v.is_supported, v.fdr, v.motif_family,
               b.label, a.name, a.archetype, a.members, u.kind AS unmatched_kind,
               t.database, t.target_id, t.target_name, t.factor_family, t.q_value,
               e.umap_1, e.umap_2, e.cluster,
               o.annotation, o.annotation_class, o.odds_ratio,
               m.suspect AS artefact, v.motif_family AS family_id,
               t.factor_family AS target_family
        FROM node n
        LEFT JOIN node_selection s USING (hyperparameters, node)
        LEFT JOIN best_match t USING (hyperparameters, node)
        LEFT JOIN node_name a USING (hyperparameters, node)
        LEFT JOIN unmatched_node u USING (hyperparameters, node)
        LEFT JOIN current_label b USING (hyperparameters, node)
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
               list_sort(list_distinct(flatten(list(nodes_of_archetype) FILTER (
                   nodes_of_archetype IS NOT NULL)))) AS nodes_of_archetype,
               min(q_value) AS best_q_value,
               any_value(factor_family) AS target_family
        FROM (
            SELECT m.* REPLACE (coalesce(m.archetype, m.target_name) AS archetype),
                   b.target_id IS NOT NULL AS is_best
            FROM supported_match m
            LEFT JOIN best_match b USING (hyperparameters, node, motif, database, target_id)
        )
        LEFT JOIN (
            SELECT hyperparameters, database, archetype,
                   list(node ORDER BY node) AS nodes_of_archetype
            FROM node_name GROUP BY ALL
        ) USING (hyperparameters, database, archetype)
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
               coalesce(b.n_archetypes, 0) AS n_archetypes, b.mean_log10_q,
               c.n_concepts_found, c.mean_concept_f1,
               coalesce(b.n_nodes_with_match, 0) / nullif(m.n_nodes_with_motif, 0)
                   AS named_share,
               m.median_odds_ratio,
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
            SELECT hyperparameters, count(DISTINCT node) AS n_nodes_with_motif,
                   median(odds_ratio) AS median_odds_ratio
            FROM supported_motif GROUP BY ALL
        ) m USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, count(*) AS n_nodes_with_match,
                   count(DISTINCT archetype) AS n_archetypes,
                   -- DuckDB adds up in any order: the last digits are not the same each time
                   round(avg(-log10(greatest(q_value, 1e-300))), 9) AS mean_log10_q
            FROM node_name GROUP BY ALL
        ) b USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters,
                   count(*) FILTER (f1 >= {MIN_F1} AND lift >= {MIN_LIFT}) AS n_concepts_found,
                   round(avg(coalesce(f1, 0)) FILTER (n_elements > 0), 9) AS mean_concept_f1
            FROM concept GROUP BY ALL
        ) c USING (hyperparameters)
        LEFT JOIN (
            SELECT hyperparameters, r_log, recovered_mean, recovered_zero
            FROM fidelity WHERE splice = 'sae'
        ) l USING (hyperparameters)
    """,
    "archetype_by_sae": f"""
        WITH found AS (
            SELECT {_SETTINGS}, f.*
            FROM node_name f JOIN sae s USING (hyperparameters)
            WHERE s.recipe NOT IN ({", ".join(f"'{name}'" for name in BASELINES)})
        ), layers AS (
            SELECT layer, count(DISTINCT hyperparameters) AS n_saes_of_layer,
                   {", ".join(f"count(DISTINCT {name}) AS n_{name}" for name in _COMPARED)}
            FROM found GROUP BY layer
        )
        SELECT layer, database, archetype,
               list(DISTINCT target_name ORDER BY target_name) AS factors,
               count(DISTINCT hyperparameters) AS n_saes,
               any_value(n_saes_of_layer) AS n_saes_of_layer,
               list(DISTINCT hyperparameters ORDER BY hyperparameters) AS saes,
               count(*) AS n_nodes, min(q_value) AS best_q_value,
               concat_ws(', ', {", ".join(map(_shared, _COMPARED))}) AS only_with
        FROM found JOIN layers USING (layer)
        GROUP BY layer, database, archetype
    """,
}
"""Columns at the end that repeat another one (`artefact`, `family_id`, `target_family`) are for
queries that were written for earlier releases."""

VIEW_COMMENTS = {
    "supported_motif": "one row a significant motif that its evidence supports, or whose evidence "
    "is not made yet",
    "supported_match": "one row a significant match of a motif that its evidence supports, or "
    "whose evidence is not made yet; fdr: of its motif's best match, over all motifs of the SAE; "
    "site_share: of the node's seqlets, that are sites of the motif; may_name: at least half are, "
    "and some match of the archetype has a similarity of 0.8",
    "best_match": "one row a node with a supported match of a motif that may name it: of its first "
    "such motif, smallest p",
    "sae_summary": "one row a trained SAE: its figures and what its nodes found, as it stands now",
    "unmatched_node": "one row a node with a supported motif that nothing known names: 'repeat "
    "or composition' (no six columns say as much as a factor's core), 'mixed' (motifs of several "
    "families, or one with a match in less than half of its seqlets) or 'unknown'",
    "node_name": "one row a node of view best_match, and what it is called: the archetype (the "
    "family of motifs) of its best match, the factors of it that fit as well, best first, and "
    "both in words",
    "archetype_by_sae": "one row an archetype of a database and layer: which trained SAEs have "
    "nodes named by it, and the settings that all of them share though the layer has others",
    "current_label": "one row a label of the training that stands: an SAE that was trained again "
    "has other nodes",
    "node_summary": "one row a node with everything known of it: statistics, selection, motif, "
    "best match, place in the embedding, annotation most enriched",
    "track_driver": "which nodes drive a track: one row a node kept of it, node_rank 1 moves it "
    "most when ablated, with the factor that names the node",
    "variant_explained": "which nodes explain a variant: one row a variant, track and part of the "
    "layer, with the factor that names the node",
    "node_variant": "which variants act through a node: those of whose effect it carries more than "
    "any node does of nearly all neutral changes",
    "transcription_factor": "one row a factor of a database and SAE: the nodes that match it, and "
    "those of which it is the best match, and those that one of its archetypes names",
}
