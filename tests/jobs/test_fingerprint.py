"""The version of a file is its content, whatever its name, place and times; it is read once."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from saeborzoi.errors import InputError
from saeborzoi.jobs import fingerprint
from saeborzoi.jobs.fingerprint import StillReading, digests_of, fingerprint_files, within


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known from before, and files count as settled at once."""
    monkeypatch.setattr(fingerprint, "_memory", {})
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", -1)


def _folder(path: Path) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "a").write_bytes(b"1" * 300_000)
    (path / "inner" / "b").write_bytes(b"2" * 300_000)
    return path


def test_copied_moved_and_touched_inputs_are_the_same(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "shards")
    first = fingerprint_files([folder])
    copy = shutil.copytree(folder, tmp_path / "copy")
    os.utime(copy / "a", (1, 1))
    (copy / ".DS_Store").touch()
    assert fingerprint_files([copy]) == first
    folder.rename(tmp_path / "elsewhere")
    assert fingerprint_files([tmp_path / "elsewhere"]) == first
    assert fingerprint_files([copy / "a"]) == fingerprint_files(
        [(copy / "a").rename(copy / "hg38.fa")]
    )


@pytest.mark.parametrize("place", [0, 100_000, 150_001, 299_999])
def test_one_changed_byte_is_seen_wherever_it_is(tmp_path: Path, place: int) -> None:
    """The first release looked at the first, middle and last 64 KiB."""
    file = tmp_path / "genome.fa"
    file.write_bytes(b"A" * 300_000)
    before = file.stat()
    first = fingerprint_files([file])
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"C")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint_files([file]) != first


def test_order_and_names_in_a_folder_count(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "shards")
    first = fingerprint_files([folder])
    (folder / "a").rename(folder / "swap")
    (folder / "inner" / "b").rename(folder / "a")
    (folder / "swap").rename(folder / "inner" / "b")
    assert fingerprint_files([folder]) != first


def test_another_process_and_another_host_read_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = _folder(tmp_path / "shards"), tmp_path / "store" / "fingerprints"
    first = fingerprint_files([folder], cache)
    monkeypatch.setattr(fingerprint, "_memory", {})
    monkeypatch.setattr(fingerprint, "digest_of", None)
    assert fingerprint_files([folder], cache) == first
    folder.rename(tmp_path / "moved")
    assert fingerprint_files([tmp_path / "moved"], cache) == first


def test_a_damaged_kept_digest_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = _folder(tmp_path / "shards"), tmp_path / "fingerprints"
    first = fingerprint_files([folder], cache)
    for entry in cache.iterdir():
        content = bytearray(entry.read_bytes())
        content[3] ^= 1
        entry.write_bytes(content)
    monkeypatch.setattr(fingerprint, "_memory", {})
    assert fingerprint_files([folder], cache) == first


def test_a_file_that_was_just_written_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times have a resolution: a change right after would not show in them."""
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 2 * 10**9)
    file, cache = tmp_path / "a", tmp_path / "fingerprints"
    file.write_bytes(b"1")
    fingerprint_files([file], cache)
    assert not cache.exists()


def test_a_sensor_reads_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_THREADS", 1)
    folder, cache = tmp_path / "shards", tmp_path / "fingerprints"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}").write_bytes(bytes([i]) * 1000)
    whole = fingerprint_files([folder])
    monkeypatch.setattr(fingerprint, "_memory", {})
    for n_read in range(1, 5):
        with pytest.raises(StillReading, match=r"1 of \d files"), within(-1):
            fingerprint_files([folder], cache)
        assert len(list(cache.iterdir())) == n_read
    with within(-1):
        assert fingerprint_files([folder], cache) == whole


def test_progress_is_told_where_it_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_TELL_BYTES", 500_000)
    lines: list[str] = []
    fingerprint_files([_folder(tmp_path / "shards")], tell=lines.append)
    assert len(lines) == 1
    assert "2 of 2 files, 0.0 of 0.0 GB at" in lines[0]


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = tmp_path / "a", fingerprint.digest_of
    file.write_bytes(b"1" * 10)

    def read_and_change(path: Path) -> str:
        digest = real(path)
        time.sleep(0.02)
        path.write_bytes(b"2" * 10)
        return digest

    monkeypatch.setattr(fingerprint, "digest_of", read_and_change)
    (during,) = digests_of([file])
    monkeypatch.setattr(fingerprint, "digest_of", real)
    assert digests_of([file]) != [during]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist; fix its path"):
        fingerprint_files([tmp_path / "nowhere"])
