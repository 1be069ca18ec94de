"""Checks of the compute section by doing: a short job with each profile, and what it found.

The job takes the way of every job, through a Dagster run of its own, so what passes here works.
"""

import contextlib
import io
import platform
import threading
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

import saeborzoi
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Figures, Job
from saeborzoi.pipeline import STAGES
from saeborzoi.settings.compute_sections import Profile
from saeborzoi.settings.load import Settings
from saeborzoi.stages.preflight import versions
from saeborzoi_resources.compute import ComputeBackend
from saeborzoi_resources.compute.local import LocalCompute
from saeborzoi_resources.compute.slurm import SlurmCompute
from saeborzoi_resources.compute.slurm_commands import Slurm
from saeborzoi_resources.finding import Finding

_STAGE = "saeborzoi.stages.preflight:run"
_TIME = "5"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def preflight(settings: Settings, jobs_folder: Path, wait_s: float = 900) -> list[Finding]:
    """Run a short job with each profile of the stages that run as jobs.

    Parameters
    ----------
    settings
        Whole settings.
    jobs_folder
        Where jobs have their folders; a temporary one is used and removed.
    wait_s
        How long a job may wait in SLURM's queue before it is cancelled and reported.

    Returns
    -------
    list of Finding
        In order of looking; after a failed one, those that depend on it are left out.
    """
    if settings.compute.backend == "local":
        compute = LocalCompute(settings, jobs_folder, _STAGE)
        return _try(compute, settings, jobs_folder, "this machine", Profile(), [_jobs()[0]], wait_s)
    findings = [_slurm_answers(settings)]
    if not findings[0].ok:
        return findings
    groups: dict[str, list[str]] = {}
    for stage in _jobs():
        groups.setdefault(settings.compute.profile_of(stage).model_dump_json(), []).append(stage)
    for stages in groups.values():
        findings += _check_profile(settings, jobs_folder, stages, wait_s)
    return findings


def _jobs() -> list[str]:
    """Stages that run as jobs."""
    return [stage for stage in STAGES if find_spec(f"saeborzoi.stages.{stage}") is not None]


def _slurm_answers(settings: Settings) -> Finding:
    where = f"ssh {settings.compute.ssh_host}" if settings.compute.ssh_host else "this machine"
    try:
        partition = Slurm(settings.compute.ssh_host).partition(None)
    except SaeBorzoiError as error:
        return Finding(f"SLURM ({where})", False, str(error))
    default = partition[0] if partition else "none"
    return Finding(f"SLURM ({where})", True, f"answers; default partition {default}")


def _check_profile(
    settings: Settings, jobs_folder: Path, stages: list[str], wait_s: float
) -> list[Finding]:
    profile = settings.compute.profile_of(stages[0])
    label = f"profile of {', '.join(stages)}"
    try:
        columns = Slurm(settings.compute.ssh_host).partition(profile.partition, profile.options)
    except SaeBorzoiError as error:
        return [Finding(f"{label}: partition", False, str(error))]
    name = profile.partition or "(default)"
    if not columns:
        detail = f"no partition {name}; `sinfo` lists those that there are"
        return [Finding(f"{label}: partition", False, detail)]
    _, availability, limit, nodes, cpus, memory, gres, _ = columns
    detail = f"{name} is {availability}: {nodes} nodes, {cpus} CPUs, {memory} MB, {gres}, {limit}"
    findings = [Finding(f"{label}: partition", availability == "up", detail)]
    short = profile.model_copy(update={"time": _TIME, "max_attempts": 1})
    compute = settings.compute.model_copy(update={"profile": {"default": short}})
    backend = SlurmCompute(settings.model_copy(update={"compute": compute}), jobs_folder, _STAGE)
    return findings + _try(backend, settings, jobs_folder, label, profile, stages, wait_s)


