"""What plots and pages alike ask of the catalogue's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def best_matches(motif_match: pd.DataFrame) -> pd.DataFrame:
    """The best significant match of each node, one row a node, as the view `node_summary` has it:
    smallest p, then target, then motif."""
    rows = motif_match[motif_match["is_significant"].astype(bool)]
    rows = rows.sort_values(["node", "p_value", "target_id", "motif"], kind="stable")
    return rows.drop_duplicates("node").reset_index(drop=True)
