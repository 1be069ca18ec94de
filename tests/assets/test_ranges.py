"""Ranges of nodes: looked at before they are expanded, and named where they are empty."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from saeborzoi.errors import PartitionKeyError
from saeborzoi_assets import definitions
from saeborzoi_assets.commands.removal import parse_target
from saeborzoi_assets.common import require_partitions


@pytest.mark.parametrize("nodes", ["0-999999999", "5,0-1000000", "9" * 5000, "0-999999,0-999999,1"])
def test_a_range_is_looked_at_before_it_is_expanded(nodes: str) -> None:
    with pytest.raises(PartitionKeyError, match=r"beyond the 1,000,000 nodes|no node and no range"):
        parse_target("conv_x4_k0.05_lr0.003_s0", nodes)


def test_dagsters_own_commands_say_which_instance_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it Dagster makes a temporary one, which does not know the SAE that was named."""
    (tmp_path / "dagster_project.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("SAEBORZOI_PROJECT", raising=False)
    with pytest.raises(click.UsageError, match=rf"export DAGSTER_HOME={tmp_path}/\.dagster"):
        definitions.defs()


def test_a_range_that_ends_before_it_begins_is_named() -> None:
    tags = {
        "dagster/asset_partition_range_start": "KEY|n0007",
        "dagster/asset_partition_range_end": "KEY|n0005",
    }
    context = SimpleNamespace(partition_keys=[], run=SimpleNamespace(tags=tags))
    with pytest.raises(PartitionKeyError, match=r"KEY\|n0007 comes after KEY\|n0005"):
        require_partitions(context)  # type: ignore[arg-type]
