"""What plots and pages alike ask of the catalogue's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def best_matches(motif_match: pd.DataFrame) -> pd.DataFrame:
    """The significant match that names each node, one row a node, as the view `best_match` has
    it: of the first motif that has any, the smallest p."""
    rows = motif_match[motif_match["is_significant"].astype(bool)]
    rows = rows.sort_values(["node", "motif", "p_value", "target_id"], kind="stable")
    return rows.drop_duplicates("node").reset_index(drop=True)
