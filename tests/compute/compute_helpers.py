"""What the tests of both backends share: settings, and a Dagster run around `ComputeBackend.run`.

Without postponed annotations, which Dagster cannot read.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute import ComputeBackend
from saeborzoi_resources.compute.claims import claimed
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.follow import DagsterRun

HERE = Path(__file__).parent


def tiny_settings(**compute: Any) -> Settings:
    """Settings of one small layer."""
    return Settings.model_validate(
        {
            "project": {"name": "tiny", "store": "/nonexistent/store"},
            "data": {"genome": "/nonexistent/genome.fa"},
            "layer": [
                {
                    "name": "conv1d_1",
                    "n_channels": 8,
                    "bp_per_position": 2,
                    "train": {"shards": "/nonexistent/shards", "windows": "/nonexistent/w.bed"},
                }
            ],
            "compute": {"poll_s": 0.2, **compute},
        }
    )


class OtherRun(DagsterRun):
    """A run that holds a job or waits for it; nobody terminates it."""

    def __init__(self) -> None:
        self.run_id = self.root_run_id = "the-other-run"
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        """Keep a line."""
        self.lines.append(message)

    def is_canceling(self) -> bool:
        """Never."""
        return False


@contextlib.contextmanager
def held_by_another_run(jobs_folder: Path, job: Job, release: threading.Event) -> Iterator[None]:
    """Within the block another run holds a job, until `release` is set."""
    holds = threading.Event()

    def hold() -> None:
        with claimed([JobFolder(jobs_folder, job)], OtherRun(), 1):
            holds.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(10)
    try:
        yield
    finally:
        release.set()
        thread.join()


def in_run(
    instance: dg.DagsterInstance,
    compute: ComputeBackend,
    jobs: Sequence[Job],
    catalogue: Catalogue | None = None,
    **arguments: Any,
) -> list[Figures]:
    """Run jobs as an asset does; what `ComputeBackend.run` raised is raised here."""
    figures: list[Figures] = []

    @dg.asset
    def heavy(context: dg.AssetExecutionContext) -> None:
        figures.extend(compute.run(context, jobs, catalogue))

    dg.materialize([heavy], instance=instance, **arguments)
    return figures


def failure_of(
    instance: dg.DagsterInstance, compute: ComputeBackend, jobs: Sequence[Job]
) -> dg.Failure:
    """The failure that running these jobs ends in."""
    with pytest.raises(dg.Failure) as caught:
        in_run(instance, compute, jobs)
    return caught.value


def metadata_of(failure: dg.Failure) -> dict[str, Any]:
    """A failure's metadata as plain values."""
    return {name: value.value for name, value in failure.metadata.items()}


def event_messages(instance: dg.DagsterInstance) -> str:
    """Everything that stands in the event log of the instance's newest run."""
    run = instance.get_run_records(limit=1)[0].dagster_run
    return "\n".join(entry.user_message for entry in instance.all_logs(run.run_id))


def open_gate(folder: Path, instance: dg.DagsterInstance, after: str | None) -> threading.Thread:
    """Let gated jobs go on, at once or after the newest run has said something."""
    gate = folder / "work" / "gate"

    def act() -> None:
        if after is not None:
            wait_for(
                lambda: instance.get_run_records(limit=1) and after in event_messages(instance),
                f"the run says {after!r}",
                60,
            )
        gate.parent.mkdir(exist_ok=True)
        gate.touch()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def counts(*folders: Path) -> Callable[[], bool]:
    """Whether the jobs of these folders count."""
    logs = [folder / "log.txt" for folder in folders]
    return lambda: all(log.exists() and "counting" in log.read_text() for log in logs)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def calls(state: Path, program: str) -> list[str]:
    """Calls of one of the stand-ins."""
    return [one for one in (state / "calls").read_text().splitlines() if one.startswith(program)]
