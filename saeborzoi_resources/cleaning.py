"""Removing an SAE, and finding what nothing refers to any more.

First the plan, which changes nothing, then the removal. Only what lies in the store itself is
removed; links are removed, never followed. Where the catalogue cannot be read, nothing is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from saeborzoi.errors import StoreError
from saeborzoi.hyperparameters import Hyperparameters
from saeborzoi.settings import Settings
from saeborzoi_resources.catalog import Catalog
from saeborzoi_resources.scope import PROJECT
from saeborzoi_resources.store import Store

DAY_S = 86_400.0
"""What was written to within a day may be work in progress, and is no orphan."""
_OLD_FOLDER = re.compile(r"\.(?P<name>.+)\.old-[0-9]+")


class Removal(NamedTuple):
    """What belongs to an SAE.

    Attributes
    ----------
    key
        Its partition key.
    rows
        Catalogue table to its rows.
    folders
        Its folders in the store: artifacts, pages, unfinished work, jobs.
    n_files, n_bytes
        Files in them and their size.
    is_wanted
        Whether the settings ask for it, so that it would be made again.
    """

    key: str
    rows: dict[str, int]
    folders: tuple[Path, ...]
    n_files: int
    n_bytes: int
    is_wanted: bool


class Leftover(NamedTuple):
    """A file or folder in the store that nothing needs, and why."""

    path: Path
    why: str
    n_bytes: int


class LostArtifact(NamedTuple):
    """Rows of the catalogue whose artifact is not there; `first` is a partition key of theirs."""

    asset: str
    first: str
    n_partitions: int
    artifact: Path


class Orphans(NamedTuple):
    """What store and catalogue do not have in common."""

    leftovers: tuple[Leftover, ...]
    lost: tuple[LostArtifact, ...]


def plan_removal(settings: Settings, store: Store, catalog: Catalog, key: str) -> Removal:
    """What removing an SAE would remove; changes nothing.

    Parameters
    ----------
    key
        Partition key; the settings need not have its layer any more.

    Raises
    ------
    PartitionKeyError
        Where the key does not parse.
    CatalogError
        Where the catalogue is missing or cannot be read.
    """
    known = catalog.whole("sae")["hyperparameters"].tolist()
    Hyperparameters.from_key(key, known=known)
    rows = catalog.count(key)
    folders = tuple(
        folder
        for folder in (
            *(top / key for top in (store.root / "saes", store.browser, store.root / "work")),
            *(folder for folder in _children(store.jobs) if _job_of(folder.name)[1] == key),
        )
        if folder.is_symlink() or folder.exists()
    )
    sizes = [size for folder in folders for size in _sizes(folder)]
    wanted = key in [hyperparameters.key for hyperparameters in settings.wanted()]
    return Removal(key, rows, folders, len(sizes), sum(sizes), wanted)


def remove(store: Store, catalog: Catalog, removal: Removal) -> None:
    """Remove an SAE's rows in one transaction, then its files.

    Ended in between, it leaves files without rows, which `orphans` finds.

    Raises
    ------
    StoreError
        Where a job of the SAE runs, or a folder is not in the store or cannot be removed.
    CatalogError
        Where the catalogue cannot be written; nothing is removed then.
    """
    for folder in removal.folders:
        _require_inside(folder, store.root)
        if folder.parent == store.jobs and _is_held(folder):
            raise StoreError(
                f"{folder.name}: a run works on this job; terminate it or wait for its end, then "
                "clean again. Nothing was removed"
            )
    catalog.remove(removal.key)
    for folder in removal.folders:
        _delete(folder, store.root)


def orphans(store: Store, catalog: Catalog, now: float | None = None) -> Orphans:
    """What nothing refers to: artifacts without rows, rows without artifacts, finished jobs,
    leftovers of killed writes.

    What was changed within the last day is left out: a run may be at work on it.

    Parameters
    ----------
    now
        Time in seconds since the epoch; left out, the present.

    Raises
    ------
    CatalogError
        Where the catalogue is missing or cannot be read.
    StoreError
        Where the catalogue's artifacts lie in another store, so that it does not tell what is
        needed in this one.
    """
    recent = (time.time() if now is None else now) - DAY_S
    made = catalog.artifacts_made()
    lost = []
    standing = set()
    for row in made.itertuples():
        artifact = Path(os.path.normpath(row.artifact))
        if not artifact.is_relative_to(store.root):
            raise StoreError(
                f"{catalog.path} refers to {artifact}, which is not in the store {store.root}; "
                "set [project] store to where the artifacts lie, or make them again. Nothing is "
                "taken for an orphan until then"
            )
        standing.add(artifact)
        if not artifact.exists():
            lost.append(LostArtifact(row.asset, row.first, int(row.n_partitions), artifact))
    owners = {str(key).partition("|")[0] for key in made["first"]}
    candidates = [
        *_unreferenced(store, standing),
        *_killed_writes(store),
        *_finished_jobs(store),
        *_abandoned_work(store, owners),
    ]
    leftovers = tuple(
        Leftover(path, why, sum(_sizes(path)))
        for path, why in dict(candidates).items()
        if _newest(path) < recent
    )
    return Orphans(leftovers, tuple(lost))


def remove_leftovers(store: Store, leftovers: Iterable[Leftover]) -> None:
    """Remove orphans' files.

    Raises
    ------
    StoreError
        Where one is not in the store or cannot be removed; those before it are gone.
    """
    for leftover in leftovers:
        _delete(leftover.path, store.root)


# -- what is not needed ----------------------------------------------------------------------


def _unreferenced(store: Store, standing: set[Path]) -> Iterator[tuple[Path, str]]:
    """Artifacts that no row of the catalogue stands on: whole, or batches of nodes."""
    why = "no row of the catalogue stands on it"
    at_work = {_job_of(folder.name) for folder in _children(store.jobs) if _is_held(folder)}
    for top in ("layers", "saes"):
        for owner in _children(store.root / top):
            for artifact in _children(owner):
                if (artifact.name, owner.name) not in at_work:
                    yield from _unreferenced_in(artifact, standing, why)
    for artifact in (*_children(store.root / PROJECT), *_children(store.browser)):
        if artifact.is_dir():  # the browser's start page is of all SAEs
            yield from _unreferenced_in(artifact, standing, why)


def _unreferenced_in(artifact: Path, standing: set[Path], why: str) -> Iterator[tuple[Path, str]]:
    if artifact in standing:
        return
    batches = [batch for batch in _children(artifact) if batch in standing]
    if not batches:
        yield artifact, why
        return
    for batch in _children(artifact):
        if batch not in standing:
            yield batch, why


def _killed_writes(store: Store) -> Iterator[tuple[Path, str]]:
    """What a killed process had not yet put in its place. `.<name>.old-<pid>` is the last good
    artifact where `<name>` itself is missing, and then stays."""
    folders = [
        store.root, store.jobs, store.browser, store.genome_cache, store.root / PROJECT,
        *(
            folder
            for top in ("layers", "saes", "work")
            for owner in _children(store.root / top)
            for folder in (owner, *_children(owner))
        ),
    ]  # fmt: skip
    for folder in folders:
        for entry in _entries(folder):
            if not entry.name.startswith("."):
                continue
            old = _OLD_FOLDER.fullmatch(entry.name)
            if old is None or (folder / old["name"]).exists():
                yield entry, "left by a write that was killed"


def _finished_jobs(store: Store) -> Iterator[tuple[Path, str]]:
    """Jobs that failed, or whose result a run has taken."""
    for folder in _children(store.jobs):
        status = _status(folder)
        if status is None or _is_held(folder):
            continue
        if status != "success":
            yield folder, "a job that failed"
        elif (folder / "taken.json").exists():
            yield folder, "a finished job"


def _abandoned_work(store: Store, owners: set[str]) -> Iterator[tuple[Path, str]]:
    """Unfinished work of layers and SAEs that have no result, so that nothing goes on with it.

    The work of a job that may still be resumed stays.
    """
    for owner in _children(store.root / "work"):
        if owner.name in owners or owner.name == PROJECT:
            continue
        jobs = [job for job in _children(store.jobs) if _job_of(job.name)[1] == owner.name]
        if not any(_status(job) is None for job in jobs):
            yield owner, "work of a partition that has neither results nor open jobs"


# -- files -----------------------------------------------------------------------------------


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder, sorted; nothing where it is missing, a file or a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(folder.iterdir())


def _children(folder: Path) -> list[Path]:
    """What is in a folder but dot files, which are being written."""
    return [entry for entry in _entries(folder) if not entry.name.startswith(".")]


def _sizes(path: Path) -> Iterator[int]:
    """Size of each file at or below a path; links count themselves."""
    if path.is_symlink() or not path.is_dir():
        yield path.lstat().st_size
        return
    for entry in _entries(path):
        yield from _sizes(entry)


def _newest(path: Path) -> float:
    """Latest modification at or below a path."""
    times = [path.lstat().st_mtime, *(_newest(entry) for entry in _entries(path))]
    return max(times)


def _job_of(name: str) -> tuple[str, str]:
    """Stage and owner of a job's folder.

    >>> _job_of("seqlets-conv_x4_k0.05_lr0.003_s0-n0000-n0063.0a1b2c3d-4f6dcef2e219465c")
    ('seqlets', 'conv_x4_k0.05_lr0.003_s0')
    """
    stage, _, rest = name.partition("-")
    owner = rest.rpartition("-")[0]
    nodes = re.fullmatch(r"(.+?)-n[0-9]{4,}(?:-n[0-9]{4,})?(?:\.[0-9a-f]{8})?", owner)
    return stage, nodes[1] if nodes else owner


def _status(job: Path) -> str | None:
    """How a job ended, None while it has not."""
    try:
        return str(json.loads((job / "result.json").read_text())["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(job: Path) -> bool:
    """Whether a Dagster process follows the job now."""
    if not (job / "lock").exists():
        return False
    try:
        with FileLock(job / "lock", timeout=0):
            return False
    except Timeout:
        return True


def _require_inside(path: Path, root: Path) -> None:
    """Refuse a path that is not below the store once links are followed; itself it may be one."""
    if not path.parent.resolve().is_relative_to(root.resolve()) or path == root:
        raise StoreError(
            f"{path} lies outside of the store {root}, through a link; it is not removed. Remove "
            "it by hand if it is not needed"
        )


def _delete(path: Path, root: Path) -> None:
    _require_inside(path, root)
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be removed ({error.strerror}: {error.filename}); mend its rights, "
            "then clean again"
        ) from error


# -- in words --------------------------------------------------------------------------------


def removal_as_text(removal: Removal) -> str:
    """The plan for a terminal."""
    lines = [f"{removal.key}: {removal.n_files} files, {_size(removal.n_bytes)}"]
    lines += [f"  {folder}" for folder in removal.folders]
    lines += [f"  {n:,} rows of {table}" for table, n in removal.rows.items()]
    if removal.is_wanted:
        lines.append(
            "dagster_project.toml asks for it: unless its [[sae]] goes, it will be made again"
        )
    return "\n".join(lines)


def orphans_as_text(found: Orphans) -> str:
    """What was found, for a terminal."""
    total = sum(leftover.n_bytes for leftover in found.leftovers)
    lines = [f"{len(found.leftovers)} files and folders that nothing needs, {_size(total)}"]
    lines += [
        f"  {leftover.path}  ({_size(leftover.n_bytes)}, {leftover.why})"
        for leftover in found.leftovers
    ]
    if found.lost:
        lines.append(f"{len(found.lost)} artifacts are gone whose rows stand; materialize again:")
        lines += [
            f"  {lost.asset} {lost.first}"
            + (f" and {lost.n_partitions - 1} more" if lost.n_partitions > 1 else "")
            + f"  ({lost.artifact})"
            for lost in found.lost
        ]
    return "\n".join(lines)


def _size(n_bytes: int) -> str:
    """Bytes for people.

    >>> _size(0), _size(1536), _size(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    size, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
