"""Activations over a region are those of the shards, each locus once, at its coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import saeborzoi
from saeborzoi.activations.region import region_of_shards
from saeborzoi.errors import PartitionKeyError
from saeborzoi.genome.coordinates import read_windows
from saeborzoi.genome.regions import parse_region
from saeborzoi.project import Project
from saeborzoi.sae.model import SparseAutoencoder
from tests.assets.small_project import BP_PER_POSITION, KEY, N_NODES, PAD_BP
from tests.test_api import named_node


@pytest.fixture(scope="module")
def project(made_project: Path) -> Project:
    return saeborzoi.open(made_project)


def expected_activation(folder: Path, sae: SparseAutoencoder, start: int, end: int) -> pd.DataFrame:
    """(node, start_bp) of what fires, position by position from the files alone.

    Windows begin every 1,600 bp and are 2,000 bp wide, 15 in a shard; the first that has a
    position's centre counts.
    """
    rows = []
    for centre in range(2, 60_000, BP_PER_POSITION):
        position_start = centre - 2
        if position_start + BP_PER_POSITION <= start or position_start >= end:
            continue
        window = max(0, -(-(centre - 1999) // 1600))
        shard, row = divmod(window, 15)
        with h5py.File(folder / "train" / f"activations_{shard}.h5") as file:
            position = (position_start - (window * 1600 - PAD_BP)) // BP_PER_POSITION
            x = file["x"][row, position]
        value, node = sae.encode(torch.from_numpy(x).float())
        for v, n in zip(value, node, strict=True):
            if v > 0:
                rows.append((position_start, int(n), float(v), window))
    return pd.DataFrame(rows, columns=["start_bp", "node", "activation", "window"])


@pytest.mark.parametrize(
    ("region", "start", "end"),
    [
        ("chr1:1,901-2,100", 1900, 2100),  # across the seam of two windows
        ("chr1:23,950-24,120", 23_949, 24_120),  # across two shards, not at a position's edge
        ("chr1:10,003", 10_002, 10_003),  # one base pair
        (("chr1", 0, 40), 0, 40),  # the first window's padding is cropped
    ],
)
def test_activations_are_those_of_the_shards_at_their_place(
    project: Project, made_project: Path, region: Any, start: int, end: int
) -> None:
    activations = project.activations(KEY, region)
    expected = expected_activation(made_project, project.sae(KEY).model, start, end)
    n_positions = -(-end // BP_PER_POSITION) - start // BP_PER_POSITION
    assert activations.matrix.shape == (n_positions, N_NODES)
    assert activations.start_bp.tolist() == list(
        range(start // BP_PER_POSITION * BP_PER_POSITION, end, BP_PER_POSITION)
    )
    entries = activations.matrix.tocoo()
    rows = pd.DataFrame(
        {
            "start_bp": activations.start_bp[entries.row],
            "node": entries.col.astype(int),
            "activation": entries.data.astype(float),
            "window": activations.window[entries.row],
        }
    )
    pd.testing.assert_frame_equal(
        rows.sort_values(["start_bp", "node"], ignore_index=True),
        expected.sort_values(["start_bp", "node"], ignore_index=True),
        rtol=1e-5,
    )
    assert (activations.end_bp - activations.start_bp == BP_PER_POSITION).all()


def test_the_strongest_seqlet_is_seen_in_its_region(project: Project) -> None:
    node = named_node(project)
    best = node.seqlets.iloc[0]
    activations = project.activations(KEY, (best["chrom"], best["start_bp"], best["end_bp"]))
    assert activations.of_node(node.number).max() == pytest.approx(best["activation"], rel=1e-4)
    strongest = activations.strongest()
    row = strongest[strongest["node"] == node.number].iloc[0]
    assert best["start_bp"] <= row["start_bp"] < best["end_bp"]
    assert f"{N_NODES} nodes" in repr(activations)
    assert activations.plot([node.number]).axes[0].get_ylabel() == f"node {node.number}"
    with pytest.raises(PartitionKeyError, match="there is no node 12"):
        activations.of_node(N_NODES)


def test_a_region_that_windows_cover_in_part_is_not_read(made_project: Path) -> None:
    read = region_of_shards(
        made_project / "train",
        str(made_project / "train_seqs.bed"),
        parse_region("chr1:59,001-59,700"),
        n_channels=4,
        bp_per_position=BP_PER_POSITION,
        pad_bp=PAD_BP,
    )
    assert read is None
    assert read_windows(made_project / "train_seqs.bed").end_bp.max() == 59_600


@pytest.mark.parametrize(
    ("lines", "expected", "rows"),
    [
        (["+", "-"], [2, 3, 4], [0, 0, 0]),  # both strands: the forward one
        (["-", "+"], [102, 103, 104], [1, 1, 1]),
        (["-"], [7, 6, 5], [0, 0, 0]),  # position 0 is the right end
    ],
)
def test_a_locus_that_was_read_on_both_strands_is_there_once(
    tmp_path: Path, lines: list[str], expected: list[int], rows: list[int]
) -> None:
    (tmp_path / "w.bed").write_text(
        "".join(f"chr1\t1000\t1040\t.\t0\t{strand}\n" for strand in lines)
    )
    (tmp_path / "shards").mkdir()
    x = np.arange(10)[None, :, None] + 100 * np.arange(len(lines))[:, None, None]
    with h5py.File(tmp_path / "shards" / "activations_0.h5", "w") as file:
        file["x"] = x.astype(np.float32)
    activations = region_of_shards(
        tmp_path / "shards",
        tmp_path / "w.bed",
        parse_region("chr1:1,009-1,020"),
        n_channels=1,
        bp_per_position=4,
        pad_bp=0,
    )
    assert activations is not None
    assert activations.start_bp.tolist() == [1008, 1012, 1016]
    assert activations.activation[:, 0].tolist() == expected
    assert activations.window.tolist() == rows
