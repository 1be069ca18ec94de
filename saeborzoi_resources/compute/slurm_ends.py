"""What SLURM's words mean for a job: which states are ends, why, what to change."""

from __future__ import annotations

import re

from saeborzoi_resources.compute.ends import End, end_of_exit_code
from saeborzoi_resources.compute.slurm_answers import JobState
from saeborzoi_resources.compute.slurm_script import EXIT_NO_ENVIRONMENT

ALIVE = frozenset(
    [
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "RESV_DEL_HOLD",
    ]
)
"""States after which more will come."""

IMPOSSIBLE = frozenset(
    [
        "BadConstraints",
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "DependencyNeverSatisfied",
        "JobHoldMaxRequeue",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "AssocMaxCpuPerJobLimit",
        "QOSMaxCpuPerJobLimit",
        "AssocMaxGRESPerJob",
        "QOSMaxGRESPerJob",
        "AssocMaxMemPerJob",
        "QOSMaxMemoryPerJob",
        "QOSMinGRES",
        "QOSMinCpuNotSatisfied",
    ]
)
"""Reasons of PENDING that waiting does not cure."""

SUBMIT_LIMIT_REMEDY = (
    "SLURM takes more when some of your jobs have ended; fewer, longer jobs need less room: raise "
    "`sae_nodes_per_job`."
)

_REFUSALS = tuple(
    (re.compile(words, re.IGNORECASE), remedy)
    for words, remedy in (
        # SLURM's names of limits first: the sentence after them speaks of accounts, QOS and sizes
        (r"submit\w*limit|submit\w*jobslimit|unable to accept job", SUBMIT_LIMIT_REMEDY),
        (r"(assoc|qos)\w*wall", "Lower `time` to what your account and QOS allow."),
        (r"(assoc|qos)\w*mem", "Lower `mem` to what your account and QOS allow."),
        (
            r"(assoc|qos)(max|min|grp)\w*(cpu|gres|tres|node|billing|bb)",
            "Ask for other `cpus` and `gres`, or for another `qos`: this one has a bound for them.",
        ),
        (
            r"job submit limit",
            "Lower `time`, `cpus`, `mem` or `gres` to what your account and QOS allow, or have "
            "fewer jobs (raise `sae_nodes_per_job`); `sacctmgr show qos` lists the bounds.",
        ),
        (
            r"partition.*not available|inactive or drain",
            "Name another `partition`, or run again later: `sinfo` says which are up.",
        ),
        (
            r"access permission|not permitted to use this partition|accounts? not permitted",
            "Name a `partition`, `account` or `qos` that you may use; `sacctmgr show assoc "
            "user=$USER` lists yours.",
        ),
        (r"partition", "Fix `partition`; `sinfo` lists those that there are."),
        (r"account", "Fix `account` and `qos`; `sacctmgr show assoc user=$USER` lists yours."),
        (r"qos", "Fix `qos`; `sacctmgr show qos` lists them."),
        (r"memory specification", "Lower `mem`: no node of the partition has that."),
        (
            r"node configuration|cpu count",
            "Lower `cpus`, `mem` or `gres`: no node of the partition has that.",
        ),
        (r"time limit", "Lower `time` to what the partition allows; `sinfo -o '%P %l'` says it."),
        (r"feature", "Fix `constraint`; `sinfo -o '%P %f'` lists what there is."),
        (r"gres", "Fix `gres`; `sinfo -o '%P %G'` lists what there is."),
        (r"option", "Fix `options`; each must be one that `sbatch --help` lists."),
        (r"array", "Raise `sae_nodes_per_job`, so that the array has fewer tasks."),
        (r"job id is found", "Nothing is known to run; `squeue` shows whether that is so."),
        (
            r"limit",
            "Your account has as many jobs as it may; run again later, or lower the number.",
        ),
    )
)


def end_of_refusal(message: str, section: str) -> End:
    """The end of a job that `sbatch` would not take."""
    for words, remedy in _REFUSALS:
        if words.search(message):
            return End("REFUSED_BY_SBATCH", message, f"{remedy} (in {section})")
    return End("REFUSED_BY_SBATCH", message, f"Compare {section} with what the cluster offers.")


def end_of_state(
    last_state: JobState | None, exit_code: int | None, section: str, *, has_new_state: bool
) -> End:
    """The end of a job that left no result.

    Parameters
    ----------
    last_state
        SLURM's last word; None where it knows the job no more.
    exit_code
        What the batch script wrote, else what SLURM knows; None for neither.
    section
        Profile that the job ran with, for the remedy.
    has_new_state
        Whether the stage saved its state during this attempt.
    """
    state, reason = last_state or JobState("VANISHED", "")
    note = f" ({reason})" if reason and reason != "NonZeroExitCode" else ""
    if reason in IMPOSSIBLE and state == "PENDING":
        return End(
            "IMPOSSIBLE",
            f"SLURM would never start it{note}",
            f"Ask in {section} for what the partition can give; the job is cancelled.",
        )
    if state == "TIMEOUT":
        if has_new_state:
            return End(
                state, "the time limit passed", f"It goes on from its last state; raise `time` in "
                f"{section} if that happens again and again.", is_retriable=True,
            )  # fmt: skip
        return End(
            state,
            "the time limit passed before the stage saved any state",
            f"Raise `time` in {section}, lower sae_nodes_per_job, or save more often "
            "([training] checkpoint_every_s).",
        )
    if state == "OUT_OF_MEMORY":
        return End(state, "it used more memory than it asked for", f"Raise `mem` in {section}.")
    if state in ("CANCELLED", "REVOKED"):
        return End(
            state,
            f"somebody else cancelled it{note}",
            "Ask who (an administrator, another terminal); run again: it goes on from its last "
            "state.",
        )
    if state == "PREEMPTED":
        return End(
            state,
            "a job of higher priority took its place",
            f"It was submitted again until max_attempts; raise that in {section}, or use another "
            "partition or qos.",
            is_retriable=True,
        )
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return End(
            state,
            f"its node failed{note}",
            "Run again later; where one node fails often, add `--exclude=<node>` to `options` in "
            f"{section}.",
            is_retriable=True,
        )
    if state == "DEADLINE":
        return End(state, "its deadline passed", f"Fix `--deadline` in `options` of {section}.")
    if exit_code == EXIT_NO_ENVIRONMENT:
        return End(
            "NO_ENVIRONMENT",
            "the worker's environment could not be set up on the node",
            f"Fix `modules`, `activate` and `python` in {section}; `saeborzoi check --compute` "
            "tries them.",
        )
    if state == "VANISHED" and exit_code is None:
        return End(
            state,
            "SLURM knows it no more, it left no exit code, and there is no accounting to ask",
            "The node or SLURM may have been restarted; run again: it goes on from its last state.",
            is_retriable=True,
        )
    if state == "COMPLETED" and exit_code is None:
        exit_code = 0
    end = end_of_exit_code(exit_code, f"`mem` in {section}")
    return end._replace(reason=f"{end.reason}; SLURM says {state}{note}")
