"""Positions come in a seeded order, each once a pass, from hyperslabs in bounded memory."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from saeborzoi.activations import reader
from saeborzoi.activations.loader import SlabPlan, TrainingStream
from saeborzoi.activations.reader import Reader
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.errors import InputError, SettingsError


@pytest.fixture(
    params=[None, (1, 700, 4), (2, 300, 2)], ids=["contiguous", "chunked", "odd chunks"]
)
def numbered(tmp_path: Path, request: pytest.FixtureRequest) -> ShardFolder:
    """Five sequences of 5,000 positions in two shards; channels 0 and 1 say which position."""
    for shard, rows in enumerate(([0, 1, 2], [3, 4])):
        data = np.zeros((len(rows), 5000, 4), np.float32)
        data[:, :, 0] = np.array(rows)[:, None]
        data[:, :, 1] = np.arange(5000)
        with h5py.File(tmp_path / f"activations_{shard}.h5", "w") as file:
            file.create_dataset("a", data=data, chunks=request.param)
    return ShardFolder.open(tmp_path)


PIECES = np.array(
    [(0, 0, 100, 4900, 0), (0, 1, 0, 10, 1), (0, 1, 4000, 5000, 1), (0, 2, 5, 4999, 2),
     (1, 0, 0, 5000, 3), (1, 1, 2047, 2049, 4)]
)  # fmt: skip


def labels(rows: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in rows[:, :2]]


EXPECTED = [(int(s), p) for _, _, a, b, s in PIECES for p in range(a, b)]


def test_a_pass_in_order_has_every_kept_position_once(numbered: ShardFolder) -> None:
    plan = SlabPlan(numbered, PIECES)
    slabs = list(plan.in_order())
    for slab in slabs:
        assert labels(slab.activation) == list(
            zip(slab.window.tolist(), slab.position.tolist(), strict=True)
        )
    assert sorted(label for slab in slabs for label in labels(slab.activation)) == EXPECTED
    assert plan.n_positions == len(EXPECTED)


def test_each_byte_is_read_once(numbered: ShardFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    n_read = 0
    plain = Reader.read

    def counted(self: Reader, place: int, rows: slice, positions: slice) -> np.ndarray:
        nonlocal n_read
        block = plain(self, place, rows, positions)
        n_read += block.shape[0] * block.shape[1]
        return block

    monkeypatch.setattr(Reader, "read", counted)
    whole = np.array([(p, r, 0, 5000, 3 * p + r) for p, n in ((0, 3), (1, 2)) for r in range(n)])
    for _ in SlabPlan(numbered, whole).in_order():
        pass
    assert n_read == 25_000


def test_a_training_pass_has_every_kept_position_once(numbered: ShardFolder) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=0, buffer_mb=1)
    n = len(EXPECTED)
    batches = itertools.islice(stream.batches(100), 2 * n // 100)
    loaded = [label for batch in batches for label in labels(batch)]
    assert sorted(loaded[:n]) == EXPECTED
    assert loaded[:n] != EXPECTED
    assert loaded[n : n + 200] != loaded[:200], "the second pass has another order"


def test_batches_mix_shards(numbered: ShardFolder) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=0, buffer_mb=1)
    first = next(stream.batches(200))
    assert len(set(first[:, 0])) >= 3


def test_the_order_is_the_seed_s(numbered: ShardFolder) -> None:
    def rows(seed: int) -> np.ndarray:
        return next(TrainingStream(SlabPlan(numbered, PIECES), seed, 1).batches(500))

    np.testing.assert_array_equal(rows(1), rows(1))
    assert (rows(1) != rows(2)).any()


@pytest.mark.parametrize("first_row", [0, 130, 33_000])
@pytest.mark.parametrize("n", [10, 400])
def test_what_was_looked_at_first_is_the_stream_s_beginning(
    numbered: ShardFolder, first_row: int, n: int
) -> None:
    """Whether the training then begins there, within that pool or behind it."""
    whole = np.array([(p, r, 0, 5000, 3 * p + r) for p, n in ((0, 3), (1, 2)) for r in range(n)])
    plan = SlabPlan(numbered, np.tile(whole, (4, 1)))
    stream, fresh = (TrainingStream(plan, seed=3, buffer_mb=1) for _ in range(2))
    expected = [b.copy() for b in itertools.islice(fresh.batches(20_000, first_row), 4)]
    np.testing.assert_array_equal(stream.first(n), next(fresh.batches(n)))
    for batch, other in zip(stream.batches(20_000, first_row), expected, strict=False):
        np.testing.assert_array_equal(batch, other)


def test_the_first_pool_is_read_once(
    numbered: ShardFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=0, buffer_mb=1)
    first = stream.first(100).copy()
    monkeypatch.setattr(TrainingStream, "fill", None)
    np.testing.assert_array_equal(next(stream.batches(100, n_rows=100)), first)
    with pytest.raises(TypeError):
        next(stream.batches(100, n_rows=100))


@pytest.mark.parametrize("skipped", [1, 7, 150, 170, 400])
def test_a_stream_goes_on_where_it_stopped(numbered: ShardFolder, skipped: int) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=3, buffer_mb=1)
    expected = [b.copy() for b in itertools.islice(stream.batches(100), skipped, skipped + 3)]
    resumed = [b.copy() for b in itertools.islice(stream.batches(100, 100 * skipped), 3)]
    np.testing.assert_array_equal(resumed, expected)


def test_the_buffer_bounds_memory(numbered: ShardFolder) -> None:
    """1 MiB of float32 with four channels is 65,536 positions: half of it is one pool."""
    whole = np.array([(p, r, 0, 5000, 3 * p + r) for p, n in ((0, 3), (1, 2)) for r in range(n)])
    stream = TrainingStream(SlabPlan(numbered, np.tile(whole, (4, 1))), seed=0, buffer_mb=1)
    pools = list(itertools.islice(stream._pools(0), 4))
    assert max(map(len, pools)) <= 32_768
    assert sum(map(len, pools)) >= 100_000


def test_small_data_is_read_once_and_ordered_as_ever(
    numbered: ShardFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SlabPlan(numbered, PIECES)
    n = plan.n_positions
    small = TrainingStream(plan, seed=0, buffer_mb=4)
    fresh = TrainingStream(plan, seed=0, buffer_mb=4)
    again = next(fresh.batches(500, 2 * n))
    passes = small.batches(n)
    next(passes)
    passes.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(Reader, "read", None)
    np.testing.assert_array_equal(next(small.batches(500, 2 * n)), again)


@pytest.mark.parametrize("n_rows", [200, None])
def test_the_next_pass_is_read_ahead_but_nothing_that_nobody_needs(
    numbered: ShardFolder, monkeypatch: pytest.MonkeyPatch, n_rows: int | None
) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=0, buffer_mb=1)
    assert stream.pool_shape[0] == stream.n_positions, "a pass is one pool"
    plain, ahead = stream.fill, threading.Event()
    pools: list[int] = []

    def fill(*given: Any) -> None:
        plain(*given)
        pools.append(len(given[2]))
        if len(pools) == 2:
            ahead.set()

    monkeypatch.setattr(stream, "fill", fill)
    batches = stream.batches(200, n_rows=n_rows)
    next(batches)
    assert ahead.wait(0.2 if n_rows else 10) == (n_rows is None)


def test_positions_put_where_they_belong_are_those_that_hdf5_reads(
    numbered: ShardFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past HDF5 where that can be, in calls of a few positions, with one that is cut short."""
    plan = SlabPlan(numbered, PIECES)
    kept, direct = (TrainingStream(plan, seed=0, buffer_mb=1, threads=n) for n in (1, 3))
    assert kept.keeps
    direct.keeps = False
    monkeypatch.setattr(reader, "_AT_ONCE", 100)
    plain = reader._read_into
    calls = itertools.count()
    monkeypatch.setattr(reader, "_read_into", lambda *given: next(calls) != 2 and plain(*given))
    n = 2 * plan.n_positions // 100
    for ours, theirs in zip(
        itertools.islice(direct.batches(100), n), kept.batches(100), strict=False
    ):
        np.testing.assert_array_equal(ours, theirs)
    with numbered.reader() as opened:
        assert (next(calls) > 100) == opened.is_plain(0)


