"""Jobs on a real SLURM: results, arrays, every end state, retries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute.slurm import SlurmCompute
from saeborzoi_resources.compute.slurm_submit import RUN_TAG
from tests.compute.compute_helpers import (
    event_messages,
    failure_of,
    in_run,
    metadata_of,
    tiny_settings,
    wait_for,
)
from tests.compute.slurm_cluster import Cluster, has_memory_cgroup

pytestmark = pytest.mark.slurm
MakeJob = Callable[..., Job]
MakeCompute = Callable[..., SlurmCompute]


@pytest.fixture
def compute(slurm: Cluster, tmp_path: Path) -> MakeCompute:
    """SLURM compute that runs a tiny stage with the given profile."""

    def make(stage: str, **profile: Any) -> SlurmCompute:
        profile = {"partition": "gpu", "time": "10", "mem": "200M", **profile}
        settings = tiny_settings(backend="slurm", profile={"trained_sae": profile})
        return SlurmCompute(settings, tmp_path / "jobs", f"tiny_stages:{stage}")

    return make


def test_a_job_with_a_gpu(
    instance: dg.DagsterInstance,
    compute: MakeCompute,
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [figures] = in_run(instance, compute("count", gres="gpu:1", cpus=2), [make_job("a", 5)])
    assert figures["counted"] == 5
    used = figures["compute"]
    assert used["n_gpus"] == 1
    assert used["gpu_h"] == pytest.approx(used["elapsed_s"] / 3600, abs=1e-4)
    assert used["attempts"] == 1
    run = instance.get_run_records(limit=1)[0].dagster_run
    assert run.tags[RUN_TAG] == used["slurm_job_id"]
    assert "counting: 5 of 5" in capsys.readouterr().out
    messages = event_messages(instance)
    assert "counting: 5 of 5" in messages
    assert f"submitted as SLURM job {used['slurm_job_id']} (gpu)" in messages


def test_several_processes_do_one_job(
    instance: dg.DagsterInstance, compute: MakeCompute, make_job: MakeJob
) -> None:
    together = compute("count", processes=2, mem="1500M")
    [figures] = in_run(instance, together, [make_job("a", 5, threads=2)])
    assert figures["counted"] == 5
    assert figures["threads"] == "1"
    assert event_messages(instance).count("counting: 5 of 5") == 1


def test_an_array_keeps_order_and_throttle(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.2):
            running = slurm.client("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i").split()
            most = max(most, len(running))

    watcher = threading.Thread(target=watch)
    watcher.start()
    # each counts for a second, so that it is seen running
    jobs = [make_job(f"batch{i}", 10 + i) for i in range(5)]
    figures = in_run(instance, compute("count", max_parallel=2, mem="50M"), jobs)
    done.set()
    watcher.join()
    assert [f["counted"] for f in figures] == [10, 11, 12, 13, 14]
    ids = [f["compute"]["slurm_job_id"] for f in figures]
    parent = ids[0].partition("_")[0]
    assert ids == [f"{parent}_{i}" for i in range(5)]
    assert 1 <= most <= 2
    assert not list((tmp_path / "jobs" / ".submissions").iterdir())


def test_half_of_an_array_fails_and_only_that_half_runs_again(
    instance: dg.DagsterInstance, compute: MakeCompute, make_job: MakeJob, tmp_path: Path
) -> None:
    jobs = [make_job(f"batch{i}", i) for i in range(4)]
    failure = failure_of(instance, compute("odd_nodes_crash", mem="50M"), jobs)
    metadata = metadata_of(failure)
    assert metadata["n_failed"] == 2
    assert "batch1" in metadata["failed_jobs"]
    assert "batch3" in metadata["failed_jobs"]
    assert "ZeroDivisionError: node 1" in str(failure.description)
    kept = (tmp_path / "jobs/batch2/result.json").stat().st_mtime_ns
    figures = in_run(instance, compute("touch", mem="50M"), jobs)
    assert [f["first_node"] for f in figures] == [0, 1, 2, 3]
    assert (tmp_path / "jobs/batch2/result.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("stage", "nodes", "state", "message"),
    [
        ("refuse", (), "REFUSED", "3 columns seen"),
        ("crash", (), "FAILED", "ZeroDivisionError: a bug"),
        ("leave", (0,), "NO_RESULT", "wrote no result; SLURM says COMPLETED"),
        ("leave", (7,), "FAILED", "exit code 7; SLURM says FAILED"),
    ],
)
def test_a_payload_that_fails(
    instance: dg.DagsterInstance,
    compute: MakeCompute,
    make_job: MakeJob,
    stage: str,
    nodes: tuple[int, ...],
    state: str,
    message: str,
) -> None:
    failure = failure_of(instance, compute(stage), [make_job("a", *nodes)])
    metadata = metadata_of(failure)
    assert metadata["state"] == state
    assert message in str(failure.description)
    assert metadata["slurm_job_id"]
    assert "job a: trained_sae" in metadata["log_tail"]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"partition": "nosuch"}, "Fix `partition`"),
        ({"mem": "900G"}, "Lower `mem`"),
        ({"gres": "gpu:9"}, "Lower `cpus`, `mem` or `gres`"),
        ({"partition": "short", "time": "5"}, "Lower `time`"),
        ({"constraint": "a100"}, "Fix `constraint`"),
        ({"options": ["--frobnicate"]}, "Fix `options`"),
    ],
)
def test_what_sbatch_refuses(
    instance: dg.DagsterInstance,
    compute: MakeCompute,
    make_job: MakeJob,
    profile: dict[str, Any],
    message: str,
) -> None:
    failure = failure_of(instance, compute("touch", **profile), [make_job("a")])
    assert metadata_of(failure)["state"] == "REFUSED_BY_SBATCH"
    assert message in str(failure.description)
    assert "[compute.profile.trained_sae]" in str(failure.description)


def test_an_unreadable_time_limit(
    instance: dg.DagsterInstance, compute: MakeCompute, make_job: MakeJob
) -> None:
    failure = failure_of(instance, compute("touch", time="one day"), [make_job("a")])
    assert '"12:00:00"' in str(failure.description)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"activate": "source /no/such/activate"}, "this line failed"),
        ({"python": "/no/such/python"}, "no /no/such/python on"),
        ({"modules": ["nosuch/1.0"]}, "module load nosuch/1.0 failed"),
    ],
)
def test_an_environment_that_is_not_there(
    instance: dg.DagsterInstance,
    compute: MakeCompute,
    make_job: MakeJob,
    profile: dict[str, Any],
    message: str,
) -> None:
    failure = failure_of(instance, compute("touch", **profile), [make_job("a")])
    metadata = metadata_of(failure)
    assert metadata["state"] == "NO_ENVIRONMENT"
    assert message in metadata["log_tail"]


def test_memory(instance: dg.DagsterInstance, compute: MakeCompute, make_job: MakeJob) -> None:
    if not has_memory_cgroup():
        pytest.skip("no memory cgroup (v1) to confine a job with")
    failure = failure_of(instance, compute("swallow", mem="60M"), [make_job("a", 500)])
    metadata = metadata_of(failure)
    assert metadata["state"] == "OUT_OF_MEMORY"
    assert "Raise `mem` in [compute.profile.trained_sae]" in metadata["remedy"]


def meanwhile(action: Callable[[], Any], when: Callable[[], Any]) -> threading.Thread:
    """Do something while a run goes on, once it has come so far."""

    def act() -> None:
        wait_for(when, "the moment to act", 60)
        action()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def has_counted(folder: Path, n: int = 1) -> Callable[[], bool]:
    """Whether the job of a folder has started to count, for the n-th time."""
    log = folder / "log.txt"
    return lambda: (
        log.exists()
        and log.read_text().count("job a:") >= n
        and ("counting" in log.read_text().rpartition("job a:")[2])
    )


def test_cancelled_by_somebody_else(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    thread = meanwhile(
        lambda: slurm.client("scancel", *slurm.jobs()), has_counted(tmp_path / "jobs/a")
    )
    failure = failure_of(instance, compute("count"), [make_job("a", 600)])
    thread.join()
    metadata = metadata_of(failure)
    assert metadata["state"] == "CANCELLED"
    assert "somebody else" in metadata["reason"]


def test_a_preempted_job_goes_on_from_its_state(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    thread = meanwhile(
        lambda: slurm.client("sbatch", "-p", "high", "-c", "8", "--mem=50M", "--wrap", "sleep 1"),
        has_counted(tmp_path / "jobs/a"),
    )
    [figures] = in_run(
        instance, compute("count", partition="low", max_attempts=2), [make_job("a", 60)]
    )
    thread.join()
    assert figures["counted"] == 60
    assert figures["resumed_at"] > 0
    assert figures["compute"]["attempts"] == 2
    run = instance.get_run_records(limit=1)[0].dagster_run
    assert len(run.tags[RUN_TAG].split(",")) == 2


def test_a_failed_node(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    thread = meanwhile(
        lambda: slurm.client(
            "scontrol", "update", f"nodename={slurm.node}", "state=down", "reason=test"
        ),
        (tmp_path / "work/a_pid.json").exists,
    )
    failure = failure_of(instance, compute("deaf", max_attempts=1), [make_job("a", 600)])
    thread.join()
    metadata = metadata_of(failure)
    assert metadata["state"] == "NODE_FAIL"
    assert failure.allow_retries


def test_slurm_forgets_a_running_job(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    thread = meanwhile(
        lambda: slurm.restart_controller(forgets=True), (tmp_path / "work/a_pid.json").exists
    )
    failure = failure_of(instance, compute("deaf", max_attempts=1), [make_job("a", 600)])
    thread.join()
    metadata = metadata_of(failure)
    assert metadata["state"] == "VANISHED"
    assert "exit_code" not in metadata
    assert "no accounting to ask" in metadata["reason"]
    assert failure.allow_retries


def test_a_forgotten_job_is_submitted_again(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    thread = meanwhile(
        lambda: slurm.restart_controller(forgets=True),
        (tmp_path / "work/a/state.json").exists,
    )
    [figures] = in_run(
        instance, compute("checkpoint_then_deaf", max_attempts=2), [make_job("a", 600)]
    )
    thread.join()
    assert figures["compute"]["attempts"] == 2
    # its last word of the first attempt stays, the second one follows
    assert (tmp_path / "jobs/a/log.txt").read_text().count("job a: trained_sae") == 2


def test_a_deadline(
    instance: dg.DagsterInstance, slurm: Cluster, compute: MakeCompute, make_job: MakeJob
) -> None:
    # a minute of time limit cannot fit before the deadline once the job has waited two seconds
    slurm.client("scontrol", "update", f"nodename={slurm.node}", "state=drain", "reason=test")
    failure = failure_of(
        instance, compute("touch", time="1", options=["--deadline=now+62"]), [make_job("a")]
    )
    metadata = metadata_of(failure)
    assert metadata["state"] == "DEADLINE"
    assert metadata["remedy"] == ("Fix `--deadline` in `options` of [compute.profile.trained_sae].")
    assert not failure.allow_retries
    assert not slurm.jobs()


def test_a_request_that_waiting_does_not_cure(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    node = f"nodename={slurm.node}"
    slurm.client("scontrol", "update", node, "state=drain", "reason=test")
    thread = meanwhile(
        lambda: slurm.client("scontrol", "update", "partitionname=short", "maxtime=1"),
        slurm.jobs,
    )
    slurm.client("scontrol", "update", "partitionname=short", "maxtime=60")
    failure = failure_of(instance, compute("touch", partition="short"), [make_job("a")])
    thread.join()
    assert metadata_of(failure)["state"] == "IMPOSSIBLE"
    assert "PartitionTimeLimit" in str(failure.description)
    assert not slurm.jobs()


def test_without_sbatch(
    instance: dg.DagsterInstance,
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = SlurmCompute(tiny_settings(backend="slurm"), tmp_path / "jobs")
    failure = failure_of(instance, made, [make_job("a")])
    assert "sbatch is not on PATH" in str(failure.description)
    assert "ssh_host" in str(failure.description)
