"""Submit limits and other refusals of SLURM: waited for, worked around or told with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute import slurm_submit
from saeborzoi_resources.compute.slurm import SlurmCompute
from saeborzoi_resources.compute.slurm_ends import end_of_refusal
from tests.compute.compute_helpers import (
    calls,
    event_messages,
    failure_of,
    in_run,
)

MakeJob = Callable[..., Job]
MakeCompute = Callable[..., SlurmCompute]
LIMITS = [
    "QOSMaxSubmitJobPerUserLimit\\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "AssocMaxSubmitJobLimit\\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "AssocGrpSubmitJobsLimit",
    "QOSGrpSubmitJobsLimit",
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
    "size and/or time limits)",
    "Slurm temporarily unable to accept job, sleeping and retrying\\nsbatch: error: Batch job "
    "submission failed: Resource temporarily unavailable",
    "You have too many pending jobs",
]


@pytest.mark.parametrize("refusal", LIMITS)
def test_a_submit_limit_is_waited_for(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
) -> None:
    monkeypatch.setattr(slurm_submit, "_LIMIT_PAUSE_S", 0.1)
    state = site(FAKE_REFUSAL=refusal, FAKE_REFUSALS="3")
    [figures] = in_run(instance, compute(max_attempts=1), [make_job("a", 5)])
    assert figures["first_node"] == 5
    assert figures["compute"]["attempts"] == 1
    assert len(calls(state, "sbatch")) == 4
    messages = event_messages(instance)
    assert messages.count("takes no further job now") == 3
    assert "raise `sae_nodes_per_job`. (in [compute.profile.trained_sae])" in messages


def test_arrays_become_as_small_as_a_limit_wants(
    instance: dg.DagsterInstance, site: Callable[..., Path], compute: MakeCompute, make_job: MakeJob
) -> None:
    state = site(FAKE_REFUSAL="QOSMaxSubmitJobPerUserLimit", FAKE_ROOM="2")
    jobs = [make_job(f"batch{number}", number) for number in range(5)]
    figures = in_run(instance, compute(), jobs)
    assert [f["first_node"] for f in figures] == [0, 1, 2, 3, 4]
    assert len(list(state.glob("*.done"))) == 5
    # 5 are refused, 2 taken, 3 (all that is left) refused, 1 taken, 2 taken
    assert len(calls(state, "sbatch")) == 5


def test_a_limit_that_may_be_the_jobs_own_size_ends_in_words(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm_submit, "_LIMIT_PAUSE_S", 0.1)
    monkeypatch.setattr(slurm_submit, "_SUBMIT_TRIES_S", 1.0)
    site(FAKE_REFUSAL=LIMITS[4])
    failure = failure_of(instance, compute(), [make_job("a")])
    assert "Lower `time`, `cpus`, `mem` or `gres`" in str(failure.description)
    assert "raise `sae_nodes_per_job`" in str(failure.description)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("AssocMaxWallDurationPerJobLimit; Job violates accounting/QOS policy (job submit limit, "
         "user's size and/or time limits)", "Lower `time`"),
        ("QOSMaxMemoryPerJob; Job violates accounting/QOS policy (job submit limit, user's size "
         "and/or time limits)", "Lower `mem`"),
        ("QOSMaxGRESPerUser; Job violates accounting/QOS policy", "other `cpus` and `gres`"),
        ("Invalid account or account/partition combination specified", "`partition`"),
        ("Required partition not available (inactive or drain)", "run again later"),
        ("User's group not permitted to use this partition", "that you may use"),
        ("Invalid qos specification", "Fix `qos`"),
        ("Invalid job array specification", "Raise `sae_nodes_per_job`"),
        ("CPU count per node can not be satisfied", "Lower `cpus`"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_own_remedy(message: str, remedy: str) -> None:
    assert remedy in end_of_refusal(message, "[compute.profile.default]").remedy
