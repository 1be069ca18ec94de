"""Shards are read as published, and unusable ones are refused with what is wrong."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import read_windows
from tests.activations.made_shards import check, make_shards, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_shards(tmp_path)


def test_order_is_numeric_and_the_last_shard_may_be_shorter(folder: Path) -> None:
    shards = ShardFolder.open(folder)
    assert [shard.index for shard in shards.shards] == [0, 2, 10]
    assert shards.n_sequences == 5
    assert (shards.n_positions, shards.n_channels) == (6, 3)


def test_published_windows_name_shard_and_row(folder: Path) -> None:
    pieces = kept_pieces(ShardFolder.open(folder), folder / "train_seqs.bed", bp_per_position=2)
    assert pieces[:, :2].tolist() == [[2, 0], [0, 1], [0, 0], [1, 0], [1, 1]]
    assert pieces[:, 2:].tolist() == [[0, 6, i] for i in range(5)]


def test_plain_bed_lists_rows_in_numeric_order(folder: Path) -> None:
    bed = folder / "plain.bed"
    bed.write_text("".join(f"chr1\t{100 * i}\t{100 * i + 12}\n" for i in range(5)))
    place, row = ShardFolder.open(folder).locate(read_windows(bed))
    assert place.tolist() == [0, 0, 1, 1, 2]
    assert row.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_every_published_type_is_read_the_same(tmp_path: Path, dtype: str) -> None:
    from saeborzoi.activations.loader import to_float32

    values = np.array([0.5, -2, 3.25, 0], np.float32).reshape(1, 2, 2)
    stored = (
        (values.view(np.uint32) >> 16).astype(np.uint16)
        if dtype == "bfloat16"
        else values.astype(dtype)
    )
    write(tmp_path / "activations_0.h5", stored)
    with ShardFolder.open(tmp_path).reader() as reader:
        block = reader.read(0, slice(0, 1), slice(0, 2))
    np.testing.assert_array_equal(to_float32(block).numpy(), values)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ShardFolder.open(tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "activations_x.h5").touch()
    with pytest.raises(InputError, match=r"holds no file activations_<i>\.h5"):
        ShardFolder.open(tmp_path)


@pytest.mark.parametrize("shape", [(1, 6, 4), (1, 5, 3)])
def test_shards_of_different_shape(folder: Path, shape: tuple[int, ...]) -> None:
    write(folder / "activations_2.h5", np.zeros(shape, np.float16))
    with pytest.raises(InputError, match=r"activations_2\.h5: .* but activations_0\.h5 has 6 x 3"):
        ShardFolder.open(folder)


def test_shards_of_different_type(folder: Path) -> None:
    write(folder / "activations_2.h5", np.zeros((2, 6, 3), np.float32))
    with pytest.raises(InputError, match=r"activations_2\.h5: float32, but"):
        ShardFolder.open(folder)


def test_channels_that_the_settings_do_not_expect(folder: Path) -> None:
    with pytest.raises(InputError, match="shards of 3 channels, the settings say 4"):
        check(folder, n_channels=4)


def test_truncated_file(folder: Path) -> None:
    path = folder / "activations_2.h5"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"activations_2\.h5: not a complete HDF5 file"):
        ShardFolder.open(folder)


def test_damaged_chunk(tmp_path: Path) -> None:
    path = tmp_path / "activations_0.h5"
    rng = np.random.default_rng(0)
    write(path, rng.random((2, 500, 8), np.float32), compression="gzip", chunks=(1, 500, 8))
    damaged = bytearray(path.read_bytes())
    damaged[-3000:-2000] = bytes(1000)
    path.write_bytes(damaged)
    shards = ShardFolder.open(tmp_path)
    with shards.reader() as reader, pytest.raises(InputError, match="cannot be read"):
        reader.read(0, slice(0, 2), slice(0, 500))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((2, 3), np.float32), "has shape"),
        (np.zeros((0, 6, 3), np.float32), "none of them 0"),
        (np.zeros((1, 6, 3), np.int32), "is int32"),
    ],
)
def test_dataset_that_is_no_activation(tmp_path: Path, data: np.ndarray, words: str) -> None:
    write(tmp_path / "activations_0.h5", data)
    with pytest.raises(InputError, match=words):
        ShardFolder.open(tmp_path)


def test_two_datasets(folder: Path) -> None:
    with h5py.File(folder / "activations_0.h5", "a") as file:
        file["second"] = np.zeros(3)
    with pytest.raises(InputError, match="2 datasets"):
        ShardFolder.open(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_value_that_is_not_finite_is_named(tmp_path: Path, value: float, dtype: str) -> None:
    data = np.ones((3, 8, 4), np.float32)
    data[1, 5, 2] = value
    stored = (
        (data.view(np.uint32) >> 16).astype(np.uint16)
        if dtype == "bfloat16"
        else data.astype(dtype)
    )
    write(tmp_path / "activations_0.h5", stored)
    words = r"activations_0\.h5: .* row 1, position 5, channel 2 is NaN or infinite"
    with ShardFolder.open(tmp_path).reader() as reader, pytest.raises(InputError, match=words):
        reader.read(0, slice(1, 3), slice(4, 8))


def test_large_finite_values_pass(tmp_path: Path) -> None:
    data = np.full((1, 50, 4), np.finfo(np.float32).max, np.float32)
    write(tmp_path / "activations_0.h5", data)
    with ShardFolder.open(tmp_path).reader() as reader:
        assert reader.read(0, slice(0, 1), slice(0, 50)).shape == (1, 50, 4)


def test_check_finds_a_bad_value_in_a_sampled_slab(folder: Path) -> None:
    data = np.full((2, 6, 3), np.nan, np.float16)
    write(folder / "activations_2.h5", data)
    with pytest.raises(InputError, match=r"activations_2\.h5"):
        check(folder)


def test_window_of_an_absent_shard(folder: Path) -> None:
    (folder / "activations_2.h5").unlink()
    with pytest.raises(InputError, match=r"line 5: shard 2, but .* has no activations_2\.h5"):
        check(folder)


def test_window_of_an_absent_row(folder: Path) -> None:
    bed = folder / "train_seqs.bed"
    bed.write_text(bed.read_text().replace("\t10\t0\n", "\t10\t1\n"))
    with pytest.raises(InputError, match="row 1 of shard 10, which has rows 0 to 0"):
        check(folder)


def test_plain_bed_with_another_number_of_lines(folder: Path) -> None:
    (folder / "train_seqs.bed").write_text("chr1\t0\t12\nchr1\t50\t62\n")
    with pytest.raises(InputError, match=r"2 windows, but the shards of .* hold 5 sequences"):
        check(folder)


def test_no_position_left_inside_the_windows(folder: Path) -> None:
    lines = ["\t0\t1\t2\tchunk_ind\tinner_ind", "0\tchr1\t20\t20\t0\t0"]
    (folder / "train_seqs.bed").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError):
        check(folder, pad_bp=6)


def test_fingerprint_follows_the_data_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = ShardFolder.open(folder).fingerprint()
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.glob("*.h5"):
        (moved / path.name).write_bytes(path.read_bytes())
    assert ShardFolder.open(moved).fingerprint() == before
    write(moved / "activations_0.h5", np.full((2, 6, 3), 7, np.float16), "name_0")
    assert ShardFolder.open(moved).fingerprint() != before
