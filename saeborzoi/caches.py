"""Where libraries keep what they compile and look up, on machines where their own places cannot be
written: a container whose environment and HOME are read-only, a service user without a home.

numba refuses to load a kernel whose compiled form it cannot keep; matplotlib, Triton and PyTorch
warn, fail, or do the work again in every process. Where the user's own cache can be written nothing
is changed. Else each gets a folder below one that only this user can write, in the temporary
directory, or below the folder that the worker was given.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from saeborzoi.errors import StoreError

FOLDERS = {
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    # fontconfig, by which matplotlib finds fonts, and whoever else asks
    "XDG_CACHE_HOME": "",
}
"""Variables that name a library's folder, and how it is called below ours."""
_SHARED = "XDG_CACHE_HOME"


def find_caches(below: Path | None = None) -> bool:
    """Set the variables of `FOLDERS` that need it.

    A variable that the user has set stays, unless its folder cannot be written.

    Parameters
    ----------
    below
        Folder to fall back on where the temporary directory cannot be written.

    Returns
    -------
    bool
        Whether every library has a place.
    """
    given = [name for name in FOLDERS if name in os.environ and name != _SHARED]
    unusable = [name for name in given if not _can_write(os.environ[name])]
    for name in unusable:
        print(f"{name}={os.environ[name]} cannot be written and is not used", file=sys.stderr)
        del os.environ[name]
    if _can_write(_home_cache()) and not unusable:
        if not _can_write(os.path.expanduser("~/.triton")):  # it does not ask XDG_CACHE_HOME
            os.environ.setdefault("TRITON_CACHE_DIR", os.path.join(_home_cache(), "triton"))
        return True
    private = _private_folder() or (below and _made(below / "caches"))
    if private is None:
        return all(name in os.environ for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"))
    for name, folder in FOLDERS.items():
        # what others have laid ready for reading stays in sight
        if name != _SHARED or not os.path.exists(_home_cache()):
            os.environ.setdefault(name, str(private / folder))
    numba = sys.modules.get("numba")
    if numba is not None:
        # it was imported before us and has read the variable already
        numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
    return True


def require_caches(below: Path | None = None) -> None:
    """As `find_caches`, refused in words where there is no place.

    Raises
    ------
    StoreError
        Names the variables to set.
    """
    if not find_caches(below):
        raise StoreError(
            f"compiled kernels can be kept nowhere: neither {_home_cache()} nor a temporary "
            "directory can be written; fix: set TMPDIR (or NUMBA_CACHE_DIR and MPLCONFIGDIR) to a "
            "folder that can, in the worker's environment too (`activate` of its profile)"
        )


def announce_compilation(tell: Callable[[str], None]) -> None:
    """Have `tell` told once, where this process comes to compile a loop."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]  # untyped library
        def on_start(self, _event: object) -> None:
            event.unregister("numba:compile", self)
            tell("compiling loops, once; `saeborzoi compile` does it beforehand")

        def on_end(self, _event: object) -> None:
            pass

    event.register("numba:compile", Listener())


def _home_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def _can_write(folder: str) -> bool:
    """Whether a folder can be made or written; a relative one is none (`~` without a home)."""
    path = Path(folder)
    if not path.is_absolute():
        return False
    try:
        while not path.exists():
            path = path.parent
        # by doing: modes do not tell of read-only mounts, nor of what root may not
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def _private_folder() -> Path | None:
    """A folder of this user alone in the temporary directory; None where there can be none.

    What lies in it is run as code, so one that somebody else made or can write is not taken.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"saeborzoi-{os.getuid()}"
        named_folder = _made(folder)
        if named_folder is not None:
            return named_folder
        new_folder = Path(tempfile.mkdtemp(prefix="saeborzoi-"))
    except OSError:
        return None
    atexit.register(shutil.rmtree, new_folder, ignore_errors=True)
    return new_folder


def _made(folder: Path) -> Path | None:
    """The folder, made where it is missing; None where it is not ours alone."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return folder if is_ours and not status.st_mode & 0o022 and _can_write(str(folder)) else None
