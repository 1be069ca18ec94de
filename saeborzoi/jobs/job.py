"""Jobs: everything that one heavy stage needs to know, as one JSON document.

A job is made by an asset, carried by the compute resource and run by `saeborzoi.worker`, in a
process on this machine or in a SLURM job. It refers to nothing in the process that made it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from saeborzoi.errors import SaeBorzoiError
from saeborzoi.settings.hyperparameters import Hyperparameters, set_key
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer

Figures = dict[str, Any]
"""Small JSON-able results of a stage: counts and key figures."""

Catalogue = Callable[[list[Figures]], None]
"""Puts the results of jobs, by their figures, where they belong."""


stop_requested = threading.Event()
"""Set by the worker on SIGTERM or SIGUSR1. A long stage looks at it at every step, saves what it
has in `job.work` and raises `StageInterrupted`; the same job run again goes on from there."""


class StageInterrupted(SaeBorzoiError):
    """The stage was asked to stop and saved its state; run the same job again to go on."""


class Job(BaseModel):
    """One stage for one partition, or for a batch of nodes of one SAE.

    Attributes
    ----------
    job_id
        Unique and readable; also the name of the job's folder in the store.
    stage
        Name of the artifact that it makes; where it is a job of its own, of `pipeline.STAGES`.
    settings
        The whole project's settings, resolved.
    layer
        Layer that the stage works on.
    hyperparameters
        The SAE; None for a stage of the layer.
    nodes
        Nodes of the batch; empty where the stage is about the whole SAE or layer.
    variant_set
        Name of the set of variants that it is about, the only one of `settings`; None where it is
        about none.
    inputs
        Artifact name to the file or folder that holds it.
    output
        Where the stage's artifact goes: a folder, or a file for a batch of nodes. The stage
        writes it through `artifacts.write_folder` or `write_file`: whole or not at all.
    work
        Folder for what survives a killed job (training checkpoints, restartable batches).
    threads
        Cores that the stage may use.
    run_id
        Dagster run that asked for it.
    together
        Further SAEs that a training makes in the same pass over the data: partition key to where
        each goes.
    data_versions
        Partition key of each SAE, or the layer's name, to the version of the result.
    input_versions
        Artifact name to its version, as the catalogue had it; compared with what lies there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    stage: str
    settings: Settings
    layer: str
    hyperparameters: Hyperparameters | None = None
    nodes: tuple[int, ...] = ()
    variant_set: str | None = None
    inputs: dict[str, Path] = {}
    output: Path
    work: Path
    threads: int = 1
    run_id: str = ""
    together: dict[str, Path] = {}
    data_versions: dict[str, str] = {}
    input_versions: dict[str, str] = {}

    @property
    def layer_settings(self) -> Layer:
        """Settings of the job's layer."""
        return self.settings.layer_named(self.layer)

    @property
    def key(self) -> str:
        """Partition key of the SAE; the layer's name for a stage of the layer."""
        return self.hyperparameters.key if self.hyperparameters else self.layer

    @property
    def subject(self) -> str:
        """What the names of its folder and lock tell: `key`; of variants ``variants=traits``, or
        ``<key>=traits`` with an SAE."""
        if self.variant_set is None:
            return self.key
        return subject_of_set(self.variant_set, self.key if self.hyperparameters else None)

    @property
    def data_version(self) -> str:
        """Version of the result that the job makes; empty where nobody catalogues it."""
        return self.data_versions.get(self.key, "")

    def each(self) -> list[Job]:
        """The job as it would be for each of its SAEs alone."""
        first = self.model_copy(update={"together": {}})
        return [
            first,
            *(
                first.model_copy(
                    update={"hyperparameters": Hyperparameters.from_key(key), "output": output}
                )
                for key, output in self.together.items()
            ),
        ]


def subject_of_set(variant_set: str, sae_key: str | None) -> str:
    """What names of jobs about a set of variants tell: the set, and the SAE that it is looked at
    with.

    >>> subject_of_set("traits", None), subject_of_set("traits", "conv_x4_k0.05_lr0.003_s0")
    ('variants=traits', 'conv_x4_k0.05_lr0.003_s0=traits')
    """
    return set_key(variant_set) if sae_key is None else f"{sae_key}={variant_set}"


class Progress(Protocol):
    """How a stage tells that it is alive: `progress("training", 2048, 3_000_000, "fvu 0.31")`.

    `total` is 0 where it is not known. Called as often as convenient; the receiver throttles.
    """

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None: ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that says nothing."""


Stage = Callable[[Job, Progress], Figures]
"""`run(job, progress)` of `saeborzoi.stages.<stage>`: writes `job.output`, returns figures."""
