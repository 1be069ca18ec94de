"""The small project with every result of one SAE, and a second SAE of another seed to compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.worker import find_stage
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import steps
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project
from tests.assets.test_pipeline import Project, failure_of

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


def make(folder: Path) -> Path:
    """Make the project in a folder; returns the folder."""
    settings_file = make_small_project(folder)
    text = settings_file.read_text()
    settings_file.write_text(text.replace("topk = 0.25\n", "topk = 0.25\nseed = [0, 1]\n"))
    here = PlatformHere(settings_file=str(settings_file))
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        project.definitions = build_definitions(settings_file, {"platform": here})
        instance.add_dynamic_partitions(HYPERPARAMETERS, [OTHER])
        settings = project.platform.settings
        first, second = settings.wanted()
        whole = [s for s in steps(settings, first) if s.name != "pages"]
        compared = [s for s in steps(settings, second) if s.name in ("training", "inference")]
        for step in [*whole, *compared]:
            result = project.materialize(step)
            assert result.success, failure_of(result)
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
