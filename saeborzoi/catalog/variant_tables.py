"""Tables of variants: what they are, what they do to the model's outputs, through which nodes."""

from __future__ import annotations

from saeborzoi.catalog.columns import HYPERPARAMETERS, Column, table

_SET = Column("variant_set", "VARCHAR", "name of its [[variants]]")
_VARIANT = Column(
    "variant",
    "VARCHAR",
    "chrom:pos:ref:alt, pos counts from 1, left-aligned and as short as can be",
)
_TRACK = Column("track", "VARCHAR", "track of the model; '' where the model has no outputs")

VARIANT_TABLES = (
    table(
        "variant",
        "one row a variant of a set: what it is, and how far it moves the model's outputs",
        "variant_set variant",
        _SET,
        _VARIANT,
        ("name", "VARCHAR", "rsid; '' where the file has none"),
        ("chrom", "VARCHAR", "chromosome, as the genome names it"),
        ("start_bp", "BIGINT", "start of the reference allele, 0-based"),
        ("end_bp", "BIGINT", "its end, exclusive"),
        ("ref", "VARCHAR", "reference allele"),
        ("alt", "VARCHAR", "alternative allele"),
        ("kind", "VARCHAR", "SNP, MNV, insertion, deletion or delins"),
        ("given", "VARCHAR", "as it stands in the file"),
        ("line", "BIGINT", "its line in the file, 1-based"),
        ("is_swapped", "BOOLEAN", "the file has the genome's allele as the alternative one"),
        ("n_unknown", "INTEGER", "letters other than A, C, G, T in the model's window"),
        ("effect_norm", "DOUBLE", "Euclidean norm of the effects on all tracks' scores"),
        ("p_value", "DOUBLE", "share of neutral changes in the same windows with as large a norm"),
        ("q_value", "DOUBLE", "Benjamini-Hochberg over the set's variants"),
    ),
    table(
        "variant_track",
        "one row a variant and each of the tracks that it moves most",
        "variant_set variant rank",
        _SET,
        _VARIANT,
        ("rank", "INTEGER", "place among the tracks by size of the effect, 1 is largest"),
        _TRACK,
        ("score_ref", "DOUBLE", "score of the reference allele: see [attribution] span_bp"),
        ("score_alt", "DOUBLE", "score of the alternative allele"),
        ("effect", "DOUBLE", "score_alt - score_ref: a log2 fold change of coverage"),
    ),
    table(
        "variant_skipped",
        "one row an allele of a file that was not used",
        "variant_set number",
        _SET,
        ("number", "INTEGER", "0 is the first that was skipped"),
        ("line", "BIGINT", "line of the file, 1-based"),
        ("name", "VARCHAR", "rsid; '' where the file has none"),
        ("given", "VARCHAR", "as it stands in the file"),
        ("reason", "VARCHAR", "why, in words"),
    ),
    table(
        "variant_node",
        "one row a variant, track and part of an SAE's layer: what it carries of the effect; "
        "without the single nodes, the rows sum to it",
        "hyperparameters variant_set variant track part rank",
        HYPERPARAMETERS,
        _SET,
        _VARIANT,
        _TRACK,
        (
            "part",
            "VARCHAR",
            "node, all nodes, background, error, bypass, alignment (what an indel moves and cannot "
            "be aligned) or gap (what the integration misses)",
        ),
        ("rank", "INTEGER", "place of the node by size of its attribution, 1 is largest; else 0"),
        ("node", "INTEGER", "the node; NULL where the part is none"),
        ("method", "VARCHAR", "exact, gradient at ref, or activation only"),
        ("effect", "DOUBLE", "what the variant does to the track's score"),
        (
            "attribution",
            "DOUBLE",
            "what the part carries of it; activation only: how far the node's part of the layer "
            "moves",
        ),
        ("share", "DOUBLE", "attribution / effect"),
        ("position_bp", "BIGINT", "start of the position where most of it is, 0-based"),
        ("activation_ref", "DOUBLE", "activation of the node there, reference allele"),
        ("activation_alt", "DOUBLE", "the same of the alternative allele"),
        ("state", "VARCHAR", "on, off, up, down or same; selects nothing by itself"),
        ("sees_unknown", "BOOLEAN", "a letter other than A, C, G, T is in what it sees"),
        ("n_points", "INTEGER", "points of the integration"),
        (
            "motif_ref_bits",
            "DOUBLE",
            "score of the node's motif on the reference allele, log2 odds",
        ),
        ("motif_alt_bits", "DOUBLE", "the same on the alternative allele"),
        (
            "p_value",
            "DOUBLE",
            "share of neutral changes in the same windows whose strongest node carries as much",
        ),
        ("q_value", "DOUBLE", "Benjamini-Hochberg over the set's rows of nodes, by method"),
        ("acts_through", "BOOLEAN", "p within [attribution] max_p_value"),
    ),
)
