"""What SLURM's commands print, read by pattern: no command is run here.

Sites put banners, warnings and wrappers around these commands, so a line counts only where it has
the form that was asked for; every other line is passed over. A job is written ``12``, a task of an
array ``12_3``, and where SLURM named a cluster ``12_3;cluster``, as ``sbatch --parsable`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_ID = r"\d+(?:_\d+)?"
_PARSABLE = re.compile(r"(\d+)(?:;([\w.-]+))?")
_SENTENCE = re.compile(r"Submitted batch job (\d+)(?: on cluster ([\w.-]+))?")
_QUEUED = re.compile(rf"({_ID})\|([A-Z_]+)\|([^|]*)(?:\|(.*))?")
_CLUSTER = re.compile(r"CLUSTER: *([\w.-]+)")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class JobState(NamedTuple):
    """SLURM's word for a job, e.g. RUNNING, and its reason, e.g. Resources ('' for none)."""

    state: str
    reason: str


def lines_of(text: str) -> list[str]:
    """Lines of an answer without blanks around them and without colours."""
    return [line.strip() for line in _ESCAPES.sub("", text).splitlines()]


def with_cluster(number: str, cluster: str | None) -> str:
    """A job's id with the cluster's name, where there is one.

    >>> with_cluster("12_3", "nautilus"), with_cluster("12", "")
    ('12_3;nautilus', '12')
    """
    return f"{number};{cluster}" if cluster else number


def parent_of(slurm_id: str) -> str:
    """Id of the job or of the array that a task belongs to, without the cluster.

    >>> parent_of("12_3;nautilus"), parent_of("12")
    ('12', '12')
    """
    return slurm_id.partition(";")[0].partition("_")[0]


def task_of(parent: str, task: int) -> str:
    """Id of a task of an array.

    >>> task_of("12;nautilus", 3)
    '12_3;nautilus'
    """
    number, _, cluster = parent.partition(";")
    return with_cluster(f"{number}_{task}", cluster)


