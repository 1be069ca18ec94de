"""Writes the job document of one stage, for workflow managers that run the worker themselves.

    python make_job.py dagster_project.toml trained_sae KEY --folder jobs/training \
        --output results/KEY/trained_sae --input normalization_constants=results/constants
    python -m saeborzoi.worker jobs/training/job.json

KEY is an SAE's partition key, or a layer's name for `normalization_constants`. The folder also gets
`result.json` (status, figures, time, memory) and keeps the state of a stopped training. Exit codes
of the worker: 0 done, 75 stopped with its state saved (run it again), 2 refused, 1 failed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from saeborzoi import load_settings
from saeborzoi.jobs.job import Job


def main() -> None:
    """Write `job.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("stage")
    parser.add_argument("key")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    settings = load_settings(given.settings.resolve().parent)
    is_layer = given.key in [layer.name for layer in settings.layer]
    hyperparameters = None if is_layer else settings.parse_key(given.key)
    folder = given.folder.resolve()
    (folder / "work").mkdir(parents=True, exist_ok=True)
    inputs = dict(text.split("=", 1) for text in given.input)
    job = Job(
        job_id=f"{given.stage}-{given.key}",
        stage=given.stage,
        settings=settings,
        layer=given.key if hyperparameters is None else hyperparameters.layer,
        hyperparameters=hyperparameters,
        inputs={name: Path(os.path.abspath(path)) for name, path in inputs.items()},
        output=given.output.resolve(),
        work=folder / "work",
        threads=given.threads,
    )
    (folder / "job.json").write_text(job.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
