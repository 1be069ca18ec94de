"""What a job finds where it runs: the stage of ``saeborzoi check --compute``.

Not an artifact's stage. Whether what it finds is good is judged by whoever asked.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

import saeborzoi
from saeborzoi.files import write_json
from saeborzoi.jobs.job import Figures, Job, Progress

LIBRARIES = ("dagster-pipes", "h5py", "numpy", "pandas", "pydantic", "pyarrow", "torch")
"""Libraries whose versions should be the same where Dagster runs and where jobs run."""


def run(job: Job, progress: Progress) -> Figures:
    """Look around.

    Parameters
    ----------
    job
        `inputs["token"]` is a file that the asking machine has just written; `output` is written
        with its content, so that either side has seen the other's file.
    progress
        Called once.

    Returns
    -------
    dict
        `host`, `python`, `saeborzoi`, `versions`, `token` (None where its file is not there),
        `gpus` (names of those that torch can use), `cuda_visible_devices`.
    """
    import torch

    progress("looking around", 1, 1)
    token = job.inputs["token"]
    token_text = token.read_text() if token.exists() else None
    figures: Figures = {
        "host": platform.node(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "saeborzoi": saeborzoi.__version__,
        "versions": versions(),
        "token": token_text,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    write_json(job.output, {"token": token_text})
    return figures


def versions() -> dict[str, str | None]:
    """Installed version of each of `LIBRARIES`; None where it is missing."""
    installed: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = None
    return installed
