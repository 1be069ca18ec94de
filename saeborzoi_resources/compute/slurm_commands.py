"""SLURM's commands, here or through ``ssh <host>``.

Needs no accounting: `squeue` and `scontrol` know a job until SLURM's MinJobAge has passed,
`sacct` is asked after that. Every question about a job names the job's own name beside its id,
since a controller that lost its state gives an id again. How answers are read stands in
`slurm_answers.py`, what they mean for a job in `slurm_ends.py` and `slurm_task.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saeborzoi.errors import ComputeError, MissingProgramError
from saeborzoi_resources.compute.slurm_answers import (
    JobState,
    by_cluster,
    clusters_of,
    lines_of,
    parent_of,
    read_accounting,
    read_end,
    read_exit_code,
    read_found,
    read_partition,
    read_queue,
    read_submitted,
    with_cluster,
)

_TIMEOUT_S = 60
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")
_SSH_FAILED = 255
_NO_ANSWER = re.compile(
    r"unable to contact|socket timed out|connection (refused|timed out|reset)|"
    r"temporarily unable|communication connection failure|zero bytes were transmitted|"
    r"transport endpoint|controller.*(down|not respond)|fetch_config|not running|"
    r"protocol authentication error|munge",
    re.IGNORECASE,
)
_UNKNOWN_ID = re.compile(r"invalid job id|no cluster .* known", re.IGNORECASE)
_SUBMIT_LIMIT = re.compile(
    r"(assoc|qos)\w*submit\w*|unable to accept job|resource temporarily unavailable|"
    r"(too many|maximum number of) \w*\s?jobs",
    re.IGNORECASE,
)
_PERHAPS_SUBMIT_LIMIT = re.compile(r"job submit limit", re.IGNORECASE)
_LIMIT_OF_THE_JOB = re.compile(r"(assoc|qos)(max|min|grp)(?!\w*submit)\w+", re.IGNORECASE)
_ARRAY_TOO_LARGE = re.compile(r"invalid job array spec", re.IGNORECASE)
# variables of the user's shell that filter or change what these commands say or do; of a job that
# Dagster itself runs in, a task's number would be handed on to a job that is no array
_MISLEADING = re.compile(
    r"(SQUEUE|SCANCEL|SACCT|SINFO)_\w+|SBATCH_(WAIT|ARRAY_INX|TEST_ONLY)|SLURM_ARRAY_\w+"
)


class NoAnswer(ComputeError):
    """SLURM's controller, or the host behind ssh, does not answer now."""


class Refused(ComputeError):
    """`sbatch` refused a job; the message is what it said."""


class SubmitLimit(ComputeError):
    """SLURM takes no further job of this user now, or no array of this size.

    Attributes
    ----------
    is_certain
        Whether it said so, or something that may also mean that the job itself is too large.
    is_of_array
        Whether a smaller array would be taken at once.
    """

    def __init__(self, message: str, *, is_certain: bool = True, is_of_array: bool = False) -> None:
        super().__init__(message)
        self.is_certain = is_certain
        self.is_of_array = is_of_array


