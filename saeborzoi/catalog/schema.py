"""The catalogue's tables: one grain each, every column with its meaning and unit.

Written once here: the DDL, the comments in the database and the column schemas that the assets
show all come from these definitions. Views are in `views.py`; SQL that reads or
writes rows is in `catalog.py`, `rows.py` and `scope.py`; `tables.py` makes them.
"""

from __future__ import annotations

from saeborzoi.catalog.columns import HYPERPARAMETERS as _HYPERPARAMETERS
from saeborzoi.catalog.columns import NODE as _NODE
from saeborzoi.catalog.columns import Column, Table
from saeborzoi.catalog.columns import table as _table
from saeborzoi.catalog.concept_tables import CONCEPT_TABLES
from saeborzoi.catalog.effect_tables import EFFECT_TABLES
from saeborzoi.catalog.variant_tables import VARIANT_TABLES
from saeborzoi.settings.hyperparameters import Hyperparameters

__all__ = ["SCHEMA_VERSION", "TABLE", "TABLES", "Column", "Table"]

SCHEMA_VERSION = 5
"""Version of the tables that stand in a catalogue; a change of what stands (not of what is added)
needs a step in `migrations.py`."""


_MOTIF = Column("motif", "INTEGER", "motif of the node, 1 is the first that was found")


_SQL_TYPE: dict[object, str] = {int: "INTEGER", float: "DOUBLE"}
_SETTINGS = tuple(
    Column(name, _SQL_TYPE.get(field.annotation, "VARCHAR"), str(field.description))
    for name, field in Hyperparameters.model_fields.items()
)
"""A column a hyperparameter."""

_SUMMARY = (
    *_SETTINGS,
    ("fvu", "DOUBLE", "fraction of variance unexplained, training data"),
    ("validation_fvu", "DOUBLE", "fraction of variance unexplained, validation data"),
    ("l0", "DOUBLE", "mean number of non-zero nodes a position"),
    ("dead_fraction", "DOUBLE", "share of nodes that never fire on the last data seen"),
    ("training_s", "DOUBLE", "wall time of training in seconds"),
    ("n_nodes", "INTEGER", "nodes of the SAE"),
    ("n_nodes_done", "BIGINT", "nodes whose motifs were matched; the counts below are of these"),
    ("n_selected", "BIGINT", "nodes that passed the selection"),
    ("n_nodes_with_motif", "BIGINT", "nodes with a significant motif"),
    ("n_nodes_with_match", "BIGINT", "nodes with a significant match"),
    ("n_archetypes", "BIGINT", "distinct archetypes (families of motifs) that name its nodes"),
    ("mean_log10_q", "DOUBLE", "mean over nodes with a match of -log10 q of the best, at most 300"),
    ("n_concepts_found", "BIGINT", "classes that some node detects with F1 of at least 0.5"),
    ("mean_concept_f1", "DOUBLE", "mean over classes of the best node's F1"),
    ("named_share", "DOUBLE", "share of the nodes with a motif that have a significant match"),
    ("median_odds_ratio", "DOUBLE", "median over supported motifs of the odds ratio over shuffles"),
    ("fidelity_r_log", "DOUBLE", "r of the model's outputs with the SAE in it, log scale"),
    ("recovered_mean", "DOUBLE", "loss recovered with the SAE in the model, against mean ablation"),
    ("recovered_zero", "DOUBLE", "the same against zero ablation"),
)

