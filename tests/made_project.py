"""The small project with every result of one SAE, and a second SAE of another seed to compare.

``python -m tests.made_project FOLDER`` makes it anew.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi.worker import find_stage
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import PipelineStep, steps
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project

OTHER = KEY.removesuffix("s0") + "s1"


class _Here:
    """Stages run in this process: what starts them is tested elsewhere."""

    def run(
        self,
        context: dg.AssetExecutionContext,
        jobs: Sequence[Job],
        catalogue: Catalogue | None = None,
        lay_out: Callable[[], None] | None = None,
    ) -> list[Figures]:
        if lay_out is not None:
            lay_out()
        figures = [find_stage(job.stage)(job, lambda *_: None) for job in jobs]
        if catalogue is not None:
            catalogue(figures)
        return figures


class PlatformHere(Platform):
    """A platform whose stages run in this process."""

    @cached_property
    def compute(self) -> Any:
        return _Here()


class Project:
    """A project with an instance of its own; assets and their stages run in this process."""

    def __init__(self, settings_file: Path, instance: dg.DagsterInstance) -> None:
        self.settings_file = settings_file
        self.instance = instance
        self.platform: Platform = PlatformHere(settings_file=str(settings_file))
        self.definitions = build_definitions(settings_file, {"platform": self.platform})
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])

    def materialize(self, step: PipelineStep) -> dg.ExecuteInProcessResult:
        graph = self.definitions.resolve_asset_graph()
        tags = (
            {}
            if step.first == step.last
            else {
                "dagster/asset_partition_range_start": str(step.first),
                "dagster/asset_partition_range_end": str(step.last),
            }
        )
        job = self.definitions.resolve_implicit_job_def_def_for_assets(
            [dg.AssetKey(asset) for asset in step.assets]
        )
        assert job is not None
        assert graph is not None
        return job.execute_in_process(
            instance=self.instance,
            partition_key=str(step.first) if step.first == step.last else None,
            tags=tags,
            asset_selection=[dg.AssetKey(asset) for asset in step.assets],
            raise_on_error=False,
        )

    def make(self, assets: str, first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        keys = [PartitionKey.parse(key) for key in (first, last or first)]
        return self.materialize(PipelineStep("", tuple(assets.split(",")), *keys))


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    assert not result.success
    event = next(e for e in result.all_events if e.is_step_failure)
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)


def make(folder: Path) -> Path:
    """Make the project in a folder, its nodes in two batches; returns the folder."""
    settings_file = make_small_project(folder)
    text = settings_file.read_text()
    settings_file.write_text(text.replace("topk = 0.25\n", "topk = 0.25\nseed = [0, 1]\n"))
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [OTHER])
        settings = project.platform.settings
        first, second = settings.wanted()
        whole = [s for s in steps(settings, first) if s.name != "pages"]
        compared = [s for s in steps(settings, second) if s.name in ("training", "inference")]
        (nodes,) = (step for step in whole if step.name == "nodes")
        place = whole.index(nodes)
        whole[place : place + 1] = [
            nodes._replace(last=PartitionKey(KEY, 7)),
            nodes._replace(first=PartitionKey(KEY, 8)),
        ]
        for step in [*whole, *compared]:
            result = project.materialize(step)
            assert result.success, failure_of(result)
            for event in result.get_asset_check_evaluations():
                assert event.passed, event
    return folder


def put_rows(
    platform: Platform,
    key: str,
    asset: str,
    artifact: Path,
    tables: dict[str, pd.DataFrame],
    nodes: tuple[int, ...] | None = None,
) -> None:
    """Catalogue rows of an SAE as if an asset had made them; columns that they lack are NULL."""
    frames = {
        name: frame.reindex(
            columns=[c.name for c in TABLE[name].columns if c.name != "hyperparameters"]
        )
        for name, frame in tables.items()
    }
    scope = Scope(sae_key=key, nodes=nodes)
    platform.catalog.replace(Made(asset, "run", "1", "v", artifact), scope, frames)


if __name__ == "__main__":
    logging.disable()  # Dagster's lines, of each event one
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    make(Path(sys.argv[1]))
