"""Small questions to the catalogue's tables that several views ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def best_matches(motif_match: pd.DataFrame) -> pd.DataFrame:
    """The best significant match of each node, one row a node, as the view `node_summary` has it:
    smallest p, then target, then motif."""
    rows = motif_match[motif_match["is_significant"].astype(bool)]
    rows = rows.sort_values(["node", "p_value", "target_id", "motif"], kind="stable")
    return rows.drop_duplicates("node").reset_index(drop=True)


def matrix_of(value: Any) -> NDArray[np.float64]:
    """A motif's matrix from a table's cell (lists or arrays of rows), (width, 4) float64."""
    return np.array([np.asarray(row, dtype=np.float64) for row in value]).reshape(-1, 4)


def information_bits(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Information content of each column of a (width, 4) matrix, (width,) bits, 0 … 2."""
    positive = np.where(matrix > 0, matrix, 1.0)
    return np.asarray(2 + (matrix * np.log2(positive)).sum(axis=1))
