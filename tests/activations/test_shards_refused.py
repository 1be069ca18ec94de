"""Shards whose values are not there, or are none, are refused by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.activations.values import require_plausible
from saeborzoi.errors import InputError
from tests.activations.made_shards import check, make_shards, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_shards(tmp_path)


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
    assert "2 of 5 rows, 1 of 3 shards as a whole (activations_2.h5) stand in no line of" in note
    bed.write_text("".join(lines[:-3]))  # and one row of shard 1
    note = check(folder)[1]
    assert note is not None
    assert note.startswith("3 of 5 rows, 1 of 3 shards as a whole")
