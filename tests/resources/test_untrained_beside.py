"""Which untrained dictionary the evidence of an SAE is set against; its version says so."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.trace import _difference
from tests.made_project import put_rows

KEY = "conv_x2_k0.25_lr0.003_s0"
UNTRAINED = f"{KEY}_untrained"
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv"
n_channels = 4
bp_per_position = 4
seqlet_width_bp = 16
train = { shards = "shards", windows = "windows.bed" }
[[sae]]
layer = "conv"
expansion = [2, 3]
topk = 0.25
recipe = ["default", "untrained"]
"""


def test_the_untrained_dictionary_counts_once_all_of_its_seqlets_are_made(tmp_path: Path) -> None:
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    (tmp_path / "genome.fa").write_text(">chr1\n" + "ACGT" * 100 + "\n")
    (tmp_path / "windows.bed").write_text("chr1\t0\t400\n")
    platform = Platform(settings_file=str(tmp_path / "dagster_project.toml"))

    def made(key: str, first: int, last: int) -> None:
        tables = {
            "seqlet": pd.DataFrame({"node": []}),
            "node_selection": pd.DataFrame({"node": []}),
        }
        nodes = tuple(range(first, last))
        put_rows(platform, key, "seqlets", tmp_path / f"{key}{first}", tables, nodes)

    made(KEY, 0, 8)
    made("conv_x3_k0.25_lr0.003_s0_untrained", 0, 12)
    made(UNTRAINED, 0, 5)
    assert platform.untrained_beside(KEY) is None
    before = platform.version_of("motif_evidence", KEY)
    made(UNTRAINED, 5, 8)
    assert platform.untrained_beside(KEY) == UNTRAINED
    assert platform.untrained_beside(UNTRAINED) is None
    now = platform.version_of("motif_evidence", KEY)
    assert now.digest != before.digest
    assert now.made_from["inputs"][f"seqlets of {UNTRAINED}"] == ["v"]
    changed = f"input seqlets of {UNTRAINED} changed"
    assert _difference(before.made_from, now.made_from) == changed
    # and where it goes again
    assert _difference(now.made_from, before.made_from) == changed
