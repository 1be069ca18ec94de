"""Tables of what is asked of the model's predictions."""

from __future__ import annotations

from saeborzoi.catalog.columns import HYPERPARAMETERS, NODE, Column, table

_SPLICE = Column(
    "splice",
    "VARCHAR",
    "what is in the layer's place: model, sae, sae_with_error, "
    "sae_without_channel_max, zero or mean",
)
_TRACK = Column("track", "VARCHAR", "track of the model")
_LOCI = Column(
    "loci",
    "VARCHAR",
    "how loci were chosen: activation, or gradient (activation x gradient of the outputs)",
)
_FIDELITY = (
    ("r", "DOUBLE", "Pearson's r with the model's own outputs, on its scale"),
    ("r_log", "DOUBLE", "the same on the log scale"),
    (
        "r_published",
        "DOUBLE",
        "sae-borzoi's: r over bins of a sequence, mean over sequences that have one",
    ),
    ("r_target", "DOUBLE", "Pearson's r with the targets, on the model's scale; NULL without them"),
    ("r_log_target", "DOUBLE", "the same on the log scale"),
    ("r_published_target", "DOUBLE", "sae-borzoi's statistic with the targets"),
    ("loss", "DOUBLE", "mean loss of a value"),
    ("recovered_zero", "DOUBLE", "loss recovered against zero ablation"),
    ("recovered_mean", "DOUBLE", "loss recovered against mean ablation"),
)
"""Of a splice."""

EFFECT_TABLES = (
    table(
        "fidelity",
        "one row a splice of an SAE: how far the model's outputs stay, over all tracks",
        "hyperparameters splice",
        HYPERPARAMETERS,
        _SPLICE,
        ("n_sequences", "INTEGER", "sequences of the model's length that it was measured on"),
        ("n_tracks", "INTEGER", "tracks"),
        (
            "loss_name",
            "VARCHAR",
            "cross-entropy, Poisson or squared error",
        ),
        ("loss_against", "VARCHAR", "own outputs of the model, or targets where they are given"),
        ("log_scale", "VARCHAR", "what r_log is taken on"),
        (
            "bypass",
            "DOUBLE",
            "share of the outputs' change between two sequences that goes past the layer, as by a "
            "skip, where no splice reaches it; mean over tracks",
        ),
        *_FIDELITY,
        ("n_constant_tracks", "INTEGER", "tracks that do not vary, whose r does not exist"),
    ),
    table(
        "fidelity_track",
        "one row a splice of an SAE and track of the model",
        "hyperparameters splice track",
        HYPERPARAMETERS,
        _SPLICE,
        _TRACK,
        *_FIDELITY,
    ),
    table(
        "node_effect",
        "one row a node, way of choosing loci, and track: the node's strongest tracks, and each "
        "track's strongest nodes",
        "hyperparameters node loci track",
        HYPERPARAMETERS,
        NODE,
        _LOCI,
        _TRACK,
        ("n_loci", "INTEGER", "sequences on which the node was changed"),
        ("level", "DOUBLE", "level of the track there, unchanged: mean over bins, log scale"),
        ("ablated", "DOUBLE", "change of the level with the node set to 0, mean over loci"),
        ("ablated_std", "DOUBLE", "its standard deviation over loci"),
        ("doubled", "DOUBLE", "change of the level with the node doubled, mean over loci"),
        ("doubled_std", "DOUBLE", "its standard deviation over loci"),
        (
            "control",
            "DOUBLE",
            "change with one of the strongest other nodes at the same positions "
            "set to 0, mean over loci and nodes",
        ),
        ("control_std", "DOUBLE", "its standard deviation over loci and nodes"),
        (
            "shuffled",
            "DOUBLE",
            "published score: L2 norm over bins of the logarithm's change with "
            "the locus shuffled, mean over loci",
        ),
        (
            "z",
            "DOUBLE",
            "by how much more the node's ablation moves the track than the controls' "
            "do: van Elteren's rank test over loci; about 0 where it is as they are",
        ),
        ("p_value", "DOUBLE", "of z, one-sided; NULL for loci by gradient, which the effect chose"),
        ("q_value", "DOUBLE", "Benjamini-Hochberg over nodes and tracks"),
        ("is_significant", "BOOLEAN", "q within the settings; else within what controls do"),
        ("track_rank", "INTEGER", "place among the node's tracks by size of ablated, 1 is largest"),
        ("node_rank", "INTEGER", "place among the track's nodes by size of ablated"),
    ),
    table(
        "node_effect_summary",
        "one row a node and way of choosing loci: its effects over all tracks",
        "hyperparameters node loci",
        HYPERPARAMETERS,
        NODE,
        _LOCI,
        ("n_loci", "INTEGER", "sequences on which the node was changed"),
        ("n_tracks", "INTEGER", "tracks looked at"),
        ("n_significant", "INTEGER", "tracks with a significant effect"),
        ("rms_ablated", "DOUBLE", "root mean square over tracks of the mean effect of ablation"),
        ("rms_control", "DOUBLE", "the same of the controls"),
        ("max_z", "DOUBLE", "largest z of a track"),
        ("top_track", "VARCHAR", "track that ablation moves most"),
        ("top_ablated", "DOUBLE", "by how much"),
    ),
)
