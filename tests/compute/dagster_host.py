"""A Dagster process of its own that runs jobs, to be killed or interrupted by a test.

``python dagster_host.py <instance> <jobs folder> <settings> <stage> <job document>...``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute import make_compute, slurm_task
from tests.compute.compute_helpers import in_run


def main() -> None:
    slurm_task._SETTLE_S = 2.0  # nothing is late on a local disk
    folder, jobs_folder, settings_file, stage, *documents = sys.argv[1:]
    settings = Settings.model_validate_json(Path(settings_file).read_text())
    kind: Any = type(make_compute(settings, Path(jobs_folder)))
    jobs = [Job.model_validate_json(Path(document).read_text()) for document in documents]
    with dg.DagsterInstance.from_config(folder) as instance:
        figures = in_run(instance, kind(settings, Path(jobs_folder), stage), jobs)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
