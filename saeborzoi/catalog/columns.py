"""What a table of the catalogue is made of, and columns that several tables share."""

from __future__ import annotations

from typing import NamedTuple

from saeborzoi.settings.hyperparameters import Hyperparameters


class Column(NamedTuple):
    """One column: SQL type and what it means, with its unit."""

    name: str
    type: str
    comment: str


class Table(NamedTuple):
    """One table: its grain, in words, and its columns; `key` is unique."""

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


SAE_KEY = Column("hyperparameters", "VARCHAR", "partition key of the SAE")
NODE = Column("node", "INTEGER", "node of the SAE, 0 ... n_nodes-1")
MOTIF = Column("motif", "INTEGER", "motif of the node, 1 is the first that was found")


def table(name: str, grain: str, key: str, *columns: Column | tuple[str, str, str]) -> Table:
    return Table(name, grain, tuple(key.split()), tuple(Column(*column) for column in columns))


_SQL_TYPE: dict[object, str] = {int: "INTEGER", float: "DOUBLE"}
SETTINGS = tuple(
    Column(name, _SQL_TYPE.get(field.annotation, "VARCHAR"), str(field.description))
    for name, field in Hyperparameters.model_fields.items()
)
"""A column a hyperparameter."""

SUMMARY = (
    *SETTINGS,
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
)