@pytest.mark.parametrize(
    ("dtype", "userblock"), [("<f2", 0), ("<f4", 512), (">f2", 0), ("<u2", 1024)]
)
def test_any_file_that_hdf5_reads(tmp_path: Path, dtype: str, userblock: int) -> None:
    data = np.arange(2 * 3000 * 4).reshape(2, 3000, 4).astype(dtype)
    with h5py.File(tmp_path / "activations_0.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("a", data=data)
    pieces = np.array([(0, row, 5, 2995, row) for row in range(2)])
    stream = TrainingStream(SlabPlan(ShardFolder.open(tmp_path), pieces), seed=0, buffer_mb=1)
    stream.keeps = False
    batch = next(stream.batches(2 * 2990))
    assert sorted(map(tuple, batch)) == sorted(map(tuple, data[:, 5:2995].reshape(-1, 4)))


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "activations_0.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.ones((1, 50_000, 4), np.float16))
    folder = ShardFolder.open(tmp_path)
    stream = TrainingStream(SlabPlan(folder, np.array([(0, 0, 0, 50_000, 0)])), 0, buffer_mb=1)
    stream.keeps = False
    with folder.reader() as opened, path.open("rb+") as file:
        opened.is_plain(0)
        file.truncate(100_000)
        with pytest.raises(InputError, match=r"activations_0\.h5: .* is damaged: copy"):
            opened.scatter(0, 0, 20_000, np.empty((9, 4), np.float16), np.arange(9))


def test_memory_that_a_read_would_write_past_is_refused(tmp_path: Path) -> None:
    for place, chunks in enumerate((None, (1, 100, 4))):
        with h5py.File(tmp_path / f"activations_{place}.h5", "w") as file:
            file.create_dataset("a", data=np.ones((1, 900, 4), np.float16), chunks=chunks)
    every_other = np.zeros((18, 4), np.float16)[::2]
    with ShardFolder.open(tmp_path).reader() as opened:
        with pytest.raises(ValueError, match="do not lie one behind the other"):
            opened.scatter(0, 0, 0, every_other, np.arange(9))
        with pytest.raises(ValueError, match=r"activations_1\.h5 goes through HDF5 alone"):
            opened.scatter(1, 0, 0, np.zeros((9, 4), np.float16), np.arange(9))
    assert not every_other.any()


def test_a_buffer_below_one_chunk_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        values = np.ones((1, 100_000, 8), np.float32)
        file.create_dataset("a", data=values, chunks=(1, 100_000, 8))
    plan = SlabPlan(ShardFolder.open(tmp_path), np.array([(0, 0, 0, 100_000, 0)]))
    with pytest.raises(SettingsError, match=r"buffer_mb = 4: .* set at least 7"):
        TrainingStream(plan, 0, buffer_mb=4)


def test_an_error_while_reading_ahead_reaches_the_reader(numbered: ShardFolder) -> None:
    path = numbered.shards[1].path
    with h5py.File(path, "a") as file:
        file["a"][1, 2048, 3] = np.nan
    with pytest.raises(InputError, match=r"activations_1\.h5: .* row 1, position 2048, channel 3"):
        list(SlabPlan(numbered, PIECES).in_order())
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_leaving_a_stream_early_ends_its_thread(numbered: ShardFolder) -> None:
    stream = TrainingStream(SlabPlan(numbered, PIECES), seed=0, buffer_mb=1).batches(64)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
