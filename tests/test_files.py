"""What stands on the disk after a write, whoever wrote and whenever it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from saeborzoi import files
from saeborzoi.errors import StoreError
from saeborzoi.files import exchange, lock_file, restore, write_file, write_folder, write_json
from saeborzoi_assets.commands import opened

_KILLED_AT = """
import os, shutil, sys
from pathlib import Path
from saeborzoi import files

folder, can_exchange = Path(sys.argv[1]), sys.argv[2] == "exchange"
real_exchange = files.exchange

def fill(root, word):
    with files.write_folder(root / "artifact") as temporary:
        (temporary / "part").mkdir()
        for name in ("a", "b", "part/c"):
            (temporary / name).write_text(word)

def run(root, kill_at):
    calls = 0
    def killing(function):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == kill_at:
                os._exit(9)
            result = function(*arguments, **named)
            calls += 1
            if calls == kill_at:
                os._exit(9)
            return result
        return call
    for name in ("rename", "replace", "fsync", "mkdir"):
        setattr(os, name, killing(getattr(os, name)))
    files.shutil.rmtree = killing(shutil.rmtree)
    files.exchange = killing(real_exchange if can_exchange else lambda *_: False)
    fill(root, "new")
    os._exit(0)

for kill_at in range(1, 200):
    root = folder / str(kill_at)
    files.exchange = real_exchange
    fill(root, "old")
    child = os.fork()
    if child == 0:
        run(root, kill_at)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(kill_at - 1)
        break
"""


@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_a_write_killed_at_any_point_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, way: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_AT, str(tmp_path), way],
        capture_output=True,
        text=True,
        check=True,
    )
    n_killed = int(done.stdout)
    assert n_killed > 15
    states = []
    for number in range(1, n_killed + 1):
        artifact = tmp_path / str(number) / "artifact"
        if way == "exchange":
            assert artifact.is_dir(), f"killed at {number}"
        restore(artifact)
        words = {(artifact / name).read_text() for name in ("a", "b", "part/c")}
        assert len(words) == 1, f"killed at {number}: {words}"
        states.append(words.pop())
        # what was killed is no obstacle for the next one
        with write_folder(artifact) as temporary:
            (temporary / "a").write_text("next")
        assert (artifact / "a").read_text() == "next"
    assert states == sorted(states, reverse=True), "once new, it stays new"
    assert {"old", "new"} == set(states)


def test_folders_are_exchanged_where_the_kernel_can(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "first", tmp_path / "second"):
        pytest.skip("this kernel or file system cannot exchange two names")
    assert (tmp_path / "first" / "second").exists()


def test_an_old_folder_of_the_same_process_id_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers process ids repeat: the first release failed there again and again."""
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    artifact = tmp_path / "trained_sae"
    for word in ("first", "second", "third"):
        leftover = tmp_path / f".trained_sae.old-{os.getpid()}"
        leftover.mkdir(exist_ok=True)
        (leftover / "file").touch()
        with write_folder(artifact) as temporary:
            (temporary / "file").write_text(word)
        assert (artifact / "file").read_text() == word


def test_a_reader_that_restores_between_the_renames_does_not_stop_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    artifact = tmp_path / "artifact"
    with write_folder(artifact) as temporary:
        (temporary / "file").write_text("old")
    rename, n_restored = os.rename, 0

    def rename_with_reader(source: Path, target: Path) -> None:
        nonlocal n_restored
        rename(source, target)
        if ".old-" in target.name and n_restored < 2:
            n_restored += 1
            rename(target, artifact)

    monkeypatch.setattr(os, "rename", rename_with_reader)
    with write_folder(artifact) as temporary:
        (temporary / "file").write_text("new")
    assert n_restored == 2
    assert (artifact / "file").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize(
    ("umask", "folder_mode", "file_mode"),
    [(0o077, 0o700, 0o600), (0o022, 0o755, 0o644), (0o002, 0o775, 0o664)],
)
def test_modes_follow_the_umask(
    tmp_path: Path, umask: int, folder_mode: int, file_mode: int
) -> None:
    before = os.umask(umask)
    try:
        with write_folder(tmp_path / "new" / "artifact") as temporary:
            write_json(temporary / "provenance.json", {})
            (temporary / "table").write_text("")
            # as safetensors leaves it
            (temporary / "table").chmod(0o600)
        with write_file(tmp_path / "file.json") as file:
            file.write_text("")
        with lock_file(tmp_path / "new" / "lock"):
            pass
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    folders = {"new", "artifact"}
    assert modes == {name: folder_mode if name in folders else file_mode for name in modes}
    assert len(modes) == 6


def test_what_sqlite_made_is_open_to_who_may_write_the_folder(tmp_path: Path) -> None:
    for name, mode, expected in (("shared", 0o775, 0o664), ("private", 0o700, 0o644)):
        (tmp_path / name / "runs").mkdir(parents=True)
        (tmp_path / name / "runs").chmod(mode)
        database = tmp_path / name / "runs" / ".db"
        database.touch(0o644)
        opened._share(tmp_path / name)
        assert database.stat().st_mode & 0o777 == expected


def _as_user(uid: int, gid: int, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fork of another user: the interpreter itself need not be theirs to read."""
    script = (
        f"import os, sys\nfrom saeborzoi.files import lock_file, write_folder\n"
        "from saeborzoi.errors import StoreError\nfrom pathlib import Path\n"
        f"os.setgroups([]); os.setgid({gid}); os.setuid({uid}); os.umask(0o002)\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try it as two users")
def test_a_second_person_of_the_group_works_in_the_same_store(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    store = tmp_path / "store"
    store.mkdir()
    os.chown(store, 54321, 54000)
    store.chmod(0o2775)
    work = (
        "store = Path(sys.argv[1])\n"
        "with lock_file(store / 'catalog.lock').acquire(timeout=0):\n"
        "    with write_folder(store / 'artifact') as temporary:\n"
        "        (temporary / 'who').write_text(str(os.getuid()))\n"
    )
    for uid in (54321, 54322, 54321):
        done = _as_user(uid, 54000, work, str(store))
        assert done.returncode == 0, done.stderr
        assert (store / "artifact" / "who").read_text() == str(uid)
    (store / "catalog.lock").chmod(0o644)
    refusal = (
        "try:\n    lock_file(Path(sys.argv[1]) / 'catalog.lock')\n"
        "except StoreError as error:\n    print(error)\n"
    )
    message = _as_user(54322, 54000, refusal, str(store)).stdout
    assert "belongs to user 54321 (mode 644) and cannot be locked by user 54322" in message
    assert "chmod g+rw" in message


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match=r"file/artifact: cannot be written.*fix the folder"),
        write_folder(tmp_path / "file" / "artifact"),
    ):
        pass


def test_a_folder_in_the_place_of_a_file_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(StoreError, match="results: is a folder; name a file"):
        write_json(tmp_path / "results", {})
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
