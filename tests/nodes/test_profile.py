"""Mean activation around strongest positions equals brute force, up to the ends of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.nodes.profile import RADIUS_BP, Profiles
from tests.nodes.test_concepts import BP, N_NODES, N_POSITIONS, Made, active

REACH = RADIUS_BP // BP


@pytest.mark.parametrize("reverse", [False, True])
def test_profiles_are_the_mean_over_what_the_windows_cover(tmp_path: Path, reverse: bool) -> None:
    made = Made(tmp_path / "train", 0, (0, 700, 3000), reverse)
    kept = np.zeros((3, N_POSITIONS), bool)
    for window, first, last in made.ranges:
        kept[window, first:last] = True
    window, position = np.nonzero(kept)
    chosen = np.random.default_rng(1).permutation(len(window))[:40]
    top = pd.DataFrame(
        {"node": np.arange(40) % 3, "window": window[chosen], "position": position[chosen]}
    )
    is_reverse = np.array([reverse, reverse, False])
    profiles = Profiles(top, N_NODES, made.plan, is_reverse, BP)
    for slab in made.plan.in_order():
        profiles.add(slab, *active(slab.activation))
    table = profiles.table().set_index(["node", "strand"])
    assert set(table.index.get_level_values("node")) == {0, 1, 2}
    assert set(table.index.get_level_values("strand")) == ({"+", "-"} if reverse else {"+"})
    for (node, strand), row in table.iterrows():
        mine = top[(top["node"] == node) & (is_reverse[top["window"]] == (strand == "-"))]
        assert row["n_loci"] == len(mine)
        for i, offset in enumerate(range(-REACH, REACH + 1)):
            values = [
                float(made.values[w, p + offset, node])
                for w, p in zip(mine["window"], mine["position"], strict=True)
                if 0 <= p + offset < N_POSITIONS and kept[w, p + offset]
            ]
            assert row["n_covered"][i] == len(values)
            mean = np.mean(values) if values else np.nan
            assert row["mean_activation"][i] == pytest.approx(mean, nan_ok=True)
