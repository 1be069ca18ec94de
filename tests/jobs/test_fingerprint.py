"""Fingerprints of files are kept, and yet follow every change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saeborzoi.errors import InputError
from saeborzoi.jobs import fingerprint
from saeborzoi.jobs.fingerprint import fingerprint_files


def test_a_file_that_did_not_change_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1" * 100)
    first = fingerprint_files([tmp_path])
    monkeypatch.setattr(Path, "open", None)
    assert fingerprint_files([tmp_path]) == first


def test_contents_count_where_size_and_time_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1" * 100)
    status = file.stat()
    first = fingerprint_files([file])
    file.write_bytes(b"2" * 100)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint_files([file]) != first
    # without what is kept it is the same
    second = fingerprint_files([file])
    fingerprint._digest.cache_clear()
    assert fingerprint_files([file]) == second


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist; mend its path"):
        fingerprint_files([tmp_path / "nowhere"])
