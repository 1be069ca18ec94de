"""Finding what nothing refers to any more: artifacts without rows, rows without artifacts, jobs
that are over, leftovers of killed writes. Removing an SAE, a layer or nodes is in `cleaning.py`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import PROJECT
from saeborzoi.catalog.store import Store
from saeborzoi.errors import StoreError
from saeborzoi.files import old_pattern
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi_resources.upkeep.store_files import (
    children,
    delete,
    entries,
    is_held,
    job_of,
    newest,
    size_text,
    sizes,
    status_of,
)

DAY_S = 86_400.0
"""What was written to within a day may be work in progress, and is no orphan."""
_OLD_FOLDER = re.compile(old_pattern("(?P<name>.+)"))


class Leftover(NamedTuple):
    """A file or folder in the store that nothing needs, and why."""

    path: Path
    why: str
    n_bytes: int


class LostArtifact(NamedTuple):
    """Rows of the catalogue whose artifact is not there; `first` is a partition of theirs."""

    asset: str
    first: PartitionKey
    n_partitions: int
    artifact: Path


class Orphans(NamedTuple):
    """What store and catalogue do not have in common."""

    leftovers: tuple[Leftover, ...]
    lost: tuple[LostArtifact, ...]


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
    artifacts = catalog.artifacts_made()
    lost = []
    standing = set()
    for row in artifacts.itertuples():
        artifact = Path(os.path.normpath(row.artifact))
        if not artifact.is_relative_to(store.root):
            raise StoreError(
                f"{catalog.path} refers to {artifact}, which is not in the store {store.root}; "
                "set [project] store to where the artifacts lie, or make them again. Nothing is "
                "taken for an orphan until then"
            )
        standing.add(artifact)
        if not artifact.exists():
            node = None if pd.isna(row.first_node) else int(row.first_node)
            variant_set = row.variant_set if isinstance(row.variant_set, str) else None
            first = PartitionKey(row.owner, node, variant_set)
            lost.append(LostArtifact(row.asset, first, int(row.n_partitions), artifact))
    owners = set(artifacts["owner"])
    candidates = [
        *_unreferenced(store, standing),
        *_killed_writes(store),
        *_finished_jobs(store),
        *_abandoned_work(store, owners),
    ]
    leftovers = tuple(
        Leftover(path, why, sum(sizes(path)))
        for path, why in dict(candidates).items()
        if newest(path) < recent
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
        delete(leftover.path, store.root)


def _unreferenced(store: Store, standing: set[Path]) -> Iterator[tuple[Path, str]]:
    """Artifacts that no row of the catalogue stands on: whole, or of batches of nodes or sets."""
    why = "no row of the catalogue stands on it"
    at_work = {job_of(folder)[:2] for folder in children(store.jobs) if is_held(folder)}
    for top in ("layers", "saes", "variants"):
        for owner in children(store.root / top):
            key = set_key(owner.name) if top == "variants" else owner.name
            for artifact in children(owner):
                if (artifact.name, key) not in at_work:
                    yield from _unreferenced_in(artifact, standing, why)
    for artifact in (*children(store.root / PROJECT), *children(store.browser)):
        if artifact.is_dir():  # the browser's start page is of all SAEs
            yield from _unreferenced_in(artifact, standing, why)


def _unreferenced_in(artifact: Path, standing: set[Path], why: str) -> Iterator[tuple[Path, str]]:
    if artifact in standing:
        return
    batches = [batch for batch in children(artifact) if batch in standing]
    if not batches:
        yield artifact, why
        return
    for batch in children(artifact):
        if batch not in standing:
            yield batch, why


def _killed_writes(store: Store) -> Iterator[tuple[Path, str]]:
    """What a killed process had not yet put in its place. `.<name>.old-<digits>` is the last good
    artifact where `<name>` itself is missing, and then stays."""
    folders = [
        store.root, store.jobs, store.browser, store.genome_cache, store.root / PROJECT,
        *(
            folder
            for top in ("layers", "saes", "variants", "work")
            for owner in children(store.root / top)
            for folder in (owner, *children(owner))
        ),
    ]  # fmt: skip
    for folder in folders:
        for entry in entries(folder):
            if not entry.name.startswith("."):
                continue
            old = _OLD_FOLDER.fullmatch(entry.name)
            if old is None or (folder / old["name"]).exists():
                yield entry, "left by a write that was killed"


def _finished_jobs(store: Store) -> Iterator[tuple[Path, str]]:
    """Jobs that failed, or whose result a run has taken."""
    for folder in children(store.jobs):
        status = status_of(folder)
        if status is None or is_held(folder):
            continue
        if status != "success":
            yield folder, "a job that failed"
        elif (folder / "taken.json").exists():
            yield folder, "a finished job"


def _abandoned_work(store: Store, owners: set[str]) -> Iterator[tuple[Path, str]]:
    """Unfinished work of layers and SAEs that have no result, so that nothing goes on with it.

    The work of a job that may still be resumed stays.
    """
    for owner in children(store.root / "work"):
        if owner.name in owners or owner.name == PROJECT:
            continue
        jobs = [job for job in children(store.jobs) if job_of(job).owner == owner.name]
        if not any(status_of(job) is None for job in jobs):
            yield owner, "work of a partition that has neither results nor open jobs"


def orphans_as_text(orphans: Orphans) -> str:
    """What was found, for a terminal."""
    total = sum(leftover.n_bytes for leftover in orphans.leftovers)
    lines = [f"{len(orphans.leftovers)} files and folders that nothing needs, {size_text(total)}"]
    lines += [
        f"  {leftover.path}  ({size_text(leftover.n_bytes)}, {leftover.why})"
        for leftover in orphans.leftovers
    ]
    if orphans.lost:
        lines.append(f"{len(orphans.lost)} artifacts are gone whose rows stand; materialize again:")
        lines += [
            f"  {lost.asset} {lost.first}"
            + (f" and {lost.n_partitions - 1} more" if lost.n_partitions > 1 else "")
            + f"  ({lost.artifact})"
            for lost in orphans.lost
        ]
    return "\n".join(lines)
