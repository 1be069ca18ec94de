"""The strongest positions are read, whichever release wrote them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from saeborzoi.nodes.top_positions import read_top_positions


@pytest.mark.parametrize("column", ["window", "sequence"])
def test_rows_of_windows_under_either_name(tmp_path: Path, column: str) -> None:
    rows = pd.DataFrame(
        {"node": [0, 1], "rank": 0, column: [5, 6], "position": 7, "activation": [1.0, 2.0]}
    )
    rows.to_parquet(tmp_path / "top.parquet")
    read = read_top_positions(tmp_path / "top.parquet")
    assert list(read) == ["node", "rank", "window", "position", "activation"]
    assert read["window"].tolist() == [5, 6]
    one = read_top_positions(tmp_path / "top.parquet", ("node", "window"), nodes=[1])
    assert one.to_dict("list") == {"node": [1], "window": [6]}
