"""A stage that does nothing, for `benchmarks.compute_overhead`: all that remains is overhead."""

from __future__ import annotations

from saeborzoi.files import write_json
from saeborzoi.jobs.job import Figures, Job, Progress


def touch(job: Job, progress: Progress) -> Figures:
    """Write the artifact at once."""
    progress("nodes", len(job.nodes), len(job.nodes))
    write_json(job.output, {"n_nodes": len(job.nodes)})
    return {"n_nodes": len(job.nodes)}
