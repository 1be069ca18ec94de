"""Activations straight from genome and model: the values of the whole sequence, at the right
places, and the same chain as from shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.demo.network import one_thread
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, position_intervals, read_windows
from saeborzoi.models.layer import one_hot, run_to
from saeborzoi.models.measure import layer_geometry
from saeborzoi.nodes.seqlets import make_seqlets
from saeborzoi.settings.sections import Selection
from tests.activations.made_windows import (
    BP,
    FIRST_N,
    LAST_N,
    N_BP,
    WINDOW_BP,
    WINDOWS,
    make_genome,
    source_of,
    write_bed,
)
from tests.models.nets import model_of


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_genome(tmp_path)


def whole(folder: Path, start: int, strand: str) -> np.ndarray:
    """(500, 12) float32: the layer on one long sequence around a window, in one piece."""
    around = 200
    text = (folder / "genome.fa").read_text().split("\n")[1].upper()
    padded = "N" * around + text + "N" * around
    letters = padded[start : start + WINDOW_BP + 2 * around]
    if strand == "-":
        letters = letters[::-1].translate(str.maketrans("ACGT", "TGCA"))
    model = model_of("padded")
    x = one_hot(np.frombuffer(letters.encode(), np.uint8))
    with torch.no_grad():
        y = run_to(model.module, model.module.get_submodule("conv"), x[None])[0].T
    return y[around // BP : around // BP + WINDOW_BP // BP].numpy()


@pytest.mark.parametrize("tile_positions", [500, 128, 77])
def test_values_are_those_of_the_whole_sequence(folder: Path, tile_positions: int) -> None:
    source = source_of(folder, stored_as="float32", tile_positions=tile_positions)
    for row, (_, start, strand) in enumerate(WINDOWS):
        expected = whole(folder, start, strand)
        block = source.read(0, slice(row, row + 1), slice(0, 500))[0]
        np.testing.assert_allclose(block, expected, atol=2e-6)
        # whatever is asked for around it, a value is the same to the bit
        assert np.array_equal(source.read(0, slice(row, row + 1), slice(90, 163))[0], block[90:163])


def test_padding_only_says_where_position_0_is(folder: Path) -> None:
    plain, padded = source_of(folder), source_of(folder, pad_bp=100)
    assert padded.n_positions == plain.n_positions + 100
    for row in range(len(WINDOWS)):
        rows = slice(row, row + 1)
        a, b = plain.read(0, rows, slice(0, 500)), padded.read(0, rows, slice(50, 550))
        np.testing.assert_allclose(a.astype(float), b.astype(float), atol=2e-3)
    assert [p[4] for p in plain.scan.pieces] == [p[4] for p in padded.scan.pieces]
    assert np.array_equal(plain.scan.pieces[:, 2] + 50, padded.scan.pieces[:, 2])


def test_positions_that_see_n_or_beyond_the_chromosome_do_not_count(folder: Path) -> None:
    source = source_of(folder)
    g = source.geometry
    assert (g.before_bp, g.after_bp) == (7, 7)
    counted = {(int(row), p) for _, row, a, b, _ in source.scan.pieces for p in range(a, b)}
    for row, (_, start, strand) in enumerate(WINDOWS):
        for p in range(500):
            low = start + 2 * p if strand == "+" else start + WINDOW_BP - 2 * p - 2
            low, high = low - 7, low + 2 + 7
            clean = low >= 0 and high <= N_BP and (high <= FIRST_N or low >= LAST_N)
            assert ((row, p) in counted) == clean, (row, p)


def test_positions_on_the_reverse_strand_lie_where_the_model_saw_them(folder: Path) -> None:
    windows = read_windows(folder / "windows.bed")
    assert windows.reverse([0, 1]).tolist() == [False, True]
    chrom, start, end = position_intervals(windows, [1, 1], [0, 3], 6, BP, 0)
    # position 0 covers the window's last two base pairs, 1999 and 2000
    assert list(zip(chrom, start, end, strict=True)) == [("chr1", 1997, 2003), ("chr1", 1991, 1997)]
    # an odd base goes to the right as the model reads
    assert position_intervals(windows, [1], [0], 5, BP, 0)[1:] == (
        np.array([1997]),
        np.array([2002]),
    )
    (folder / "odd.bed").write_text("chr1\t0\t10\t.\t.\t+\nchr1\t0\t10\t.\t.\tx\n")
    with pytest.raises(InputError, match=r"line 2: strand 'x'"):
        read_windows(folder / "odd.bed")


def test_seqlets_are_cut_from_the_windows_strand(folder: Path) -> None:
    top = pd.DataFrame(
        [(0, 0, 0, 50, 2.0), (0, 1, 1, 50, 1.0)],
        columns=["node", "rank", "window", "position", "activation"],
    )
    with Genome(folder / "genome.fa") as genome:
        windows = read_windows(folder / "windows.bed")
        rows = make_seqlets(
            top, pd.Series({0: 2}), windows, genome, width_bp=12, bp_per_position=2, pad_bp=0,
            **Selection().model_dump(),
        ).seqlets  # fmt: skip
    text = (folder / "genome.fa").read_text().split("\n")[1].upper()
    assert rows["strand"].tolist() == ["+", "-"]
    for row in rows.itertuples():
        forward = text[row.start_bp : row.end_bp]
        other = forward[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert row.sequence == (other if row.strand == "-" else forward)


def test_a_window_is_not_lost_where_the_other_strand_was_read(folder: Path) -> None:
    write_bed(folder / "windows.bed", [("chr1", 100, "+"), ("chr1", 100, "-"), ("chr1", 300, "-")])
    pieces = source_of(folder).scan.pieces
    # on the same strand a locus counts once: of the last window the 200 bp at its right end
    assert [(p[1], p[2], p[3]) for p in pieces.tolist()] == [(0, 0, 500), (1, 0, 500), (2, 0, 100)]


def test_its_identity_is_model_layer_genome_and_windows(folder: Path) -> None:
    before = source_of(folder).identity()
    assert source_of(folder, tile_positions=64).identity() == before
    assert set(before["data_parts"]) == {"model", "layer", "computed as", "windows on genome"}

    def other_part(**options: Any) -> list[str]:
        now = source_of(folder, **options).identity()
        assert now["data_fingerprint"] != before["data_fingerprint"]
        return [n for n, v in now["data_parts"].items() if v != before["data_parts"][n]]

    assert other_part(module="pool") == ["layer", "windows on genome"]
    assert other_part(stored_as="float32") == ["computed as"]
    text = (folder / "genome.fa").read_text()
    position = text.index("\n") + 1 + 5_500  # in the last window
    changed = "A" if text[position] not in "Aa" else "C"
    (folder / "genome.fa").write_text(text[:position] + changed + text[position + 1 :])
    assert other_part() == ["windows on genome"]
    (folder / "genome.fa").write_text(text)
    write_bed(folder / "windows.bed", WINDOWS[:-1])
    assert other_part() == ["windows on genome"]


def test_values_beyond_float16_are_refused_in_words(folder: Path) -> None:
    source = source_of(folder)
    source.model.module.conv.weight.data *= 1e6
    with pytest.raises(InputError, match='set stored_as = "float32"'):
        source.read(0, slice(0, 1), slice(0, 10))
    source.model.module.conv.weight.data *= 1e38
    with pytest.raises(InputError, match="weights or dtype make it overflow"):
        source.read(0, slice(0, 1), slice(0, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t0\t1000\nchr1\t0\t1002\n", r"line 2: the window has 1002 bp .* one length"),
        ("chr1\t0\t1001\n", r"line 1: .* a multiple of the 2 bp"),
        (f"chr1\t{FIRST_N}\t{LAST_N - 1}\n", "no position is left"),
        ("chr9\t0\t1000\n", r"chr9.*not in the FASTA"),
    ],
)
def test_windows_that_do_not_fit_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "windows.bed").write_text(text)
    with pytest.raises(InputError, match=message):
        _ = source_of(folder).scan


def test_a_layer_that_sees_everything_takes_whole_windows_only(folder: Path) -> None:
    model = model_of("attending")
    geometry = layer_geometry(model, "mix")
    genome = Genome(folder / "genome.fa")
    with pytest.raises(InputError, match=r"whole inputs of 64 positions \(256 bp\) only"):
        LiveSource(model, geometry, genome, Places(read_windows(folder / "windows.bed"), 4, 0))
    (folder / "windows.bed").write_text("chr1\t500\t728\n")
    source = LiveSource(
        model, geometry, genome, Places(read_windows(folder / "windows.bed"), 4, 14)
    )
    letters = genome.fetch_bytes(["chr1"], [500 - 14], 256)[0]
    with torch.no_grad():
        expected = model.module(one_hot(letters)[None])[0].numpy().astype(np.float16)
    assert np.array_equal(source.read(0, slice(0, 1), slice(0, 64))[0], expected)