def by_cluster(ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids without their cluster, by cluster ('' for the one that commands ask by default)."""
    groups: dict[str, list[str]] = {}
    for slurm_id in ids:
        number, _, cluster = slurm_id.partition(";")
        groups.setdefault(cluster, []).append(number)
    return groups


def clusters_of(options: Sequence[str]) -> str:
    """Clusters that options of `sbatch` name, as its ``-M`` wants them; '' for none.

    >>> clusters_of(["--exclusive", "-M", "a,b"]), clusters_of(["--clusters=a"]), clusters_of([])
    ('a,b', 'a', '')
    """
    clusters = ""
    for place, option in enumerate(options):
        name, _, value = option.partition("=")
        if option == "-M" or (name in ("--clusters", "--cluster") and not value):
            clusters = "".join(options[place + 1 : place + 2])
        elif name in ("--clusters", "--cluster"):
            clusters = value
        elif option.startswith("-M"):
            clusters = option[2:]
    return clusters


def read_submitted(text: str) -> list[str]:
    r"""Ids that `sbatch` may have given a job: more than one where a banner has a number, too.

    >>> read_submitted("Welcome. Quota 80%\n101;nautilus\n")
    ['101;nautilus']
    >>> read_submitted("Submitted batch job 104 on cluster nautilus\nThis job will cost 3 SU")
    ['104;nautilus']
    >>> read_submitted("Job <7> goes to queue 3")
    []
    """
    matches = [_PARSABLE.fullmatch(line) or _SENTENCE.search(line) for line in lines_of(text)]
    return sorted({with_cluster(match[1], match[2]) for match in matches if match})


def read_queue(text: str, names: Mapping[str, str], cluster: str) -> dict[str, JobState]:
    r"""States of jobs by id, of ``squeue -n <names> -o "%i|%T|%r|%j"``.

    Parameters
    ----------
    names
        Name of each job that was asked for, by id: an id that SLURM gave to another job is not it.
    cluster
        Cluster that was asked ('' for the default one).

    >>> read_queue("Quota 80%\n7|RUNNING|None|a\n8|RUNNING|None|theirs\n", {"7": "a", "8": "b"}, "")
    {'7': JobState(state='RUNNING', reason='')}
    """
    states = {}
    for line in lines_of(text):
        match = _QUEUED.fullmatch(line)
        if match is None:
            continue
        slurm_id = with_cluster(match[1], cluster)
        # a wrapper that leaves the name out was asked for these names only
        if slurm_id in names and match[4] in (None, names[slurm_id]):
            states[slurm_id] = JobState(match[2], "" if match[3] == "None" else match[3])
    return states


def read_found(text: str, name: str) -> str | None:
    r"""Id of the job of a name, of ``squeue -o "%F|%j"``, whose answer of several clusters has a
    line before each one's.

    >>> read_found("CLUSTER: nautilus\nARRAY_JOB_ID|NAME\n12|a\n12|a\n", "a")
    '12;nautilus'
    """
    cluster = ""
    for line in lines_of(text):
        if match := _CLUSTER.fullmatch(line):
            cluster = match[1]
        elif match := re.fullmatch(rf"(\d+)\|{re.escape(name)}", line):
            return with_cluster(match[1], cluster)
    return None


def read_exit_code(text: str, name: str) -> int | None:
    """Exit code of the job of a name, of ``scontrol show job -o``; negative for a signal.

    >>> read_exit_code("JobId=7 JobName=a JobState=FAILED ExitCode=0:9 RunTime=00:00:02", "a")
    -9
    """
    for line in lines_of(text):
        if re.search(rf"\bJobName={re.escape(name)}(\s|$)", line):
            match = re.search(r"\bExitCode=(\d+:\d+)", line)
            return _exit_code(match[1]) if match else None
    return None


def read_end(text: str, name: str) -> tuple[str, int | None] | None:
    r"""Last state and exit code of a job, of ``sacct -X -P -o JobID,State,ExitCode,JobName``.

    >>> read_end("Quota 80%\n7|CANCELLED by 1000|0:15|a\n", "a")
    ('CANCELLED', -15)
    """
    end = None
    for line in lines_of(text):
        match = re.fullmatch(rf"{_ID}\|([A-Z_]+)[^|]*\|(\d+:\d+)(?:\|(.*))?", line)
        if match and match[3] in (None, name):
            end = (match[1], _exit_code(match[2]))
    return end


def read_accounting(text: str, names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    r"""What ``sacct -P -o JobID,State,ElapsedRaw,TotalCPU,MaxRSS,AllocTRES,JobName`` says of each
    job, its steps folded in. What cannot be read is left out.

    Parameters
    ----------
    names
        Name of each job by id (without the cluster).

    >>> lines = "7|FAILED|3600|01:30:00||gres/gpu:a100=2|a\n7.batch|FAILED|9|1:00|2048K|cpu=2|batch"
    >>> list(read_accounting(lines, {"7": "a"})["7"].values())
    ['FAILED', 3600.0, 5400.0, 2.0, 2.0]
    """
    jobs: dict[str, dict[str, Any]] = {}
    for line in lines_of(text):
        match = re.fullmatch(
            rf"({_ID})(\.\w+)?\|([A-Z_]+)[^|]*\|(\d*)\|([\d:.-]*)\|([^|]*)\|([^|]*)(?:\|(.*))?",
            line,
        )
        if match is None:
            continue
        slurm_id, step, state, elapsed, cpu, memory, tres, name = match.groups()
        if not step:
            if slurm_id in names and name in (None, "", names[slurm_id]):
                elapsed_s = float(elapsed or 0)
                jobs[slurm_id] = {"state": state, "elapsed_s": elapsed_s, "cpu_s": _seconds(cpu)}
                jobs[slurm_id]["gpu_h"] = round(elapsed_s / 3600 * _gpus(tres), 4)
        elif slurm_id in jobs and (megabytes := _megabytes(memory)) is not None:
            peak = jobs[slurm_id].get("peak_memory_mb", 0.0)
            jobs[slurm_id]["peak_memory_mb"] = max(peak, megabytes)
    return jobs


def read_partition(text: str, name: str | None) -> list[str]:
    r"""The eight columns of a partition (the default one where None) of
    ``sinfo -o "%P|%a|%l|%D|%c|%m|%G|%f"``; empty where there is none.

    >>> read_partition("Quota 80%\ncpu*|up|1-00:00:00|4|2|24000|(null)|(null)\n", None)[:2]
    ['cpu*', 'up']
    """
    for line in lines_of(text):
        columns = line.split("|", 7)
        is_it = columns[0].rstrip("*") == name if name else columns[0].endswith("*")
        if is_it and len(columns) == 8:
            return columns
    return []


def _gpus(tres: str) -> int:
    """GPUs of accounting's TRES; some sites count them by type only.

    >>> _gpus("cpu=2,gres/gpu=2,gres/gpu:a100=2"), _gpus("gres/gpu:a100=1,gres/gpu:v100=2")
    (2, 3)
    """
    total = re.search(r"gres/gpu=(\d+)", tres)
    return int(total[1]) if total else sum(map(int, re.findall(r"gres/gpu:[^=,]+=(\d+)", tres)))


def _exit_code(text: str) -> int:
    """Exit code of SLURM's ``code:signal``, negative for a signal.

    >>> _exit_code("7:0"), _exit_code("0:9")
    (7, -9)
    """
    code, signal = map(int, text.split(":"))
    return -signal if signal else code


def _seconds(clock: str) -> float:
    """Seconds of SLURM's ``[days-][hours:]minutes:seconds``; 0 where it is none.

    >>> _seconds("1-02:00:30"), _seconds("01:30.5"), _seconds("--")
    (93630.0, 90.5, 0.0)
    """
    days, _, rest = clock.rpartition("-")
    try:
        seconds = 0.0
        for part in rest.split(":"):
            seconds = seconds * 60 + float(part or 0)
        return seconds + 86400 * int(days or 0)
    except ValueError:
        return 0.0


def _megabytes(size: str) -> float | None:
    """MB of SLURM's size with a unit; None where it is none.

    >>> _megabytes("2048K"), _megabytes("1.5G"), _megabytes("")
    (2.0, 1536.0, None)
    """
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)", size)
    if match is None or match[1].count(".") > 1 or match[1] == ".":
        return None
    powers = {"": -2, "K": -1, "M": 0, "G": 1, "T": 2, "P": 3}
    return round(float(match[1]) * 1024.0 ** powers[match[2]], 1)


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
