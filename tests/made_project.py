"""The small project with every result of one SAE, and a second SAE of another seed to compare."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import steps
from tests.assets.small_project import KEY, make_small_project
from tests.assets.test_pipeline import Project, failure_of

OTHER = KEY.removesuffix("s0") + "s1"


def make(folder: Path) -> Path:
    """Make the project in a folder; returns the folder."""
    settings_file = make_small_project(folder)
    text = settings_file.read_text()
    settings_file.write_text(text.replace("topk = 0.25\n", "topk = 0.25\nseed = [0, 1]\n"))
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [OTHER])
        settings = project.platform.settings
        first, second = settings.wanted()
        compared = [s for s in steps(settings, second) if s.name in ("training", "inference")]
        whole = [s for s in steps(settings, first) if s.name != "pages"]
        for step in [*whole, *compared]:
            result = project.materialize(step)
            assert result.success, failure_of(result)
    return folder
