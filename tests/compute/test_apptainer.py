"""The `activate` that docs/slurm.md gives for an image: what SLURM starts and signals reaches the
worker in it. Apptainer itself is not here; a program of its name does what `exec` promises."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.compute_sections import Profile
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.slurm_script import Submission

ROOT = Path(__file__).parents[2]
APPTAINER = """#!/bin/bash
[ "$1" = exec ] || exit 64
while [ "$1" != python ]; do seen="$seen $1"; shift; done
echo "$seen" > {folder}/options
shift
exec {python} "$@"
"""


def _profile() -> Profile:
    section = (ROOT / "docs" / "slurm.md").read_text().partition("## An image in place")[2]
    (block,) = re.findall(r"^```toml\n(.*?)^```", section.partition("\n## ")[0], re.S | re.M)
    return Profile.model_validate(tomllib.loads(block)["compute"]["profile"]["default"])


def test_the_worker_in_an_image_gets_arguments_and_signals(
    tmp_path: Path, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(APPTAINER.format(folder=tmp_path, python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    folder = JobFolder(tmp_path / "jobs", make_job("in_an_image", 1000))
    folder.path.mkdir(parents=True)
    folder.document.write_text(folder.job.model_dump_json())
    submission = Submission(tmp_path / "jobs" / "submission", [folder])
    script = submission.write(_profile(), [], [{"OMP_NUM_THREADS": "1"}], "tiny_stages:count")
    with (tmp_path / "log").open("w") as log:
        batch = subprocess.Popen(["bash", script], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while "counting" not in (tmp_path / "log").read_text() and batch.poll() is None:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        batch.send_signal(signal.SIGUSR1)
        code = batch.wait(30)
    assert code == 75, (tmp_path / "log").read_text()
    assert json.loads((folder.path / "result.json").read_text())["status"] == "interrupted"
    assert (folder.path / "exit_code").read_text() == "75\n"
    assert (
        "--nv --no-home --bind /shared /shared/saeborzoi.sif" in (tmp_path / "options").read_text()
    )
