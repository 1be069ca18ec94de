"""Files and jobs in the store, as cleaning looks at them. Links are removed, never followed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from saeborzoi.errors import StoreError
from saeborzoi.files import lock_file
from saeborzoi.jobs.job import subject_of_set
from saeborzoi.settings.hyperparameters import parse_node_key, set_key, set_of

_BATCH = r"(n[0-9]{4,})(?:-(n[0-9]{4,}))?(?:\.[0-9a-f]{8})?"
"""A batch's name, of `store.batch_name`."""

LOCKS = ".locks"
"""In the folder of jobs, the locks of those of a whole layer, SAE or set of variants:
`<stage>-<Job.subject>`, and the same with `.json`, which says who holds it."""


def entries(folder: Path) -> list[Path]:
    """Everything in a folder, sorted; nothing where it is missing, a file or a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(folder.iterdir())


def children(folder: Path) -> list[Path]:
    """What is in a folder but dot files, which are being written."""
    return [entry for entry in entries(folder) if not entry.name.startswith(".")]


def sizes(path: Path) -> Iterator[int]:
    """Size of each file at or below a path; links count themselves."""
    if path.is_symlink() or not path.is_dir():
        yield path.lstat().st_size
        return
    for entry in entries(path):
        yield from sizes(entry)


def newest(path: Path) -> float:
    """Latest modification at or below a path."""
    times = [path.lstat().st_mtime, *(newest(entry) for entry in entries(path))]
    return max(times)


class JobName(NamedTuple):
    """What the name of a job's folder tells.

    `nodes` are its first and last node, None for a job of a whole layer or SAE; `variant_set` is
    the set of variants that it looks at with an SAE.
    """

    stage: str
    owner: str
    nodes: tuple[int, int] | None
    variant_set: str | None = None

    @property
    def owners(self) -> set[str]:
        """Layer, SAE and set of variants that it is of."""
        return {self.owner, *([] if self.variant_set is None else [set_key(self.variant_set)])}


def job_of(folder: Path) -> JobName:
    """Stage, layer or SAE, nodes and set of variants of a job's folder.

    >>> job_of(Path("seqlets-conv_x4_k0.05_lr0.003_s0-n0000-n0063.0a1b2c3d-4f6dcef2e219465c"))
    JobName(stage='seqlets', owner='conv_x4_k0.05_lr0.003_s0', nodes=(0, 63), variant_set=None)
    """
    stage, _, rest = folder.name.partition("-")
    subject = rest.rpartition("-")[0]
    batch = re.fullmatch(rf"(.+?)-{_BATCH}", subject)
    if batch is None or "=" in subject:
        return _of_subject(stage, subject)
    return JobName(
        stage, batch[1], (parse_node_key(batch[2]), parse_node_key(batch[3] or batch[2]))
    )


def _of_subject(stage: str, subject: str) -> JobName:
    """Parts of what `Job.subject` is.

    >>> _of_subject("variant_nodes", "conv_x4_k0.05_lr0.003_s0=traits")[1:]
    ('conv_x4_k0.05_lr0.003_s0', None, 'traits')
    """
    owner, equals, name = subject.partition("=")
    if not equals or set_of(subject) is not None:
        return JobName(stage, subject, None)
    return JobName(stage, owner, None, name)


def nodes_of_work(folder: Path) -> tuple[int, int] | None:
    """First and last node of the batch that a folder of unfinished work is of, None where it is
    of a whole layer or SAE.

    >>> nodes_of_work(Path("meme_motifs-n0003-4f6dcef2e219465c"))
    (3, 3)
    """
    batch = re.search(f"-{_BATCH}-", folder.name)
    return (parse_node_key(batch[1]), parse_node_key(batch[2] or batch[1])) if batch else None


def status_of(job: Path) -> str | None:
    """How a job ended, None while it has not."""
    try:
        return str(json.loads((job / "result.json").read_text())["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_held(job: Path) -> bool:
    """Whether a Dagster process follows the job now.

    The lock of a batch of nodes lies in the job's folder, that of a whole layer or SAE beside the
    folders, under its stage and owner.
    """
    name = job_of(job)
    subject = (
        name.owner if name.variant_set is None else subject_of_set(name.variant_set, name.owner)
    )
    locks = (job / "lock", job.parent / LOCKS / f"{name.stage}-{subject}")
    return any(is_locked(lock) for lock in locks if lock.exists())


def owners_of_lock(lock: Path) -> set[str]:
    """Layer, SAE and set of variants that a lock is for.

    >>> owners_of_lock(Path("trained_sae-conv_x4_k0.05_lr0.003_s0.json"))
    {'conv_x4_k0.05_lr0.003_s0'}
    """
    stage, _, subject = lock.name.removesuffix(".json").partition("-")
    return _of_subject(stage, subject).owners


def is_locked(lock: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with lock_file(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def require_inside(path: Path, root: Path) -> None:
    """Refuse a path that is not below the store once links are followed; itself it may be one."""
    if not path.parent.resolve().is_relative_to(root.resolve()) or path == root:
        raise StoreError(
            f"{path} lies outside of the store {root}, through a link; it is not removed. Remove "
            "it by hand if it is not needed"
        )


def delete(path: Path, root: Path) -> None:
    """Remove a file, link or folder of the store.

    Raises
    ------
    StoreError
        Where it lies outside of the store or cannot be removed.
    """
    require_inside(path, root)
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be removed ({error.strerror}: {error.filename}); fix its rights, "
            "then clean again"
        ) from error


def size_text(n_bytes: int) -> str:
    """Bytes for people.

    >>> size_text(0), size_text(1536), size_text(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    size, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
