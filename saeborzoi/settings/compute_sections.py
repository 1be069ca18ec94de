"""Sections `[compute]` and `[automation]`: where stages run, and what runs by itself.

Nothing here changes a result.
"""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.section import CLOCK, CRON, PositiveInt, Section


class Profile(Section):
    """`[compute.profile.<stage>]`: what a stage's process or SLURM job gets."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    cpus: PositiveInt | None = None
    mem: str | None = None
    time: str | None = None
    constraint: str | None = None
    options: tuple[str, ...] = ()
    """Any further sbatch option, as written on its command line."""
    modules: tuple[str, ...] = ()
    activate: str | None = None
    """Shell line that activates the worker's environment."""
    python: str | None = None
    """Worker's interpreter; left out: the one that runs Dagster (or `python` after `activate`)."""
    processes: PositiveInt = 1
    """`trained_sae` only: processes that train one SAE together, a GPU each (torchrun)."""
    sae_nodes_per_job: PositiveInt | None = None
    """SAE nodes in one task of a job array; left out: all in one job."""
    max_parallel: PositiveInt | None = None
    """Tasks of an array that run at once."""
    max_attempts: PositiveInt = 3

    @model_validator(mode="before")
    @classmethod
    def _former_name(cls, values: Any) -> Any:
        before, now = "nodes_per_job", "sae_nodes_per_job"
        if not isinstance(values, dict) or before not in values or now in values:
            return values
        warnings.warn(
            f"[compute.profile] {before} is called {now} now, as SLURM's nodes are others; rename "
            "it in the settings",
            FutureWarning,
            stacklevel=2,
        )
        return {now if name == before else name: value for name, value in values.items()}

    @property
    def n_gpus(self) -> int:
        """GPUs of a job: of `gres`, or of an option for GPUs (`--gpus=2`, `-G 2`, `--gres=...`).

        A kind without a count is one. Where both ask, they ask for the same ones.
        """
        words = " ".join(self.options)
        asked = [f"gpu:{count}" for count in _GPU_OPTION.findall(words)]
        asked += [self.gres or "", *_GRES_OPTION.findall(words)]
        return max(map(_gpus_of_gres, asked))


_GPU_OPTION = re.compile(
    r"(?:^|\s)(?:--gpus(?:-per-(?:node|task|socket))?[=\s]\s*|-G[=\s]?\s*)(\S+)"
)
_GRES_OPTION = re.compile(r"(?:^|\s)--gres[=\s]\s*(\S+)")


def _gpus_of_gres(gres: str) -> int:
    """GPUs of SLURM's ``gres``: a list of ``name[[:kind]:count]``, each with `gres/` before it or
    places in parentheses behind it where SLURM itself wrote it.

    >>> [_gpus_of_gres(gres) for gres in ("gpu", "gpu:a100:4,tmp:100G", "gpu:2g.10gb:1", "tmp:9")]
    [1, 4, 1, 0]
    """
    n_gpus = 0
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = re.split("[:=]", entry.strip().removeprefix("gres/"))
        if name == "gpu":
            n_gpus += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return n_gpus


class Compute(Section):
    """`[compute]`: where heavy stages run. SAEBORZOI_BACKEND overrides `backend`."""

    backend: Literal["local", "slurm"] = "local"
    ssh_host: str | None = None
    """Run sbatch and its kin through `ssh <host>`; left out: on this machine."""
    poll_s: Annotated[float, Field(gt=0, le=86_400)] = 2.0
    profile: dict[str, Profile] = {}

    @model_validator(mode="after")
    def _profiles_are_stages(self) -> Compute:
        unknown = sorted(set(self.profile) - {*STAGES, "default"})
        if unknown:
            raise ValueError(f"no stage {unknown[0]!r}; allowed: default, {', '.join(STAGES)}")
        for stage, profile in self.profile.items():
            able = [name for name in STAGES if ARTIFACT[name].has_processes]
            if profile.processes > 1 and stage not in able:
                raise ValueError(
                    f"processes = {profile.processes} in [compute.profile.{stage}]; only "
                    f"{' and '.join(able)} is worked on by several processes; remove it there"
                )
        return self

    def profile_of(self, stage: str) -> Profile:
        """The stage's profile; what it leaves out comes from `[compute.profile.default]`."""
        base = self.profile.get("default", Profile())
        profile = self.profile.get(stage, Profile())
        return base.model_copy(update=profile.model_dump(exclude_unset=True))


class Automation(Section):
    """`[automation]`: what is launched by itself for SAEs that are not complete, while the
    interface or Dagster's daemon runs. Without `at_once` and `schedule` nothing is."""

    at_once: bool = False
    """The next missing step of an SAE is launched as soon as it is seen, within the limits."""
    schedule: str | None = Field(default=None, pattern=CRON)
    """Cron of local time, e.g. "0 22 * * *": one backfill over all that is missing, nodes too."""
    max_saes_in_flight: PositiveInt = 1
    """With `at_once`: SAEs on their way at the same time."""
    hours: str | None = Field(default=None, pattern=rf"^{CLOCK}-{CLOCK}$")
    """With `at_once`: local time in which runs are launched, e.g. "22:00-06:00"; left out:
    always."""
    gpu_hours_per_day: Annotated[float, Field(gt=0)] | None = None
    """No training is launched once those that ended today took so much."""
    max_attempts: PositiveInt = 2
    """Failed runs of a step before it is left alone."""

    @model_validator(mode="after")
    def _limits_limit_something(self) -> Automation:
        if self.at_once and self.schedule:
            raise ValueError(
                "at_once and schedule exclude each other: with at_once nothing is left for the "
                "schedule; remove one of them"
            )
        if self.at_once:
            return self
        # by what differs, not by what is set: a job's document sets everything
        limits = {
            name
            for name, field in type(self).model_fields.items()
            if name not in ("at_once", "schedule") and getattr(self, name) != field.default
        }
        of_at_once = limits & {"hours", "max_saes_in_flight"}
        if self.schedule and of_at_once:
            raise ValueError(
                f"{' and '.join(sorted(of_at_once))} go with at_once, not with a schedule, which "
                "launches all of a backfill at its time; remove them (how many runs go side by "
                "side is in dagster.yaml)"
            )
        if limits and not self.schedule:
            raise ValueError(
                f"{' and '.join(sorted(limits))} limit what is launched by itself, and nothing is; "
                'write at_once = true, or schedule = "0 22 * * *", or remove them'
            )
        return self
