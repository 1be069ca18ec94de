"""What not every system or installation has: calls of Linux alone, and packages of the extras."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import os
import pwd
import re
import resource
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from saeborzoi import worker
from saeborzoi.activations import reader
from saeborzoi.errors import MissingPackageError
from saeborzoi.extras import extra
from saeborzoi.files import exchange, write_folder
from saeborzoi.jobs.fingerprint import digest_of
from saeborzoi.jobs.processes import available_cores
from saeborzoi.motifs import pool
from saeborzoi.motifs.databases import load_database
from saeborzoi.nodes import embedding
from saeborzoi.sae.tensorboard_log import TensorboardLog
from saeborzoi_assets.cli import main
from saeborzoi_assets.commands import label_commands
from saeborzoi_resources.compute import warm

ROOT = Path(__file__).parents[1]
PACKAGES = ("saeborzoi", "saeborzoi_resources", "saeborzoi_assets")
LINUX_ONLY = {
    "O_DIRECT", "O_TMPFILE", "copy_file_range", "eventfd", "fdatasync", "getxattr", "listxattr",
    "memfd_create", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate",
    "sched_getaffinity", "sched_setaffinity", "setns", "setxattr", "splice", "timerfd_create",
    "unshare",
}  # fmt: skip


def test_calls_that_only_linux_has_are_guarded() -> None:
    """`os.sched_getaffinity` alone stopped every job on a Mac."""
    names = re.compile(rf"\bos\.({'|'.join(sorted(LINUX_ONLY))})\b")
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text()
            for name in names.findall(text):
                assert f'hasattr(os, "{name}")' in text, f"{file}: os.{name} is not guarded"
            for place in ("/proc", "/sys", "/dev/shm"):
                assert f'"{place}' not in text, f"{file}: {place} is of Linux; ask psutil"
            assert "epoll" not in text, f"{file}: epoll is of Linux; `selectors` has what there is"


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()


def test_a_digest_without_fadvise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"activations")
    before = digest_of(tmp_path / "file")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert digest_of(tmp_path / "file") == before


def test_a_folder_is_replaced_without_renameat2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    for word in ("old", "new"):
        with write_folder(tmp_path / "artifact") as temporary:
            (temporary / "file").write_text(word)
    assert not exchange(tmp_path / "artifact", tmp_path / "artifact")
    assert (tmp_path / "artifact" / "file").read_text() == "new"


def test_shards_are_read_without_preadv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((3, 50, 4), np.float32)
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        file["activations"] = values
    shard = reader.Shard(
        tmp_path / "activations_0.h5", 0, "activations", len(values), "float32", None
    )
    monkeypatch.setattr(reader, "_PREADV", None)
    with contextlib.closing(reader.Reader((shard,), values.shape[1])) as opened:
        assert not opened.is_plain(0), "it goes through HDF5"
        block = opened.read(0, slice(1, 3), slice(10, 20))
    np.testing.assert_array_equal(block, values[1:3, 10:20])


def test_no_process_is_copied_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Accelerate and Objective-C hold does not survive a fork without exec."""
    methods = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, n_workers: int, context: BaseContext, _initializer: object) -> None:
            methods.append(context.get_start_method())
            super().__init__(n_workers)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(pool, "_start_deaf_server", lambda: methods.append("server"))
    for platform, n_threads in (("linux", 1), ("linux", 2), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(pool, "_n_threads", lambda n=n_threads: n)
        with pool.search_pool(2) as started:
            assert started is not None
        with warm.warm_workers(["no_stage"], 1):
            assert (warm._current is None) == (platform == "darwin")
    assert methods == ["fork", "server", "forkserver", "spawn"]


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container nobody has a name; `saeborzoi label` ended in a traceback there."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert label_commands._user() == str(os.getuid())


def test_memory_is_counted_in_the_systems_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS counts `ru_maxrss` in bytes: a job of 200 MB was said to take 200 GB."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 1024**2 if sys.platform == "darwin" else 1024
    assert worker.usage()["peak_memory_mb"] == pytest.approx(peak / unit, rel=0.01)


def test_a_missing_package_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    with pytest.raises(MissingPackageError, match=r"'pyjaspar' is not installed.*extra `jaspar`"):
        # a name of its own: what another test loaded in this process is kept
        load_database("of no other test", "jaspar:JASPAR2024:CORE:vertebrates")
    monkeypatch.setitem(sys.modules, "umap", None)
    seqlets = sparse.csr_array(np.eye(6, dtype=np.float32))
    with pytest.raises(MissingPackageError, match=r"'umap' is not installed.*extra `platform`"):
        embedding.embed_nodes(np.arange(6), seqlets)


def test_a_fault_of_our_own_imports_is_not_blamed_on_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError), extra("platform"):
        import saeborzoi.no_such_module  # type: ignore[import-not-found]  # noqa: F401


def test_the_command_of_a_workers_environment_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import saeborzoi_assets.commands

    monkeypatch.delattr(saeborzoi_assets.commands, "cli", raising=False)
    monkeypatch.delitem(sys.modules, "saeborzoi_assets.commands.cli", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["run"]) == 2
    assert "'typer' is not installed; fix: install saeborzoi with its extra `platform`" in (
        capsys.readouterr().err
    )


def test_training_goes_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log itself goes into the catalogue."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with TensorboardLog(tmp_path / "events", []) as board:
        board.catch_up([{"step": 1, "split": "train", "loss": 0.5}])
    assert "no event files for TensorBoard" in capsys.readouterr().out
    assert not (tmp_path / "events").exists()


def test_what_a_worker_needs_is_in_the_base_installation() -> None:
    """Imports outside of it stand in `with extra`, which names what to install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {requirement.partition(">")[0] for requirement in project["dependencies"]}
    assert not {"duckdb", "matplotlib", "pillow", "pyjaspar", "umap-learn", "tensorboard"} & base
    # (duckdb, matplotlib and pillow have their doors: `connected`, `figures`)
    of_extras = {"pyjaspar", "sklearn", "tensorboard", "umap", "borzoi_pytorch", "pybigtools"}
    for file in (ROOT / "saeborzoi").rglob("*.py"):
        text = file.read_text()
        if not any(f" {package}" in text for package in of_extras):
            continue
        bare = _imports(ast.parse(text)) & of_extras
        assert not bare, f"{file}: {bare} of an extra, imported outside of `with extra(...)`"
    for door in ("saeborzoi/catalog/access.py", "saeborzoi/figures.py"):
        assert 'with extra("notebook"):' in (ROOT / door).read_text()


def _imports(tree: ast.AST) -> set[str]:
    """Packages that are imported outside of `with extra` and of TYPE_CHECKING."""
    packages: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.With) and any("extra(" in ast.unparse(i) for i in node.items):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            packages.add(node.module.partition(".")[0])
        else:
            packages |= _imports(node)
    return packages
