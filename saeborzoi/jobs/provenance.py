"""The provenance document that stands beside an artifact's data: what made it, from what."""

from __future__ import annotations

import contextlib
import importlib.metadata
from datetime import UTC, datetime
from typing import Any

import saeborzoi
from saeborzoi.jobs.job import Job

PROVENANCE = "provenance.json"
_LIBRARIES = ("torch", "numpy", "pandas", "h5py", "duckdb", "memelite", "umap-learn")


def provenance(job: Job | None, **more: Any) -> dict[str, Any]:
    """What made an artifact: job (None where it is the whole project's), code version, libraries,
    time, and whatever the stage adds."""
    return {
        "job": job.model_dump(mode="json") if job else None,
        "code_version": saeborzoi.__version__,
        "libraries": _library_versions(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
