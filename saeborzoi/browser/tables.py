"""The catalogue's tables of one SAE as the writer reads them, and the state of each node.

A table that is missing or empty has not been computed; that is normal and is shown as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from saeborzoi.errors import InputError
from saeborzoi.motifs.matching import best_matches
from saeborzoi.pipeline import MAKER

if TYPE_CHECKING:
    import pandas as pd

DEAD, UNSELECTED, PENDING, NO_MOTIF, UNMATCHED, MATCHED = "dnpxum"
"""State of a node, one letter: never fires; failed the selection; selection, motifs or matches
not yet computed; no significant motif; motif without a match; motif with a match."""

STATE_NAMES = {
    DEAD: "dead",
    UNSELECTED: "not selected",
    PENDING: "not yet computed",
    NO_MOTIF: "no significant motif",
    UNMATCHED: "motif without match",
    MATCHED: "matched",
}

REQUIRED = {
    "sae": ("n_nodes",),
    "training_log": ("split", "n_positions", "fvu", "dead_fraction"),
    "node": (
        "node", "n_positions", "n_nonzero", "frequency", "activation_max", "activation_mean",
        "activation_std", "histogram_edges", "histogram_counts",
    ),
    "node_selection": ("node", "selected", "reason", "n_seqlets", "n_strong", "n_dropped"),
    "seqlet": ("node", "rank", "chrom", "start_bp", "end_bp", "activation", "sequence"),
    "seqlet_activation": ("node", "rank", "step_bp", "activations"),
    "seqlet_gene": ("node", "rank", "gene", "distance_bp"),
    "motif": (
        "node", "motif", "consensus", "width_bp", "n_sites", "llr", "log10_e_value",
        "is_significant", "matrix", "engine", "information_content_bits", "is_palindrome",
        "suspect", "n_effective_sites", "odds_ratio", "odds_ratio_low", "odds_ratio_high",
        "enrichment_p_value", "odds_ratio_other_nodes", "odds_ratio_genome",
        "odds_ratio_untrained", "fdr", "activation_spearman",
    ),
    "motif_match": (
        "node", "motif", "database", "target_id", "target_name", "factor_family", "target_class",
        "archetype", "p_value", "q_value", "e_value", "offset_bp", "overlap_bp", "orientation",
        "similarity", "is_significant",
    ),
    "unmatched_node": ("node", "kind"),
    "concept_score": (
        "node", "annotation", "annotation_class", "split", "precision", "element_recall", "f1",
        "average_precision", "lift",
    ),
    "node_profile": ("node", "strand", "step_bp", "n_loci", "mean_activation"),
    "node_embedding": ("node", "umap_1", "umap_2", "cluster"),
    "embedding_cluster": (
        "cluster", "n_nodes", "name", "n_named_nodes", "q_value", "kind", "n_on_map",
        "unnamed_because",
    ),
    "annotation_overlap": (
        "node", "annotation", "annotation_class", "n_seqlets", "n_overlapping", "n_expected",
        "z_score", "z_shuffled", "odds_ratio", "odds_ratio_low", "odds_ratio_high",
    ),
    "repeat_class": ("node", "motif", "annotation_class", "n_sites", "n_overlapping"),
    "node_effect": (
        "node", "loci", "track", "n_loci", "level", "ablated", "ablated_std", "doubled",
        "doubled_std", "control", "control_std", "shuffled", "z", "q_value", "is_significant",
        "track_rank",
    ),
    "node_variant": (
        "node", "variant_set", "variant", "name", "track", "effect", "share", "state", "q_value",
    ),
    "node_jaccard": ("node_a", "node_b", "n_overlapping", "jaccard"),
    "materialization": ("asset", "node"),
}  # fmt: skip
"""Columns that the writer reads of each table."""

ASSET_OF_TABLE = {table: MAKER[table] for table in REQUIRED if table in MAKER}
"""Assets that may have run and made no rows; `materialization` tells."""


class SaeTables:
    """The tables of one SAE, checked, and what they say about each node.

    Parameters
    ----------
    tables
        Catalogue table name to frame, already of one SAE, with or without `hyperparameters`.

    Attributes
    ----------
    n_nodes
        Nodes of the SAE: from the table `sae`, else the largest node that any table has + 1.
    key
        Partition key of the SAE, empty where no table has it.

    Raises
    ------
    InputError
        Where a table lacks a column, holds several SAEs, or names a node that does not exist.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame]) -> None:
        import pandas as pd

        self._frames: dict[str, pd.DataFrame] = {}
        keys: set[str] = set()
        for name, columns in REQUIRED.items():
            frame = tables.get(name, pd.DataFrame(columns=list(columns)))
            missing = [column for column in columns if column not in frame]
            if missing:
                raise InputError(
                    f"table {name} has no column {missing[0]!r}, only {list(frame)}; needed are "
                    f"{', '.join(columns)}; read it from a catalogue of this version"
                )
            if "hyperparameters" in frame:
                keys.update(frame["hyperparameters"].unique())
            self._frames[name] = frame
        if len(keys) > 1:
            raise InputError(
                f"the tables hold {len(keys)} SAEs ({', '.join(sorted(keys)[:3])}); a site is of "
                "one: filter each table on hyperparameters"
            )
        self.key = next(iter(keys), "")
        self.n_nodes = self._count_nodes()
        self._made = self._made_partitions()

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self._frames[name]

    def is_computed(self, table: str) -> bool:
        """Whether a table has rows, or its asset says that it found none."""
        return len(self._frames[table]) > 0 or bool(self._made.get(ASSET_OF_TABLE.get(table, "")))

    def computed_nodes(self, table: str) -> set[int]:
        """Nodes whose part of a table was made, also where it has no rows."""
        nodes = set(self._frames[table]["node"].tolist())
        return nodes | {n for n in self._made.get(ASSET_OF_TABLE[table], ()) if n is not None}

    def states(self) -> list[str]:
        """State of each node, one letter each."""
        node, selection = self["node"], self["node_selection"]
        dead = set(node.loc[node["n_nonzero"] == 0, "node"].tolist())
        unselected = set(selection.loc[~selection["selected"].astype(bool), "node"].tolist())
        motif = self["motif"]
        with_motif = set(motif.loc[motif["is_significant"].astype(bool), "node"].tolist())
        matched = set(best_matches(self["motif_match"])["node"].tolist())
        tried = self.computed_nodes("motif")
        # matching makes no rows where nothing matches: it was done if it was done for any node
        matching_done = self.is_computed("motif_match")

        def state(node: int) -> str:
            if node in dead:
                return DEAD
            if node in unselected:
                return UNSELECTED
            if node not in tried:
                return PENDING
            if node not in with_motif:
                return NO_MOTIF
            if node in matched:
                return MATCHED
            return UNMATCHED if matching_done else PENDING

        return [state(node) for node in range(self.n_nodes)]

    def _count_nodes(self) -> int:
        largest = -1
        for name, frame in self._frames.items():
            for column in ("node", "node_a", "node_b"):
                if column in REQUIRED[name] and frame[column].notna().any():
                    smallest, largest_here = int(frame[column].min()), int(frame[column].max())
                    if smallest < 0:
                        raise InputError(
                            f"table {name} has node {smallest}; nodes count from 0: make the "
                            "table again"
                        )
                    largest = max(largest, largest_here)
        sae = self["sae"]
        if sae.empty:
            return largest + 1
        n_nodes = int(sae["n_nodes"].iloc[0])
        if largest >= n_nodes:
            raise InputError(
                f"a table has node {largest}, but the SAE has {n_nodes} nodes; the tables are of "
                "different trainings: materialize what follows trained_sae again"
            )
        return n_nodes

    def _made_partitions(self) -> dict[str, set[int | None]]:
        """Asset to the nodes that it was made for; None for the SAE as a whole."""
        nodes_of_asset: dict[str, set[int | None]] = {}
        rows: Any = self["materialization"]
        is_whole = rows["node"].isna()
        for asset, node, whole in zip(rows["asset"], rows["node"], is_whole, strict=True):
            nodes_of_asset.setdefault(str(asset), set()).add(None if whole else int(node))
        return nodes_of_asset


def best_motifs(tables: SaeTables) -> dict[int, int]:
    """The motif that stands for a node: that of its best match, else its first significant one."""
    motif = tables["motif"]
    significant = motif[motif["is_significant"].astype(bool)].sort_values(["node", "motif"])
    first = significant.drop_duplicates("node")
    chosen = dict(zip(first["node"].tolist(), first["motif"].tolist(), strict=True))
    matches = best_matches(tables["motif_match"])
    for node, number in zip(matches["node"].tolist(), matches["motif"].tolist(), strict=True):
        if node in chosen:
            chosen[node] = number
    return {int(node): int(number) for node, number in chosen.items()}


def log10_or_none(values: Any) -> Any:
    """log10 of probabilities, (n,) float64; 0 becomes the smallest number there is."""
    return np.log10(np.maximum(np.asarray(values, dtype=np.float64), np.finfo(np.float64).tiny))
