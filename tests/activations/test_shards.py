"""Shards are read as published, and unusable ones are refused with what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.activations.values import check_shards, require_plausible
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import read_windows


def write(path: Path, data: np.ndarray, name: str = "anything", **options: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data, **options)


def check(folder: Path, n_channels: int = 3, pad_bp: int = 0) -> tuple[ShardFolder, str | None]:
    return check_shards(
        folder, folder / "train_seqs.bed", n_channels=n_channels, bp_per_position=2, pad_bp=pad_bp
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards 0, 2 and 10 with 2, 2 and 1 sequences of 6 positions, 3 channels."""
    lines = ["\t0\t1\t2\tchunk_ind\tinner_ind"]
    for index, n in ((10, 1), (2, 2), (0, 2)):
        data = np.full((n, 6, 3), index + 1, np.float16)
        write(tmp_path / f"activations_{index}.h5", data, f"name_{index}")
    for line, (index, row) in enumerate([(10, 0), (0, 1), (0, 0), (2, 0), (2, 1)]):
        lines.append(f"{line}\tchr1\t{100 * line}\t{100 * line + 12}\t{index}\t{row}")
    (tmp_path / "train_seqs.bed").write_text("\n".join(lines) + "\n")
    return tmp_path


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


# values that are not there, or are none


def refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ShardFolder.open(folder)


@pytest.mark.parametrize("chunks", [None, (1, 6, 3), (2, 3, 1)])
def test_a_shard_that_was_never_written_is_refused(
    folder: Path, chunks: tuple[int, int, int] | None
) -> None:
    with h5py.File(folder / "activations_2.h5", "w") as file:
        file.create_dataset("x", (2, 6, 3), np.float16, chunks=chunks)
    refused(folder, r"activations_2\.h5: rows 0 to 1 of 2 were never written")


@pytest.mark.parametrize(
    ("chunks", "written", "words"),
    [
        ((1, 6, 3), np.s_[0], "row 1 of 4 were never"),
        ((1, 6, 3), np.s_[1:], "row 0 of 4"),
        ((2, 6, 3), np.s_[:2], "rows 2 to 3 of 4"),
        ((1, 3, 3), np.s_[:, :3], "rows 0 to 3 of 4"),
        ((1, 6, 1), np.s_[:3, :, :], "row 3 of 4"),
    ],
)
def test_rows_that_were_never_written_are_named(
    tmp_path: Path, chunks: tuple[int, int, int], written: object, words: str
) -> None:
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        dataset = file.create_dataset("x", (4, 6, 3), np.float16, chunks=chunks)
        dataset[written] = 1
        if words.startswith("row 1"):
            dataset[2:] = 1
    refused(tmp_path, words)


def test_a_shape_that_was_only_declared_takes_no_memory(tmp_path: Path) -> None:
    for chunks in (None, (1000, 10, 4)):
        with h5py.File(tmp_path / "activations_0.h5", "w") as file:
            file.create_dataset("x", (10**12, 10, 4), np.float16, chunks=chunks)
        refused(tmp_path, "were never written")


def test_values_in_compact_storage_are_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((2, 2, 2))
        kind = h5py.h5t.IEEE_F32LE
        h5py.h5d.create(file.id, b"x", kind, space, dcpl=plan)
        file["x"][...] = 3
    with ShardFolder.open(tmp_path).reader() as reader:
        assert (reader.read(0, slice(0, 2), slice(0, 2)) == 3).all()


def virtual(folder: Path, source: str = "part.h5", name: str = "x", rows: int = 2) -> None:
    layout = h5py.VirtualLayout((2, 6, 3), np.float16)
    layout[:rows] = h5py.VirtualSource(source, name, (2, 6, 3))[:rows]
    (folder / "activations_2.h5").unlink()
    with h5py.File(folder / "activations_2.h5", "w") as file:
        file.create_virtual_dataset("v", layout)


def test_a_virtual_shard_is_read_and_its_missing_parts_are_refused(folder: Path) -> None:
    write(folder / "part.h5", np.full((2, 6, 3), 7, np.float16), "x")
    virtual(folder)
    with ShardFolder.open(folder).reader() as reader:
        assert (reader.read(1, slice(0, 2), slice(0, 6)) == 7).all()
    virtual(folder, rows=1)
    refused(folder, "36 values, of which its sources give 18")
    virtual(folder, name="y")
    refused(folder, "has no dataset 'y'")
    virtual(folder)
    write(folder / "part.h5", np.full((1, 6, 3), 7, np.float16), "x")
    refused(folder, r"has shape \(1, 6, 3\), needed is \(2, 6, 3\)")
    with h5py.File(folder / "part.h5", "w") as file:
        file.create_dataset("x", (2, 6, 3), np.float16, chunks=(1, 6, 3))
    refused(folder, r"part\.h5: rows 0 to 1 of 2 were never written")
    (folder / "part.h5").write_bytes(b"no HDF5")
    refused(folder, r"part\.h5: not an HDF5 file")
    (folder / "part.h5").unlink()
    refused(folder, r"activations_2\.h5: a virtual dataset .* part\.h5, which is not there")


def test_values_in_another_raw_file(folder: Path) -> None:
    with h5py.File(folder / "activations_2.h5", "w") as file:
        file.create_dataset("x", (2, 6, 3), np.float16, external=[(str(folder / "raw.bin"), 0, 72)])
    refused(folder, r"raw\.bin, which is not there")
    (folder / "raw.bin").write_bytes(bytes(40))
    refused(folder, "hold 40 of 72 bytes")


