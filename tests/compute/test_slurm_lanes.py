"""`saeborzoi run` on a cluster: SAEs side by side in one process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assets.small_project import make_small_project
from tests.compute.slurm_cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
STEPS = ["training", "inference", "nodes", "concepts", "fan-in", "pages"]
KEYS = [f"conv_x3_k0.25_lr0.003_s{seed}" for seed in range(3)]
_COMPUTE = """
[compute]
backend = "slurm"
poll_s = 0.5
[compute.profile.default]
partition = "gpu"
time = "10"
mem = "2G"
"""


def test_saes_side_by_side_are_all_made_and_told(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DAGSTER_HOME", "SAEBORZOI_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    settings_file = make_small_project(tmp_path / "project")
    text = settings_file.read_text()
    seeds = text.replace("expansion = 3", "expansion = 3\nseed = [0, 1, 2]")
    settings_file.write_text(seeds + _COMPUTE)
    command = [str(Path(sys.executable).with_name("saeborzoi")), "--project", str(settings_file)]
    ended = subprocess.run([*command, "run"], capture_output=True, text=True, timeout=480)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = [f"{key}: {step} done" for key in KEYS for step in STEPS]
    assert [line for line in told if not any(each.startswith(line) for each in lines)] == []
    # SAEs wait for jobs together: the last training starts before the first one's pages are made
    trainings = [i for i, line in enumerate(lines) if ": training of " in line]
    pages = [i for i, line in enumerate(lines) if ": pages of " in line]
    assert len(trainings) == len(pages) == 3
    assert max(trainings) < min(pages)
    with sqlite3.connect(settings_file.parent / ".dagster" / "history" / "runs.db") as runs:
        assert {status for (status,) in runs.execute("SELECT status FROM runs")} == {"SUCCESS"}
    again = subprocess.run([*command, "run"], capture_output=True, text=True, timeout=60)
    assert "nothing is to be made" in again.stdout