TABLES = (
    _table(
        "channel_normalization",
        "one row a channel of a layer",
        "layer channel",
        ("layer", "VARCHAR", "layer of the sequence model"),
        ("channel", "INTEGER", "channel of the layer, 0 ... n_channels-1"),
        ("activation_max", "DOUBLE", "maximum over all positions; 1 where it was <= 0"),
        ("activation_max_seen", "DOUBLE", "maximum over all positions as seen"),
    ),
    _table(
        "sae",
        "one row a trained SAE",
        "hyperparameters",
        _HYPERPARAMETERS,
        *_SETTINGS,
        ("n_channels", "INTEGER", "channels of the layer"),
        ("n_nodes", "INTEGER", "nodes of the SAE"),
        ("k", "INTEGER", "active nodes a position"),
        ("n_positions", "BIGINT", "positions that it was trained on"),
        ("fvu", "DOUBLE", "fraction of variance unexplained, training data"),
        ("validation_fvu", "DOUBLE", "fraction of variance unexplained, validation data"),
        ("l0", "DOUBLE", "mean number of non-zero nodes a position"),
        ("dead_fraction", "DOUBLE", "share of nodes that never fire on the last data seen"),
        ("training_s", "DOUBLE", "wall time of training in seconds"),
        ("artifact", "VARCHAR", "folder with cfg.json and sae.safetensors, relative to the store"),
    ),
    _table(
        "training_log",
        "one row a logged step of a training",
        "hyperparameters step split",
        _HYPERPARAMETERS,
        ("step", "BIGINT", "optimizer steps taken"),
        ("split", "VARCHAR", "train or validation"),
        ("n_positions", "BIGINT", "positions seen"),
        ("loss", "DOUBLE", "mean squared error of the reconstruction"),
        ("fvu", "DOUBLE", "fraction of variance unexplained"),
        ("l0", "DOUBLE", "mean number of non-zero nodes a position"),
        ("dead_fraction", "DOUBLE", "share of nodes that did not fire lately"),
        ("learning_rate", "DOUBLE", "learning rate of the step"),
        ("positions_per_s", "DOUBLE", "positions a second since the last row"),
    ),
    _table(
        "node",
        "one row a node of an SAE: its activation over all positions",
        "hyperparameters node",
        _HYPERPARAMETERS,
        _NODE,
        ("n_positions", "BIGINT", "positions scanned"),
        ("n_nonzero", "BIGINT", "positions where the node fires"),
        ("frequency", "DOUBLE", "n_nonzero / n_positions"),
        ("activation_max", "DOUBLE", "largest activation"),
        ("activation_mean", "DOUBLE", "mean activation where it fires"),
        ("activation_std", "DOUBLE", "standard deviation of the activation where it fires"),
        ("n_above_mean_fraction", "BIGINT", "positions above strong_fraction x mean"),
        ("n_above_max_fraction", "BIGINT", "positions above strong_fraction x max"),
        ("histogram_edges", "DOUBLE[]", "edges of the activation histogram, n_bins + 1"),
        ("histogram_counts", "BIGINT[]", "firing positions in each bin, n_bins"),
    ),
    _table(
        "node_selection",
        "one row a node whose seqlets were made: is it worth a motif",
        "hyperparameters node",
        _HYPERPARAMETERS,
        _NODE,
        ("selected", "BOOLEAN", "whether the node passed the selection"),
        ("reason", "VARCHAR", "why not, NULL where selected"),
        ("n_seqlets", "INTEGER", "seqlets kept"),
        ("n_strong", "INTEGER", "top positions that count as strong"),
        ("n_dropped", "INTEGER", "top positions without a seqlet: chromosome end or not ACGT"),
    ),
    _table(
        "seqlet",
        "one row a seqlet of a node",
        "hyperparameters node rank",
        _HYPERPARAMETERS,
        _NODE,
        ("rank", "INTEGER", "0 is the strongest position of the node"),
        ("chrom", "VARCHAR", "chromosome"),
        ("start_bp", "BIGINT", "start, 0-based"),
        ("end_bp", "BIGINT", "end, exclusive"),
        ("activation", "REAL", "activation of the node at the position"),
        ("sequence", "VARCHAR", "upper-case sequence of the reference on that strand"),
        ("strand", "VARCHAR", "+ or -: strand on which the model read the window"),
    ),
    _table(
        "motif",
        "one row a motif discovered in a node's seqlets",
        "hyperparameters node motif",
        _HYPERPARAMETERS,
        _NODE,
        _MOTIF,
        ("consensus", "VARCHAR", "IUPAC consensus"),
        ("width_bp", "INTEGER", "width in bp"),
        ("n_sites", "INTEGER", "sites that the matrix was made from"),
        ("n_effective_sites", "DOUBLE", "sites, those of near-identical seqlets counted once"),
        ("llr", "DOUBLE", "log-likelihood ratio in nats"),
        ("log10_e_value", "DOUBLE", "log10 of the E-value; log10 as E-values underflow"),
        ("is_significant", "BOOLEAN", "E-value below the setting, and not suspect"),
        ("matrix", "DOUBLE[][]", "position probability matrix, width x 4, order A C G T"),
        ("engine", "VARCHAR", "builtin, meme or streme, with its version"),
        ("information_content_bits", "DOUBLE", "total information content in bits"),
        ("is_palindrome", "BOOLEAN", "equals its reverse complement"),
        (
            "suspect",
            "VARCHAR",
            "composition, repeat, few_sites, low_complexity or cpg: what the motif likely is; "
            "or NULL",
        ),
        ("odds_ratio", "DOUBLE", "occurrence in seqlets against shuffled seqlets"),
        ("odds_ratio_low", "DOUBLE", "lower end of its 95 % confidence interval"),
        ("odds_ratio_high", "DOUBLE", "upper end of its 95 % confidence interval"),
        ("enrichment_p_value", "DOUBLE", "Fisher's exact p of that enrichment, one-sided"),
        ("activation_spearman", "DOUBLE", "rank correlation of activation with motif score"),
    ),
    _table(
        "motif_evidence",
        "one row a motif: what it is worth among all motifs of the SAE",
        "hyperparameters node motif",
        _HYPERPARAMETERS,
        _NODE,
        _MOTIF,
        ("odds_ratio_other_nodes", "DOUBLE", "occurrence against the seqlets of other nodes"),
        ("fdr", "DOUBLE", "false discovery rate of the enrichment over all motifs of the SAE"),
        ("core_bits", "DOUBLE", "largest information of six neighbouring columns, in bits"),
        ("is_supported", "BOOLEAN", "significant, and enriched twofold over both controls"),
        (
            "motif_family",
            "INTEGER",
            "family of like motifs, 0 is the largest; NULL if not supported",
        ),
        ("n_family_motifs", "INTEGER", "motifs in the motif family"),
        ("n_family_nodes", "INTEGER", "nodes with a motif in the motif family"),
        ("founder_node", "INTEGER", "node of the motif family's most significant motif"),
        ("founder_motif", "INTEGER", "that motif"),
        ("orientation", "VARCHAR", "+ or -, against the founder"),
        ("offset_bp", "INTEGER", "start of the motif minus start of the founder"),
        ("family_q_value", "DOUBLE", "q-value of the match with the founder"),
    ),
    _table(
        "motif_match",
        "one row a match of a motif with a motif of a database",
        "hyperparameters node motif database target_id",
        _HYPERPARAMETERS,
        _NODE,
        _MOTIF,
        ("database", "VARCHAR", "name of the database in the settings"),
        ("target_id", "VARCHAR", "identifier there, e.g. MA0139.1"),
        ("target_name", "VARCHAR", "name there, e.g. CTCF"),
        ("factor_family", "VARCHAR", "JASPAR's family of the factor, where known"),
        ("target_class", "VARCHAR", "structural class of the factor, where known"),
        ("archetype", "VARCHAR", "cluster of like motifs of the database, e.g. AP-1"),
        ("p_value", "DOUBLE", "p-value of the best alignment"),
        ("q_value", "DOUBLE", "Benjamini-Hochberg over the targets of the database"),
        ("e_value", "DOUBLE", "p-value x targets of the database"),
        ("offset_bp", "INTEGER", "start of the target minus start of the query in the alignment"),
        ("overlap_bp", "INTEGER", "aligned columns"),
        ("orientation", "VARCHAR", "+ or -, strand of the target"),
        ("similarity", "DOUBLE", "Pearson correlation of the aligned columns about 1/4"),
        (
            "is_significant",
            "BOOLEAN",
            "p, q, E and similarity within the settings, of a significant motif",
        ),
    ),
    _table(
        "node_embedding",
        "one row a selected node of an SAE",
        "hyperparameters node",
        _HYPERPARAMETERS,
        _NODE,
        ("umap_1", "DOUBLE", "first UMAP coordinate"),
        ("umap_2", "DOUBLE", "second UMAP coordinate"),
        ("cluster", "INTEGER", "cluster on the embedding"),
        ("motif_family", "INTEGER", "motif family of its first supported motif"),
    ),
    _table(
        "embedding_cluster",
        "one row a cluster of an embedding",
        "hyperparameters cluster",
        _HYPERPARAMETERS,
        ("cluster", "INTEGER", "cluster on the embedding"),
        ("n_nodes", "INTEGER", "nodes in it"),
        ("name", "VARCHAR", "archetype, or consensus of the motif family, most enriched in it"),
        ("n_named_nodes", "INTEGER", "nodes of it that are that"),
        ("p_value", "DOUBLE", "hypergeometric p of the enrichment, x names and clusters tried"),
    ),
    _table(
        "annotation_overlap",
        "one row a selected node and class of an annotation",
        "hyperparameters node annotation annotation_class",
        _HYPERPARAMETERS,
        _NODE,
        ("annotation", "VARCHAR", "name of the annotation in the settings"),
        ("annotation_class", "VARCHAR", "class, from the BED's class column"),
        ("n_seqlets", "INTEGER", "seqlets of the node"),
        ("n_overlapping", "INTEGER", "seqlets that overlap the class by >= 1 bp"),
        ("n_expected", "DOUBLE", "mean number that overlap when shuffled"),
        ("z_score", "DOUBLE", "z of n_overlapping over the nodes"),
        ("z_shuffled", "DOUBLE", "z of n_overlapping against the shuffled control"),
        ("odds_ratio", "DOUBLE", "odds of overlap against the shuffled control"),
        ("odds_ratio_low", "DOUBLE", "lower end of its 95 % confidence interval"),
        ("odds_ratio_high", "DOUBLE", "upper end of its 95 % confidence interval"),
    ),
    _table(
        "node_jaccard",
        "one row a pair of selected nodes whose seqlets overlap, node_a < node_b",
        "hyperparameters node_a node_b",
        _HYPERPARAMETERS,
        ("node_a", "INTEGER", "first node"),
        ("node_b", "INTEGER", "second node"),
        ("n_overlapping", "INTEGER", "loci of a that overlap a locus of b"),
        ("jaccard", "DOUBLE", "overlapping base pairs / base pairs covered by either"),
        ("same_family", "BOOLEAN", "whether their first supported motifs are of one motif family"),
    ),
    *EFFECT_TABLES,
    *VARIANT_TABLES,
    *CONCEPT_TABLES,
    _table(
        "sae_comparison",
        "one row a trained SAE, among the others of its layer when last compared",
        "hyperparameters",
        _HYPERPARAMETERS,
        *_SUMMARY,
        ("is_pareto", "BOOLEAN", "no other SAE of the layer has a lower FVU at as low an L0"),
        ("is_pareto_with_dead", "BOOLEAN", "the same with the share of dead nodes as third cost"),
        ("n_archetypes_only_here", "INTEGER", "archetypes of no node of another trained SAE"),
        ("n_seeds", "INTEGER", "SAEs that differ in the seed only"),
        (
            "recurrence_seeds",
            "DOUBLE",
            "mean over those SAEs of the share of its firing nodes that recur",
        ),
        ("n_settings", "INTEGER", "other SAEs of the layer"),
        (
            "recurrence_settings",
            "DOUBLE",
            "mean over those SAEs of the share of its firing nodes that recur",
        ),
    ),
    _table(
        "sae_stability",
        "one row a pair of SAEs of a layer: how many nodes are the same",
        "hyperparameters_a hyperparameters_b",
        ("hyperparameters_a", "VARCHAR", "partition key of the first SAE"),
        ("hyperparameters_b", "VARCHAR", "partition key of the second SAE"),
        ("layer", "VARCHAR", "layer that both read"),
        ("differs_in", "VARCHAR", "what tells them apart: seed, or names with commas"),
        ("n_nodes_a", "INTEGER", "nodes of the first that fire"),
        ("n_nodes_b", "INTEGER", "nodes of the second that fire"),
        ("n_close", "INTEGER", "pairs of nodes with the same direction: closest to each other"),
        ("n_matched", "INTEGER", "those of them whose top positions are the same, too"),
        ("share_a", "DOUBLE", "n_matched / n_nodes_a: share of the first's nodes that recur"),
        ("share_b", "DOUBLE", "n_matched / n_nodes_b"),
        ("best_cosine_a", "DOUBLE", "mean over the first's nodes of the best cosine"),
        ("best_cosine_b", "DOUBLE", "mean over the second's nodes of the best cosine"),
        ("jaccard", "DOUBLE", "mean Jaccard index of matched nodes' top positions"),
    ),
    _table(
        "node_recurrence",
        "one row a node that another SAE of its layer has too",
        "hyperparameters node",
        _HYPERPARAMETERS,
        _NODE,
        ("n_seeds", "INTEGER", "SAEs that differ in the seed only and have it"),
        ("n_settings", "INTEGER", "other SAEs of the layer that have it"),
        ("cosine", "DOUBLE", "mean cosine with the node there"),
        ("jaccard", "DOUBLE", "mean Jaccard index of the top positions with the node there"),
    ),
    _table(
        "materialization",
        "one row an asset's partition: what made the rows that stand now",
        "asset owner node",
        ("asset", "VARCHAR", "name of the asset"),
        ("owner", "VARCHAR", "layer, partition key of the SAE, or 'project'"),
        ("node", "INTEGER", "node of the SAE, NULL for what is of the owner as a whole"),
        ("run_id", "VARCHAR", "Dagster run"),
        ("code_version", "VARCHAR", "version of the asset's code"),
        ("data_version", "VARCHAR", "fingerprint of the inputs and settings that it was made from"),
        ("artifact", "VARCHAR", "file or folder, relative to the store"),
        ("n_rows", "BIGINT", "rows that its run put into its tables, for all of its partitions"),
        ("made_at", "TIMESTAMP WITH TIME ZONE", "when it was catalogued"),
        (
            "made_from",
            "VARCHAR",
            "JSON that data_version is the digest of: settings that matter, fingerprint of the "
            "user's files, data versions of the inputs",
        ),
    ),
)

TABLE = {table.name: table for table in TABLES}

FORMER_NAMES = {
    "motif": {"artefact": "suspect"},
    "motif_evidence": {"family_id": "motif_family"},
    "motif_match": {"target_family": "factor_family"},
    "embedding_cluster": {"family": "name", "n_family_nodes": "n_named_nodes"},
}
"""Table to names that its columns had in earlier releases, and what they are called now."""
