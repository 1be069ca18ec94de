"""Where compiled kernels and fonts are kept: unchanged where that works, else a safe place."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from saeborzoi import caches
from saeborzoi.caches import FOLDERS, find_caches, require_caches
from saeborzoi.errors import StoreError

ROOT = Path(caches.__file__).parents[1]


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory, and a HOME that is a file, which nobody can write into, not even
    root; no variable is set."""
    for name in FOLDERS:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


def variables() -> dict[str, str]:
    return {name: os.environ[name] for name in FOLDERS if name in os.environ}


def test_nothing_changes_where_the_users_cache_can_be_written(
    homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_caches()
    assert variables() == {}


def test_a_private_folder_where_it_cannot(homeless: Path) -> None:
    assert find_caches()
    private = homeless / f"saeborzoi-{os.getuid()}"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert variables() == {name: str(private / folder) for name, folder in FOLDERS.items()}


def test_triton_follows_a_cache_beside_a_home_that_cannot_be_written(
    homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps kernels in ~/.triton wherever XDG_CACHE_HOME is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_caches()
    assert variables() == {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TRITON_CACHE_DIR": str(tmp_path / "cache" / "triton"),
    }


@pytest.mark.parametrize("home", ["relative", "~", "/proc/nothing/there"])
def test_no_home_at_all(homeless: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert find_caches()
    assert variables()["NUMBA_CACHE_DIR"].startswith(str(homeless))


def test_what_the_user_set_stays(
    homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert find_caches()
    assert variables()["NUMBA_CACHE_DIR"] == str(tmp_path / "mine")
    assert variables()["MPLCONFIGDIR"].startswith(str(homeless))


def test_what_the_user_set_and_cannot_be_written_is_said(
    homeless: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/none")
    assert find_caches()
    assert variables()["NUMBA_CACHE_DIR"].startswith(str(homeless))
    assert "NUMBA_CACHE_DIR=/proc/none cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("made", ["link", "open to others", "file"])
def test_a_folder_that_others_could_fill_is_not_taken(
    homeless: Path, tmp_path: Path, made: str
) -> None:
    """What numba finds there is run."""
    theirs = homeless / f"saeborzoi-{os.getuid()}"
    if made == "link":
        (tmp_path / "theirs").mkdir()
        theirs.symlink_to(tmp_path / "theirs")
    elif made == "file":
        theirs.touch()
    else:
        theirs.mkdir()
        theirs.chmod(0o777)
    assert find_caches()
    taken = Path(variables()["NUMBA_CACHE_DIR"]).parent
    assert taken != theirs
    assert taken.parent == homeless
    assert stat.S_IMODE(taken.stat().st_mode) == 0o700


def test_without_a_temporary_directory(
    homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(StoreError, match="set TMPDIR"):
        require_caches()
    assert find_caches(tmp_path)
    assert variables()["NUMBA_CACHE_DIR"] == str(tmp_path / "caches" / "numba")


PROGRAM = """
import warnings
warnings.simplefilter("error")
import numba
import numpy as np
from saeborzoi.sae import kernels
from saeborzoi.motifs.engine import kernels, significance, site_kernels
from saeborzoi.motifs import evidence_kernels
from saeborzoi.activations import kernels
from saeborzoi.plots import *
from matplotlib import font_manager
print("CACHE", numba.config.CACHE_DIR)
"""


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True
    )
    return tried.returncode == 0


@pytest.mark.parametrize("home", ["read-only", "unset and unknown"])
def test_kernels_load_in_a_read_only_environment(tmp_path: Path, home: str) -> None:
    """The code is mounted read-only, as in a container; its compiled kernels cannot lie beside it,
    nor in HOME."""
    if not _may_mount():
        pytest.skip("no mount namespace can be had here (needs root and unshare)")
    script = tmp_path / "try.sh"
    (tmp_path / "ro").mkdir()
    script.write_text(
        f"set -e\nmount -t tmpfs none {tmp_path}/ro\nmount -o remount,ro {tmp_path}/ro\n"
        f"mount --bind {ROOT} {ROOT}\nmount -o remount,ro,bind {ROOT}\n"
        f"! touch {ROOT}/written 2>/dev/null\n"
        + (f"export HOME={tmp_path}/ro\n" if home == "read-only" else "unset HOME\n")
        + 'exec "$@"\n'
    )
    # a user without a name, whose home nobody knows
    prefix = ["setpriv", "--inh-caps=-all"] if home == "read-only" else ["env", "HOME=~"]
    (tmp_path / "tmp").mkdir()
    kept = {k: v for k, v in os.environ.items() if k not in FOLDERS}
    done = subprocess.run(
        ["unshare", "-m", "bash", script, *prefix, sys.executable, "-c", PROGRAM],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**kept, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"CACHE {tmp_path}/tmp/saeborzoi-{os.getuid()}/numba" in done.stdout
    assert done.stderr == ""
