"""What other workflow managers run: a job file by hand, and the Snakefile where Snakemake is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from saeborzoi.worker import main as work
from tests.assets.small_project import KEY, make_small_project

WORKFLOWS = Path(__file__).parents[1] / "examples" / "workflows"
LAYER = KEY.partition("_x")[0]


def test_a_job_file_by_hand(tmp_path: Path) -> None:
    """No Dagster and no catalogue."""
    settings = make_small_project(tmp_path / "project")
    program = [sys.executable, str(WORKFLOWS / "make_job.py"), str(settings)]
    options = ["normalization_constants", LAYER, "--folder", "job", "--output", "constants"]
    subprocess.run([*program, *options], cwd=tmp_path, check=True)
    assert work([str(tmp_path / "job" / "job.json")]) == 0
    assert json.loads((tmp_path / "job" / "result.json").read_text())["status"] == "success"
    assert (tmp_path / "constants" / "channel_max.json").exists()
    assert not list((tmp_path / "project").rglob("catalog.duckdb"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake on PATH")
def test_the_snakefile_makes_an_sae(tmp_path: Path) -> None:
    settings = make_small_project(tmp_path / "project")
    command = [
        "snakemake", "--snakefile", str(WORKFLOWS / "Snakefile"), "--cores", "2", "--config",
        f"settings={settings}", f"layer={LAYER}", f"saes=[{KEY}]",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "results" / KEY / "top_activations" / "top_activations.parquet"
    assert made.exists()
    again = subprocess.run(
        [*command, "--dry-run"], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Nothing to be done" in again.stdout + again.stderr
