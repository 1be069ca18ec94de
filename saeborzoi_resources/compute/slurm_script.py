"""The batch script of a submission and the options of `sbatch`, from a profile.

One script serves a single job and an array: task *i* finds its job's folder through the link
*i* beside the script. No command is run here.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from saeborzoi.errors import SettingsError
from saeborzoi.files import write_file
from saeborzoi.settings.compute_sections import Profile
from saeborzoi.worker import command
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.slurm_answers import limit_seconds

EXIT_CODE = "exit_code"
ENVIRONMENT = "environment.sh"
SLURM_ID = "slurm_job_id"
EXIT_NO_ENVIRONMENT = 78
_OWN_OPTIONS = {
    "--job-name": "-J", "--array": "-a", "--output": "-o", "--chdir": "-D", "--wait": "-W",
    "--wrap": "", "--test-only": "", "--parsable": "",
}  # fmt: skip
"""Options by which jobs are found again, followed and judged."""
_WARNING_S = 120

_SCRIPT = """\
#!/bin/bash{login}
# Written by saeborzoi for: sbatch {options}
folder=$(cd {links}/"${{SLURM_ARRAY_TASK_ID:-0}}" && pwd -P)
ended() {{
    printf '%s\\n' "$1" > "$folder/{exit_code}.new" && mv "$folder/{exit_code}.new" \\
        "$folder/{exit_code}"
    exit "$1"
}}
refuse() {{
    echo "error: $1" >&2
    ended {no_environment}
}}
worker=
# SLURM signals the batch shell only: before the time limit, and when the job is cancelled
trap '[ -n "$worker" ] && kill -USR1 "$worker" 2>/dev/null' USR1
trap '[ -n "$worker" ] && kill -TERM "$worker" 2>/dev/null' TERM
{setup}\
. "$folder/{environment}" || refuse "$folder cannot be read on $(hostname)"
command -v {python} >/dev/null || refuse "no {python} on $(hostname)"
{worker} "$folder/job.json"{stage} &
worker=$!
while true; do
    wait "$worker"
    code=$?
    # a trap cuts `wait` short while the worker saves its state
    [ "$code" -gt 128 ] && kill -0 "$worker" 2>/dev/null && continue
    break
done
ended "$code"
"""


class Submission:
    """The files of one call of `sbatch`, in a folder of their own.

    Parameters
    ----------
    path
        Its folder.
    folders
        The jobs, in order of the tasks.
    """

    def __init__(self, path: Path, folders: Sequence[JobFolder]) -> None:
        self.path = path
        self.name = path.name
        self.folders = folders

    def write(
        self,
        profile: Profile,
        options: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        stage: str,
    ) -> Path:
        """Write script, links and one environment file a task; the script."""
        self.path.mkdir(parents=True)
        for task, (folder, environment) in enumerate(zip(self.folders, environments, strict=True)):
            (self.path / str(task)).symlink_to(os.path.relpath(folder.path, self.path))
            (folder.path / EXIT_CODE).unlink(missing_ok=True)
            with write_file(folder.path / ENVIRONMENT) as file:
                file.write_text(
                    "".join(
                        f"export {name}={shlex.quote(value)}\n"
                        for name, value in environment.items()
                    )
                )
        script = self.path / "job.sh"
        with write_file(script) as file:
            file.write_text(self._script(profile, options, stage))
        return script

    def _script(self, profile: Profile, options: Sequence[str], stage: str) -> str:
        setup = [
            f"module load {shlex.quote(module)} || refuse "
            + shlex.quote(f"module load {module} failed (modules of the profile)")
            for module in profile.modules
        ]
        if profile.activate:
            setup.append(
                f"{{ {profile.activate}\n}} || refuse "
                + shlex.quote(f"this line failed (activate of the profile): {profile.activate}")
            )
        return _SCRIPT.format(
            # a login shell knows `module`; without modules it would only change PATH
            login=" -l" if profile.modules else "",
            options=shlex.join(options),
            links=shlex.quote(str(self.path)),
            exit_code=EXIT_CODE,
            no_environment=EXIT_NO_ENVIRONMENT,
            setup="".join(f"{line}\n" for line in setup),
            environment=ENVIRONMENT,
            python=shlex.quote(worker_python(profile)),
            worker=shlex.join(command(worker_python(profile), profile.processes)),
            stage=f" --stage {shlex.quote(stage)}" if stage else "",
        )


def worker_python(profile: Profile) -> str:
    """Interpreter that runs the worker on a node."""
    return profile.python or ("python" if profile.activate else sys.executable)


def sbatch_options(
    profile: Profile, submission: Submission, threads: int, max_parallel: int | None
) -> list[str]:
    """Options of `sbatch` for a submission; the profile's own `options` come last and win.

    Raises
    ------
    SettingsError
        Where the profile's time cannot be read, or where its options take what is set here.
    """
    for option in profile.options:
        name = option.partition("=")[0]
        if name in _OWN_OPTIONS or option[:2] in set(_OWN_OPTIONS.values()) - {""}:
            raise SettingsError(
                f'"{option}" in `options` of a compute profile: saeborzoi sets '
                f"{', '.join(_OWN_OPTIONS)} itself, by which it finds its jobs again; remove it"
            )
    n_tasks = len(submission.folders)
    task = "0"
    options = [f"--job-name={submission.name}", "--open-mode=append", "--no-requeue"]
    if n_tasks > 1:
        at_once = f"%{max_parallel}" if max_parallel else ""
        options.append(f"--array=0-{n_tasks - 1}{at_once}")
        task = "%a"
    options += [
        f"--chdir={submission.path.parent}",
        f"--output={submission.path}/{task}/log.txt",
        f"--cpus-per-task={profile.cpus or threads}",
    ]
    warning_s = _WARNING_S
    if profile.time is not None:
        try:
            warning_s = int(min(_WARNING_S, limit_seconds(profile.time) / 4))
        except ValueError:
            raise SettingsError(
                f'time = "{profile.time}" of a compute profile is no time limit; write e.g. '
                '"90" (minutes), "12:00:00" or "2-00:00:00"'
            ) from None
        options.append(f"--time={profile.time}")
    options.append(f"--signal=B:USR1@{warning_s}")
    for name in ("partition", "account", "qos", "gres", "mem", "constraint"):
        value = getattr(profile, name)
        if value is not None:
            options.append(f"--{name}={value}")
    return [*options, *profile.options]
