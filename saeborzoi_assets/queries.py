"""What several assets ask the catalogue about one SAE."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.views import SUPPORTED_VIEW
from saeborzoi_resources.platform import Platform, Sae

MOTIF_SHOWN = """
    SELECT m.node, m.matrix FROM motif m
    JOIN node_summary n USING (hyperparameters, node, motif)
    WHERE hyperparameters = ?
    ORDER BY node
"""
"""The one motif of each node that has any: the one that names it, else its first."""


def selected_seqlets(platform: Platform, sae: Sae, columns: str) -> pd.DataFrame:
    """Seqlets of the SAE's selected nodes, refused where not every node was looked at.

    Raises
    ------
    CatalogError
        Names the first node whose seqlets are missing.
    """
    with platform.catalog.kept_open():
        platform.catalog.require_made("seqlets", sae.key, range(sae.n_nodes))
        selection = platform.catalog.rows("node_selection", sae.key)
        selected = selection.loc[selection["selected"], "node"].tolist()
        return platform.catalog.rows("seqlet", sae.key, columns, nodes=selected)


def family_of_nodes(platform: Platform, sae: Sae) -> pd.Series:
    """Motif family of each node that has one: of its first supported motif; the index is the node.

    Raises
    ------
    CatalogError
        Where the SAE's motif evidence is not made yet.
    """
    platform.catalog.require_made("motif_evidence", sae.key)
    evidence = platform.catalog.rows("motif_evidence", sae.key, "node, motif, motif_family")
    first = evidence.dropna(subset="motif_family").drop_duplicates("node")
    return first.set_index("node")["motif_family"].astype("Int32")


def only_supported(platform: Platform, sae: Sae, table: str) -> pd.DataFrame:
    """Rows of `motif` or `motif_match`; `is_significant` is false where they are not in the view of
    supported ones, and matches have its `may_name`. Motifs whose evidence is not made yet keep what
    they have."""
    rows = platform.catalog.rows(table, sae.key)
    key = [column for column in TABLE[table].key if column != "hyperparameters"]
    supported = platform.catalog.frame(
        f"SELECT * FROM {SUPPORTED_VIEW[table]} WHERE hyperparameters = ?", [sae.key]
    )

    def among(frame: pd.DataFrame) -> NDArray[np.bool_]:
        return pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(frame[key]))

    rows = rows.assign(is_significant=among(supported))
    if "may_name" in supported:
        rows["may_name"] = among(supported[supported["may_name"]])
    return rows