def _try(
    compute: ComputeBackend,
    settings: Settings,
    jobs_folder: Path,
    label: str,
    profile: Profile,
    stages: Sequence[str],
    wait_s: float,
) -> list[Finding]:
    """Run one preflight job and judge what it found."""
    name = f"preflight-{uuid.uuid4().hex[:8]}"
    folder = jobs_folder / name
    token = folder / "token.txt"
    with write_file(token) as file:
        file.write_text(name)
    job = Job(
        job_id=name,
        stage=stages[0],
        settings=settings,
        layer=settings.layer[0].name,
        inputs={"token": token},
        output=folder / "seen.json",
        work=folder,
        threads=profile.cpus or 1,
    )
    try:
        figures = _run(compute, job, wait_s)
    except dg.Failure as failure:
        log = f" Its log: {folder / 'log.txt'}"
        return [Finding(f"{label}: job", False, f"{failure.description}{log}")]
    except dg.DagsterExecutionInterruptedError:
        detail = (
            f"did not end within {wait_s / 60:.0f} minutes and was cancelled; `squeue` says why"
        )
        return [Finding(f"{label}: job", False, detail)]
    findings = [
        Finding(
            f"{label}: job",
            True,
            f"ran on {figures['host']} with {figures['executable']} in "
            f"{figures['compute']['elapsed_s']:.1f} s",
        ),
        _same_filesystem(label, jobs_folder, name, figures, job),
        _same_versions(label, figures),
        _gpu(label, profile, figures),
    ]
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return findings


def _run(compute: ComputeBackend, job: Job, wait_s: float) -> Figures:
    figures: list[Figures] = []

    @dg.asset
    def preflight_job(context: dg.AssetExecutionContext) -> None:
        figures.extend(compute.run(context, [job]))

    with dg.DagsterInstance.ephemeral() as instance:

        def give_up() -> None:
            for record in instance.get_run_records():
                instance.report_run_canceling(record.dagster_run)

        timer = threading.Timer(wait_s, give_up)
        timer.start()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                dg.materialize([preflight_job], instance=instance, run_config=_QUIET)
        finally:
            timer.cancel()
    return figures[0]


def _same_filesystem(
    label: str, jobs_folder: Path, name: str, figures: Figures, job: Job
) -> Finding:
    what = f"{label}: store"
    if figures["token"] == name and job.output.exists():
        return Finding(what, True, f"{jobs_folder} is the same filesystem there")
    return Finding(
        what,
        False,
        f"the job did not see what was written to {jobs_folder}; set [project] store to a folder "
        "on a filesystem that the nodes share, at the same path",
    )


def _same_versions(label: str, figures: Figures) -> Finding:
    here = {"saeborzoi": saeborzoi.__version__, **versions()}
    job_versions = {"saeborzoi": figures["saeborzoi"], **figures["versions"]}
    here["python"], job_versions["python"] = platform.python_version(), figures["python"]
    differing = [
        f"{name} {job_versions[name]} (here {here[name]})"
        for name in here
        if _plain(here[name]) != _plain(job_versions[name])
    ]
    what = f"{label}: versions"
    if differing:
        return Finding(
            what,
            False,
            f"{', '.join(differing)}; install the same there, with the same constraints.txt "
            "(docs/install.md)",
        )
    return Finding(what, True, f"equal to this machine's (torch {job_versions['torch']})")


def _plain(version: str | None) -> str | None:
    """A version without its build: torch's CPU and CUDA builds are one version.

    >>> _plain("2.13.0+cu126")
    '2.13.0'
    """
    return version.partition("+")[0] if version else version


def _gpu(label: str, profile: Profile, figures: Figures) -> Finding:
    what = f"{label}: GPU"
    if figures["gpus"]:
        return Finding(what, True, ", ".join(figures["gpus"]))
    if not profile.n_gpus:
        return Finding(what, True, "none asked for, none used")
    return Finding(
        what,
        False,
        f"asked for {profile.n_gpus} GPUs, "
        f"CUDA_VISIBLE_DEVICES={figures['cuda_visible_devices']}, but "
        f"torch {figures['versions']['torch']} sees no GPU; install a CUDA build of torch in the "
        "worker's environment that fits the node's driver",
    )
