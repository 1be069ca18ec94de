"""Where heavy stages run: a process on this machine or SLURM, behind one interface.

`make_compute` reads which from the settings. An asset calls `run` and does not know where its
job runs; nothing here knows what a stage does. No asset, no catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.load import Settings

if TYPE_CHECKING:
    from saeborzoi_resources.compute.follow import Context


class ComputeBackend(Protocol):
    """Runs jobs and says how they ended."""

    def run(
        self,
        context: Context,
        jobs: Sequence[Job],
        catalogue: Catalogue | None = None,
        lay_out: Callable[[], None] | None = None,
    ) -> list[Figures]:
        """Run jobs of one stage and wait for all of them.

        Parameters
        ----------
        context
            Dagster's context of the asset or op that asks.
        jobs
            Jobs of one stage, each with its own `job_id`.
        catalogue
            Called with the figures, while the jobs are still held. Only when it has returned do
            their results count as taken: a training is not lost for a catalogue that is busy or a
            process that is killed.
        lay_out
            Called once the jobs are held and before any starts: writes inputs that only they read.

        Returns
        -------
        list of dict
            Figures of each job, in their order, with what the job used under ``compute``:
            backend, host, elapsed_s, cpu_s, peak_memory_mb and, of SLURM, its job id and more.

        Raises
        ------
        dagster.Failure
            Where a job does not end with a result, with its state, reason, remedy and log.
        """
        ...


def make_compute(settings: Settings, jobs_folder: Path) -> ComputeBackend:
    """The compute backend that the settings name.

    Parameters
    ----------
    settings
        Whole settings; `compute.backend` decides.
    jobs_folder
        Holds a folder for each job; with SLURM, on a filesystem that its nodes share.
    """
    if settings.compute.backend == "slurm":
        from saeborzoi_resources.compute.slurm import SlurmCompute

        return SlurmCompute(settings, jobs_folder)
    from saeborzoi_resources.compute.local import LocalCompute

    return LocalCompute(settings, jobs_folder)
