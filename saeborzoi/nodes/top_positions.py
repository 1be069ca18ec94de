"""Reading the file of each node's strongest positions, which `nodes.top_activations` finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq


def read_top_positions(
    path: Path,
    columns: Sequence[str] = ("node", "rank", "window", "position", "activation"),
    nodes: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Read `top_activations.parquet`.

    Parameters
    ----------
    path
        The file. Earlier releases called its column `window` `sequence`.
    columns
        What to read of node, rank, window (row of the windows), position (int32), activation
        (float32).
    nodes
        Only these nodes' rows; None reads all.

    Raises
    ------
    OSError, ValueError
        Where it is not there or no such file.
    """
    former = {"sequence": "window"} if "sequence" in pq.read_schema(path).names else {}
    stored = {now: before for before, now in former.items()}
    rows = pd.read_parquet(
        path,
        columns=[stored.get(name, name) for name in columns],
        filters=None if nodes is None else [("node", "in", list(nodes))],
    )
    return rows.rename(columns=former)
