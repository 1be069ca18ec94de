"""SLURM's commands and what they answer, here or through ``ssh <host>``.

Needs no accounting: `squeue` and `scontrol` know a job until SLURM's MinJobAge has passed,
`sacct` is asked after that. What an answer means for a job belongs to `slurm.py`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from saeborzoi.errors import ComputeError, MissingProgramError

_TIMEOUT_S = 60
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")
_SSH_FAILED = 255
_NO_ANSWER = re.compile(
    r"unable to contact|socket timed out|connection (refused|timed out|reset)|"
    r"temporarily unable|communication connection failure|zero bytes were transmitted|"
    r"transport endpoint|controller.*(down|not respond)|fetch_config|not running",
    re.IGNORECASE,
)


class NoAnswer(ComputeError):
    """SLURM's controller, or the host behind ssh, does not answer now."""


class Refused(ComputeError):
    """`sbatch` refused a job; the message is what it said."""


class JobState(NamedTuple):
    """SLURM's word for a job, e.g. RUNNING, and its reason, e.g. Resources ('' for none)."""

    state: str
    reason: str


class Slurm:
    """Runs SLURM's commands.

    Parameters
    ----------
    ssh_host
        Run them there; None for this machine.
    """

    def __init__(self, ssh_host: str | None = None) -> None:
        self._ssh_host = ssh_host

    def submit(self, options: Sequence[str], script: Path) -> str:
        """Submit a batch script; the job's id.

        Raises
        ------
        Refused
            Where sbatch says no for good.
        NoAnswer
            Where it may say yes later.
        """
        done = self._run("sbatch", "--parsable", *options, str(script))
        if done.returncode != 0:
            raise Refused(_said(done))
        return done.stdout.strip().splitlines()[-1].partition(";")[0]

    def states(self, ids: Iterable[str]) -> dict[str, JobState]:
        """State of each job or array task that SLURM still knows, by its id (``12`` or ``12_3``).

        Raises
        ------
        NoAnswer
            Where the controller does not answer.
        """
        parents = sorted({one.partition("_")[0] for one in ids})
        done = self._run(
            "squeue", "-h", "-r", "-t", "all", "-j", ",".join(parents), "-o", "%i|%T|%r"
        )
        states = {}
        for line in done.stdout.splitlines():
            one, state, reason = line.strip().split("|", 2)
            states[one] = JobState(state, "" if reason == "None" else reason)
        return states

    def find(self, name: str) -> str | None:
        """Id of the job or array of that name, where SLURM knows one."""
        done = self._run("squeue", "-h", "-t", "all", "-n", name, "-o", "%F")
        return done.stdout.split()[0] if done.stdout.split() else None

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs, arrays or tasks; those that ended already are no error."""
        if ids:
            self._run("scancel", *ids)

    def exit_code(self, one: str) -> int | None:
        """Exit code of an ended job, negative for a signal; None where SLURM forgot."""
        done = self._run("scontrol", "show", "job", "-o", one)
        found = re.search(r"\bExitCode=(\d+:\d+)", done.stdout)
        return _exit_code(found[1]) if found else None

    def accounted_end(self, one: str) -> tuple[str, int | None] | None:
        """State and exit code of a job that the controller forgot, from accounting; None
        without it."""
        done = self._run("sacct", "-n", "-X", "-P", "-j", one, "-o", "State,ExitCode")
        if done.returncode != 0 or not done.stdout.strip():
            return None
        state, code = done.stdout.splitlines()[0].split("|")
        return state.split()[0], _exit_code(code)

    def accounting(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What accounting knows of jobs, by id; empty where there is no accounting.

        Returns
        -------
        dict of str to dict
            `state`, `elapsed_s`, `cpu_s`, `gpu_h` and, where sampled, `peak_memory_mb`.
        """
        done = self._run(
            "sacct", "-n", "-P", "-j", ",".join(ids),
            "-o", "JobID,State,ElapsedRaw,TotalCPU,MaxRSS,AllocTRES",
        )  # fmt: skip
        return parse_accounting(done.stdout) if done.returncode == 0 else {}

    def max_array_size(self) -> int:
        """Most tasks of one array."""
        done = self._run("scontrol", "show", "config")
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", done.stdout)
        return int(found[1]) - 1 if found else 1000

    def partition(self, name: str | None) -> str:
        """What `sinfo` says of a partition (the default one where None); '' where there is none."""
        done = self._run("sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G|%f")
        for line in done.stdout.splitlines():
            partition = line.split("|")[0]
            if partition.rstrip("*") == name or (name is None and partition.endswith("*")):
                return line
        return ""

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        full = command
        if self._ssh_host is not None:
            full = (*_SSH, self._ssh_host, "--", shlex.join(command))
        try:
            done = subprocess.run(
                full, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise MissingProgramError(
                f"{full[0]} is not on PATH; run Dagster on a host that submits to SLURM, name "
                'one in [compute] ssh_host, or set [compute] backend = "local"'
            ) from None
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{command[0]} did not answer within {_TIMEOUT_S} s") from None
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


def parse_accounting(text: str) -> dict[str, dict[str, Any]]:
    r"""What ``sacct -P`` says of each job, its steps folded in.

    >>> lines = "7|FAILED|3600|01:30:00||gres/gpu=2\n7.batch|FAILED|9|1:00|2048K|cpu=2\n"
    >>> list(parse_accounting(lines)["7"].values())
    ['FAILED', 3600.0, 5400.0, 2.0, 2.0]
    """
    jobs: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        step, state, elapsed, cpu, memory, tres = line.split("|")
        one, _, is_step = step.partition(".")
        job = jobs.setdefault(one, {})
        if not is_step:
            gpus = re.search(r"gres/gpu=(\d+)", tres)
            job["state"] = state.split()[0]
            job["elapsed_s"] = float(elapsed or 0)
            job["cpu_s"] = _seconds(cpu)
            job["gpu_h"] = round(job["elapsed_s"] / 3600 * int(gpus[1] if gpus else 0), 4)
        if memory:
            job["peak_memory_mb"] = max(job.get("peak_memory_mb", 0.0), _megabytes(memory))
    return jobs


def _exit_code(text: str) -> int:
    """Exit code of SLURM's ``code:signal``, negative for a signal.

    >>> _exit_code("7:0"), _exit_code("0:9")
    (7, -9)
    """
    code, signal = map(int, text.split(":"))
    return -signal if signal else code


def _seconds(clock: str) -> float:
    """Seconds of SLURM's ``[days-][hours:]minutes:seconds``.

    >>> _seconds("1-02:00:30"), _seconds("01:30.5")
    (93630.0, 90.5)
    """
    days, _, rest = clock.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds + 86400 * int(days or 0)


def _megabytes(size: str) -> float:
    """MB of SLURM's size with a unit.

    >>> _megabytes("2048K"), _megabytes("1.5G")
    (2.0, 1536.0)
    """
    units = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
    if size[-1] in units:
        return round(float(size[:-1]) * units[size[-1]], 1)
    return round(float(size) / 2**20, 1)


def limit_seconds(time: str) -> float:
    """Seconds of sbatch's ``--time``: minutes, minutes:seconds, hours:minutes:seconds,
    days-hours[:minutes[:seconds]].

    >>> [limit_seconds(t) for t in ("30", "1:30", "2:00:00", "1-12")]
    [1800.0, 90.0, 7200.0, 129600.0]
    """
    days, dash, rest = time.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    if dash:
        parts += [0.0] * (3 - len(parts))
    elif len(parts) == 1:
        parts = [0.0, parts[0], 0.0]
    elif len(parts) == 2:
        parts = [0.0, *parts]
    hours, minutes, seconds = parts
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """A command's complaint in one line, without the program's name before each part."""
    lines = [re.sub(r"^\w+: (error: )?", "", line) for line in done.stderr.strip().splitlines()]
    return "; ".join(lines) or f"exit code {done.returncode}"