class Slurm:
    """Runs SLURM's commands.

    Parameters
    ----------
    ssh_host
        Run them there; None for this machine.
    """

    def __init__(self, ssh_host: str | None = None) -> None:
        self._ssh_host = ssh_host

    def submit(self, options: Sequence[str], script: Path, name: str) -> str:
        """Submit a batch script; the job's id.

        Parameters
        ----------
        options
            Options of `sbatch`.
        name
            The job's name, which the options give it.

        Raises
        ------
        Refused
            Where sbatch says no for good, or where no id can be found in what it printed.
        SubmitLimit
            Where the user has as many jobs as SLURM lets one have.
        NoAnswer
            Where it may say yes later.
        """
        try:
            done = self._run("sbatch", "--parsable", *options, str(script))
        except NoAnswer as error:
            # sbatch itself sleeps and tries again, longer than is waited for it here
            if _SUBMIT_LIMIT.search(str(error)):
                raise SubmitLimit(str(error)) from None
            raise
        ids = read_submitted(done.stdout)
        if done.returncode == 0 and len(ids) == 1:
            return ids[0]
        if done.returncode != 0 and not ids:
            raise _refusal(_said(done))
        numbers = {with_cluster(n, None): name for n in re.findall(r"\b\d+\b", done.stdout)}
        slurm_id = self.find(name, options) or next(iter(self.states(numbers)), None)
        if slurm_id is None and done.returncode != 0:
            raise _refusal(_said(done))
        if slurm_id is None:
            printed = " / ".join(lines_of(done.stdout))[:300]
            raise Refused(
                f"sbatch printed {printed!r}, in which no job id is found, and squeue knows no job "
                f"named {name}; where sbatch is a wrapper here, call the real one first on PATH"
            )
        return slurm_id

    def states(self, names: Mapping[str, str]) -> dict[str, JobState]:
        """State of each job or array task that SLURM still knows, by its id.

        Parameters
        ----------
        names
            The job's name by its id; a job of another name is not this one.

        Raises
        ------
        NoAnswer
            Where the controller does not answer.
        """
        states: dict[str, JobState] = {}
        for cluster, ids in by_cluster(names).items():
            parents = ",".join(sorted({parent_of(slurm_id) for slurm_id in ids}, key=int))
            full_ids = {with_cluster(slurm_id, cluster) for slurm_id in ids}
            named = ",".join(sorted({names[slurm_id] for slurm_id in full_ids}))
            done = self._run(
                "squeue", *_at(cluster), "-h", "-r", "-t", "all", "-n", named, "-j", parents,
                "-o", "%i|%T|%r|%j",
            )  # fmt: skip
            if done.returncode != 0 and not _UNKNOWN_ID.search(done.stderr):
                # silence about a job is no word that it is gone
                raise NoAnswer(f"squeue: {_said(done)}")
            states |= read_queue(done.stdout, names, cluster)
        return states

    def find(self, name: str, options: Sequence[str] = ()) -> str | None:
        """Id of the job or array of that name, where SLURM knows one.

        Parameters
        ----------
        options
            Options that it was submitted with; they may name clusters.
        """
        named = clusters_of(options)
        done = self._run("squeue", *_at(named), "-t", "all", "-n", name, "-o", "%F|%j")
        if done.returncode != 0 and named:
            raise NoAnswer(f"squeue: {_said(done)}")
        slurm_id = read_found(done.stdout, name)
        if slurm_id is None and not named:
            try:
                # a federation may have started it elsewhere; elsewhere there are no clusters to ask
                done = self._run("squeue", "-M", "all", "-t", "all", "-n", name, "-o", "%F|%j")
            except NoAnswer:
                return None
            slurm_id = read_found(done.stdout, name)
        return slurm_id

    def cancel(self, names: Mapping[str, str]) -> list[str]:
        """Cancel jobs or tasks, and say which there were; those that ended already are no error.

        Parameters
        ----------
        names
            The job's name by its id; a job of another name is left alone.
        """
        # not `scancel --name`: with it, a task takes all that wait of its array along
        known = list(self.states(names))
        for cluster, ids in by_cluster(known).items():
            self._run("scancel", *_at(cluster), *ids)
        return known

    def cancel_named(self, name: str, options: Sequence[str] = ()) -> list[str]:
        """Cancel the job or the whole array of a name, where there is one; see `find`."""
        slurm_id = self.find(name, options)
        for cluster, ids in by_cluster([slurm_id] if slurm_id else []).items():
            self._run("scancel", *_at(cluster), *ids)
        return [slurm_id] if slurm_id else []

    def exit_code(self, slurm_id: str, name: str) -> int | None:
        """Exit code of an ended job, negative for a signal; None where SLURM forgot."""
        [(cluster, [number])] = by_cluster([slurm_id]).items()
        done = self._run("scontrol", *_at(cluster), "show", "job", "-o", number)
        return read_exit_code(done.stdout, name)

    def accounted_end(self, slurm_id: str, name: str) -> tuple[str, int | None] | None:
        """State and exit code of a job that the controller forgot, from accounting; None
        without it."""
        [(cluster, [number])] = by_cluster([slurm_id]).items()
        done = self._sacct(cluster, [number], {name}, "-X", "-o", "JobID,State,ExitCode,JobName")
        return read_end(done, name)

    def accounting(self, names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """What accounting knows of jobs, by id; empty where there is no accounting.

        Parameters
        ----------
        names
            The job's name by its id.

        Returns
        -------
        dict of str to dict
            `state`, `elapsed_s`, `cpu_s`, `gpu_h` and, where sampled, `peak_memory_mb`.
        """
        known = {}
        for cluster, ids in by_cluster(names).items():
            named = {slurm_id: names[with_cluster(slurm_id, cluster)] for slurm_id in ids}
            printed = self._sacct(
                cluster, ids, set(named.values()),
                "-o", "JobID,State,ElapsedRaw,TotalCPU,MaxRSS,AllocTRES,JobName",
            )  # fmt: skip
            for slurm_id, used in read_accounting(printed, named).items():
                known[with_cluster(slurm_id, cluster)] = used
        return known

    def _sacct(self, cluster: str, ids: Sequence[str], names: set[str], *asked: str) -> str:
        """What sacct prints; nothing where there is no accounting or it does not answer."""
        try:
            done = self._run(
                "sacct", *_at(cluster), "-n", "-P", "-j", ",".join(ids),
                f"--name={','.join(sorted(names))}", *asked,
            )  # fmt: skip
        except (NoAnswer, MissingProgramError):
            return ""
        return done.stdout if done.returncode == 0 else ""

    def max_array_size(self) -> int:
        """Most tasks of one array."""
        done = self._run("scontrol", "show", "config")
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", done.stdout)
        return max(1, int(match[1]) - 1) if match else 1000

    def partition(self, name: str | None, options: Sequence[str] = ()) -> list[str]:
        """Columns that `sinfo` has of a partition (the default one where None): name,
        availability, time limit, nodes, CPUs, memory, gres, features; empty where there is none.

        Raises
        ------
        NoAnswer
            Where sinfo fails.
        """
        clusters = _at(clusters_of(options))
        done = self._run("sinfo", *clusters, "-h", "-o", "%P|%a|%l|%D|%c|%m|%G|%f")
        if done.returncode != 0:
            raise NoAnswer(f"sinfo: {_said(done)}")
        return read_partition(done.stdout, name)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        full = command
        if self._ssh_host is not None:
            full = (*_SSH, self._ssh_host, "--", shlex.join(command))
        try:
            done = subprocess.run(
                full, capture_output=True, encoding="utf-8", errors="replace",
                timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, env=_environment(),
            )  # fmt: skip
        except FileNotFoundError:
            raise MissingProgramError(
                f"{full[0]} is not on PATH; run Dagster on a host that submits to SLURM, name "
                'one in [compute] ssh_host, or set [compute] backend = "local"'
            ) from None
        except subprocess.TimeoutExpired as error:
            # bytes, whatever was asked for
            stderr = error.stderr.decode(errors="replace") if error.stderr else ""
            reason = f": {'; '.join(lines_of(stderr))}" if stderr else ""
            raise NoAnswer(f"{command[0]} did not answer within {_TIMEOUT_S} s{reason}") from None
        if self._ssh_host is not None and done.returncode == _SSH_FAILED:
            raise NoAnswer(f"ssh {self._ssh_host}: {_said(done)}")
        if self._ssh_host is not None and done.returncode == 127:
            raise MissingProgramError(
                f"{command[0]} is not on the PATH of non-interactive shells on "
                f"{self._ssh_host}: {_said(done)}"
            )
        if done.returncode != 0 and _NO_ANSWER.search(done.stderr):
            raise NoAnswer(f"{command[0]}: {_said(done)}")
        return done


def _at(clusters: str) -> tuple[str, ...]:
    """Options that ask other clusters than the default one."""
    return ("-M", clusters) if clusters else ()


def _environment() -> dict[str, str]:
    return {name: v for name, v in os.environ.items() if not _MISLEADING.fullmatch(name)}


def _refusal(message: str) -> ComputeError:
    """What sbatch's complaint is: a limit that passes, or a refusal."""
    if _ARRAY_TOO_LARGE.search(message):
        return SubmitLimit(message, is_of_array=True)
    if _SUBMIT_LIMIT.search(message):
        return SubmitLimit(message)
    if _PERHAPS_SUBMIT_LIMIT.search(message) and not _LIMIT_OF_THE_JOB.search(message):
        return SubmitLimit(message, is_certain=False)
    return Refused(message)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """A command's complaint in one line, without the program's name before each part."""
    lines = [re.sub(r"^\w+: (error: )?", "", line) for line in lines_of(done.stderr)]
    return "; ".join(filter(None, lines)) or f"exit code {done.returncode}"
