"""Mean activation around strongest positions equals brute force, up to the ends of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.nodes.profile import RADIUS_BP, Profiles
from tests.nodes.test_concepts import BP, N_NODES, N_POSITIONS, Made, active

REACH = RADIUS_BP // BP


WIDTH_BP = 5 * BP


@pytest.mark.parametrize("reverse", [False, True])
def test_profiles_are_the_mean_over_what_the_windows_cover(tmp_path: Path, reverse: bool) -> None:
    made = Made(tmp_path / "train", 0, (0, 700, 3000), reverse)
    kept = np.zeros((3, N_POSITIONS), bool)
    for window, first, last in made.ranges:
        kept[window, first:last] = True
    window, position = np.nonzero(kept)
    chosen = np.random.default_rng(1).permutation(len(window))[:40]
    chosen[:2] = 0, len(window) - 1  # at the ends of windows
    top = pd.DataFrame(
        {
            "node": np.arange(40) % 3,
            "rank": np.arange(40) // 3,
            "window": window[chosen],
            "position": position[chosen],
        }
    )
    is_reverse = np.array([reverse, reverse, False])
    is_shown = np.arange(40) % 4 != 3
    profiles = Profiles(top, is_shown, N_NODES, made.plan, is_reverse, BP, WIDTH_BP)
    for slab in made.plan.in_order():
        profiles.add(slab, *active(slab.activation))

    def value(w: int, p: int, node: int) -> float:
        inside = 0 <= p < N_POSITIONS and kept[w, p]
        return float(made.values[w, p, node]) if inside else np.nan

    table = profiles.table().set_index(["node", "strand"])
    assert set(table.index.get_level_values("node")) == {0, 1, 2}
    assert set(table.index.get_level_values("strand")) == ({"+", "-"} if reverse else {"+"})
    for (node, strand), row in table.iterrows():
        mine = top[(top["node"] == node) & (is_reverse[top["window"]] == (strand == "-"))]
        assert row["n_loci"] == len(mine)
        for i, offset in enumerate(range(-REACH, REACH + 1)):
            places = zip(mine["window"], mine["position"], strict=True)
            values = np.array([value(w, p + offset, node) for w, p in places])
            n_covered = int((~np.isnan(values)).sum())
            assert row["n_covered"][i] == n_covered
            mean = np.nanmean(values) if n_covered else np.nan
            assert row["mean_activation"][i] == pytest.approx(mean, nan_ok=True)

    along = profiles.along_seqlets().set_index(["node", "rank"])
    shown = top[is_shown].set_index(["node", "rank"]).sort_index()
    assert along.index.equals(shown.index)
    assert set(along["step_bp"]) == {BP}
    for (node, rank), row in shown.iterrows():
        w, p = row["window"], row["position"]
        expected = [value(w, p + offset, node) for offset in range(-2, 3)]
        np.testing.assert_array_equal(along.loc[(node, rank), "activations"], expected)
    assert along["activations"].map(lambda values: np.isnan(values).any()).any()