@pytest.mark.parametrize("other", ["activations_02.h5", "activations_0000002.h5"])
def test_two_shards_of_one_number(folder: Path, other: str) -> None:
    (folder / other).write_bytes((folder / "activations_2.h5").read_bytes())
    refused(folder, rf"{other} and activations_2\.h5 are both shard 2|2\.h5 and {other}")


def test_a_single_padded_number_is_taken(folder: Path) -> None:
    (folder / "activations_2.h5").rename(folder / "activations_02.h5")
    assert [shard.index for shard in ShardFolder.open(folder).shards] == [0, 2, 10]


def test_a_filter_that_is_not_installed_is_named(folder: Path) -> None:
    path = folder / "activations_2.h5"
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((2, 6, 3))
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 2, 36))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((2, 6, 3))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F16LE, space, dcpl=plan)
        dataset.write_direct_chunk((0, 0, 0), bytes(72))
    refused(folder, r"activations_2\.h5: .* filter 32001 \(blosc\), .*hdf5plugin.*h5repack")


def test_a_shard_that_another_process_writes_is_waited_for(folder: Path) -> None:
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); input()"
    path = folder / "activations_2.h5"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(InputError) as caught:
            ShardFolder.open(folder)
        writer.communicate(b"\n")
    assert "another process has it open for writing" in str(caught.value)
    assert "again" not in str(caught.value)
    ShardFolder.open(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an HDF5 file, but empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08 gzipped", "gzip"),
    ],
)
def test_a_file_of_another_kind_is_named(folder: Path, content: bytes, words: str) -> None:
    (folder / "activations_2.h5").write_bytes(content)
    refused(folder, rf"activations_2\.h5: .*{words}")


def test_dead_links_are_named(folder: Path) -> None:
    path = folder / "activations_2.h5"
    path.unlink()
    path.symlink_to(folder / "moved.h5")
    refused(folder, r"activations_2\.h5: a link to .*moved\.h5, which is not there")
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("elsewhere.h5", "/data")
    refused(folder, r"'x' is a link to /data of elsewhere\.h5, which is not there")
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/nothing")
    refused(folder, "'x' is a link to /nothing, which is not there")
    path.unlink()
    path.mkdir()
    refused(folder, "a folder; needed is an HDF5 file")


@pytest.mark.parametrize(
    "integers",
    [
        lambda rng: rng.integers(0, 255, (2, 300, 3)),
        lambda rng: rng.integers(0, 4096, (2, 300, 3)),
        lambda rng: rng.integers(0, 65536, (2, 300, 3)) & 0x7EFF,
        lambda rng: np.clip(rng.normal(32768, 200, (2, 300, 3)), 0, 65535),
    ],
)
def test_integers_read_as_bfloat16_are_refused(
    tmp_path: Path, integers: Callable[[np.random.Generator], np.ndarray]
) -> None:
    write(tmp_path / "activations_0.h5", integers(np.random.default_rng(0)).astype(np.uint16))
    with pytest.raises(
        InputError, match=r"uint16,? .*read as bfloat16.* (no network makes|quantized integers)"
    ):
        require_plausible(ShardFolder.open(tmp_path))


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_of_any_usual_size_are_plausible(
    tmp_path: Path, scale: float, dtype: str
) -> None:
    values = np.random.default_rng(0).normal(0, scale, (2, 300, 3)).astype(np.float32)
    values[:, :100] = 0
    values[:, 100:130] *= 1e-30  # the tail of an activation function
    if dtype == "bfloat16":
        values = (values.view(np.uint32) >> 16).astype(np.uint16)
    write(tmp_path / "activations_0.h5", values)
    require_plausible(ShardFolder.open(tmp_path))


def test_bytes_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (2, 300, 3)).astype(np.float32)
    swapped = values.byteswap()
    swapped[~np.isfinite(swapped)] = 1e20
    write(tmp_path / "activations_0.h5", swapped)
    with pytest.raises(InputError, match="mind the byte order"):
        require_plausible(ShardFolder.open(tmp_path))


def test_a_shard_of_nothing_but_zeros_is_refused_and_zeros_beside_values_are_not(
    folder: Path,
) -> None:
    data = np.zeros((2, 6000, 3), np.float16)
    data[1, 5999, 0] = 1
    write(folder / "activations_0.h5", data)
    only = folder / "only"
    only.mkdir()
    (folder / "activations_0.h5").rename(only / "activations_0.h5")
    require_plausible(ShardFolder.open(only))
    write(only / "activations_0.h5", np.zeros((2, 6000, 3), np.float16))
    with pytest.raises(InputError, match=r"activations_0\.h5: nothing but zeros in 2 of 2 rows"):
        require_plausible(ShardFolder.open(only))


def test_shards_that_no_window_names_are_said(folder: Path) -> None:
    assert check(folder)[1] is None
    bed = folder / "train_seqs.bed"
    lines = bed.read_text().splitlines(keepends=True)
    bed.write_text("".join(lines[:-2]))  # those of shard 2
    note = check(folder)[1]
    assert note is not None
    assert "1 of 3 shards (activations_2.h5; 2 rows) stand in no line of train_seqs.bed" in note
