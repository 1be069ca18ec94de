"""What running a stage as a job costs beyond the stage: process, SLURM job, array task.

    python -m benchmarks.compute_overhead

Starts a SLURM of its own in a temporary folder (skipped, with words, where there can be none).
The stage does nothing but write its artifact, so that everything measured is overhead.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
os.environ["PYTHONPATH"] = str(ROOT)

import dagster as dg  # noqa: E402

from saeborzoi.jobs.job import Job  # noqa: E402
from saeborzoi_resources.compute import ComputeBackend  # noqa: E402
from saeborzoi_resources.compute.local import LocalCompute  # noqa: E402
from saeborzoi_resources.compute.slurm import SlurmCompute  # noqa: E402
from tests.compute.compute_helpers import in_run, tiny_settings  # noqa: E402
from tests.compute.slurm_cluster import running_cluster, why_not  # noqa: E402

STAGE = "benchmarks.compute_stage:touch"
N_NODES = 2432
N_ROUNDS = 5


def job(folder: Path, name: str, nodes: Sequence[int] = ()) -> Job:
    """A job of nothing."""
    return Job(
        job_id=name,
        stage="meme_motifs",
        settings=tiny_settings(),
        layer="conv1d_1",
        nodes=tuple(nodes),
        output=folder / "store" / f"{name}.json",
        work=folder / "work" / name,
    )


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process (not of what it started)."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.redirect_stdout(io.StringIO()):
        action()
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - start, cpu


def single_jobs(ways: dict[str, Callable[[str], Any]]) -> None:
    """Each way in turn, several times, so that the machine's load falls on all of them."""
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(N_ROUNDS):
        for name, way in ways.items():
            walls[name].append(timed(lambda way=way, n=number: way(f"n{n}"))[0])
    base = min(walls["the worker alone"])
    print(f"\none job, best of {N_ROUNDS} | wall s | times the worker alone\n---|---|---")
    for name, seconds in walls.items():
        print(f"{name} | {min(seconds):.2f} | {min(seconds) / base:.1f}")


def array(folder: Path, compute: ComputeBackend, sae_nodes_per_job: int) -> None:
    """All nodes through one array."""
    starts = range(0, N_NODES, sae_nodes_per_job)
    jobs = [
        job(folder, f"array{sae_nodes_per_job}_{start}", range(start, start + sae_nodes_per_job))
        for start in starts
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        wall, cpu = timed(lambda: in_run(instance, compute, jobs, run_config=QUIET))
        run = instance.get_run_records(limit=1)[0].dagster_run
        n_events = len(instance.all_logs(run.run_id))
    n_files = sum(
        1 for one in jobs for path in (folder / "jobs" / one.job_id).iterdir() if path.is_file()
    )
    print(
        f"{sae_nodes_per_job} | {len(jobs)} | {wall:.1f} | {1000 * wall / len(jobs):.0f} | "
        f"{1000 * cpu / N_NODES:.2f} | {n_events / N_NODES:.3f} | {n_files / N_NODES:.2f}",
        flush=True,
    )


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main() -> None:
    """Print the figures."""
    if why_not():
        print(f"skipped: no SLURM can be started here: {why_not()}")
        return
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_cluster(Path(temporary) / "slurm") as cluster,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        folder = Path(temporary)
        os.environ.update(cluster.environment)
        profile = {"time": "10", "mem": "200M", "python": sys.executable}
        settings = tiny_settings(
            backend="slurm", profile={"default": {**profile, "max_parallel": 4}}, poll_s=2
        )
        slurm = SlurmCompute(settings, folder / "jobs", STAGE)
        local = LocalCompute(settings, folder / "jobs", STAGE)
        document = folder / "alone" / "job.json"
        document.parent.mkdir()
        document.write_text(job(folder, "alone").model_dump_json())
        worker = [sys.executable, "-m", "saeborzoi.worker", str(document), "--stage", STAGE]

        def nothing(_: str) -> None:
            subprocess.run([sys.executable, "-c", "pass"], check=True)

        def alone(_: str) -> None:
            subprocess.run(worker, check=True, capture_output=True)

        def sbatch(_: str) -> None:
            command = ["sbatch", "--wait", "--output=/dev/null", "--wrap", " ".join(worker)]
            subprocess.run(command, check=True, capture_output=True)

        def of(compute: ComputeBackend, name: str) -> Callable[[str], None]:
            def run(number: str) -> None:
                in_run(instance, compute, [job(folder, f"{name}{number}")], run_config=QUIET)

            return run

        print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        single_jobs(
            {
                "python -c pass": nothing,
                "the worker alone": alone,
                "a Dagster run, local backend": of(local, "local"),
                "sbatch --wait of the worker, no Dagster": sbatch,
                "a Dagster run, SLURM backend": of(slurm, "slurm"),
            },
        )
        print(
            f"\n{N_NODES} nodes through an array of 4 tasks at once\n\n"
            "nodes a job | tasks | wall s | wall ms a task | client CPU ms a node | "
            "events a node | files a node\n---|---|---|---|---|---|---"
        )
        for sae_nodes_per_job in (256, 64):
            array(folder, slurm, sae_nodes_per_job)


if __name__ == "__main__":
    main()
