"""`saeborzoi check --compute`: what it says where all is well, and where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saeborzoi_resources.compute.preflight import preflight
from tests.compute.compute_helpers import tiny_settings
from tests.compute.slurm_cluster import Cluster


def on_slurm(tmp_path: Path, wait_s: float = 60, **profile: Any) -> dict[str, tuple[bool, str]]:
    settings = tiny_settings(backend="slurm", profile={"default": {"mem": "1500M", **profile}})
    findings = preflight(settings, tmp_path / "jobs", wait_s)
    return {finding.what.rpartition(": ")[2]: (finding.ok, finding.detail) for finding in findings}


def test_local_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    findings = preflight(tiny_settings(), tmp_path / "jobs")
    assert [finding.ok for finding in findings] == [True] * 4
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [".locks"]


@pytest.mark.slurm
def test_slurm_passes(slurm: Cluster, tmp_path: Path) -> None:
    checks = on_slurm(tmp_path)
    assert all(ok for ok, _ in checks.values()), checks
    assert list(checks) == ["SLURM (this machine)", "partition", "job", "store", "versions", "GPU"]


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("profile", "failing", "message"),
    [
        ({"partition": "nosuch"}, "partition", "no partition nosuch"),
        ({"activate": "conda activate nosuch"}, "job", "activate"),
        ({"gres": "gpu:1"}, "GPU", "sees no GPU"),
        ({"account": "a", "gres": "gpu:9"}, "job", "REFUSED_BY_SBATCH"),
    ],
)
def test_slurm_says_what_is_wrong(
    slurm: Cluster, tmp_path: Path, profile: dict[str, Any], failing: str, message: str
) -> None:
    checks = on_slurm(tmp_path, **profile)
    ok, detail = checks[failing]
    assert not ok
    assert message in detail


@pytest.mark.slurm
def test_a_job_that_never_starts_is_cancelled(slurm: Cluster, tmp_path: Path) -> None:
    slurm.client("scontrol", "update", f"nodename={slurm.node}", "state=drain", "reason=test")
    ok, detail = on_slurm(tmp_path, wait_s=3)["job"]
    assert not ok
    assert "was cancelled" in detail
    assert not slurm.jobs()


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = on_slurm(tmp_path)
    ok, detail = checks["SLURM (this machine)"]
    assert not ok
    assert "sinfo is not on PATH" in detail
