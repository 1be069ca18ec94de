"""One stage in a worker process on this machine, outside of Dagster: for commands that answer a
question and leave no artifact."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saeborzoi import errors
from saeborzoi.jobs.job import Figures, Job
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.worker import RESULT, command


@contextlib.contextmanager
def run_once(
    settings: Settings,
    stage: str,
    hyperparameters: Hyperparameters,
    request: Mapping[str, Any],
    inputs: Mapping[str, Path],
    threads: int,
) -> Iterator[tuple[Figures, Path]]:
    """Run a stage on a request.

    Parameters
    ----------
    stage
        A module of `saeborzoi.stages`.
    request
        JSON-able; the stage finds it as the file `inputs["request"]`.

    Yields
    ------
    (figures, output)
        The folder is gone when the block ends.

    Raises
    ------
    SaeBorzoiError
        What the stage raised; `ComputeError` where the process died.
    """
    with tempfile.TemporaryDirectory(prefix="saeborzoi-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(dict(request)))
        job = Job(
            job_id=f"{stage}-once",
            stage=stage,
            settings=settings,
            layer=hyperparameters.layer,
            hyperparameters=hyperparameters,
            inputs={**inputs, "request": folder / "request.json"},
            output=folder / "output",
            work=folder / "work",
            threads=threads,
        )
        (folder / "job.json").write_text(job.model_dump_json())
        done = subprocess.run(
            [*command(sys.executable), str(folder / "job.json")],
            capture_output=True,
            text=True,
            check=False,
        )
        result = folder / RESULT
        if not result.is_file():
            last = "\n".join(done.stderr.splitlines()[-5:])
            raise errors.ComputeError(
                f"{stage}: the worker ended with code {done.returncode} and no result; its last "
                f"words:\n{last}"
            )
        document = json.loads(result.read_text())
        if document["status"] != "success":
            error = document.get("error", {"type": "ComputeError", "message": document["status"]})
            raise getattr(errors, error["type"], errors.ComputeError)(error["message"])
        yield document["figures"], folder / "output"
