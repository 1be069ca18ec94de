"""A project of one heavy asset whose step runs on a Celery worker.

Its jobs are those of the documents in the variable TINY_JOBS, its settings those of TINY_SETTINGS.
``python celery_project.py <instance> <result file>`` executes it, as a run worker does.
"""

import json
import os
import sys
from pathlib import Path

import dagster as dg

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute import make_compute
from saeborzoi_resources.compute.executors import on_celery


@dg.asset
def heavy(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Jobs of a moment."""
    settings = Settings.model_validate_json(Path(os.environ["TINY_SETTINGS"]).read_text())
    documents = [Path(name) for name in os.environ["TINY_JOBS"].split(":")]
    jobs = [Job.model_validate_json(document.read_text()) for document in documents]
    kind = type(make_compute(settings, documents[0].parent))
    compute = kind(settings, documents[0].parent / "jobs", "tiny_stages:count")  # type: ignore[call-arg]
    figures = compute.run(context, jobs)
    return dg.MaterializeResult(metadata={"counted": figures[0]["counted"]})


defs = on_celery(
    dg.Definitions(assets=[heavy], jobs=[dg.define_asset_job("all_of_it")]),
    os.environ["SAEBORZOI_BROKER"],
)


def whole_job() -> dg.JobDefinition:
    """The job, found again by the workers."""
    return defs.resolve_job_def("all_of_it")


if __name__ == "__main__":
    with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
        from celery_project import whole_job as importable

        result = dg.execute_job(dg.reconstructable(importable), instance=instance)
        [event] = result.get_asset_materialization_events()
        counted = event.materialization.metadata["counted"].value
        Path(sys.argv[2]).write_text(json.dumps({"counted": counted}))
