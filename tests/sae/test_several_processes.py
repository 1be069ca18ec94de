"""The worker started by torchrun: one result, the SAE of one process, stopped and gone on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from saeborzoi.jobs.job import Job
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sae_sections import Training
from saeborzoi.settings.sections import Data, Project
from saeborzoi.stages import normalization_constants, trained_sae
from saeborzoi.worker import command
from tests.sae.small_known import SMALL


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("several")
    train = SMALL.write(folder / "train", 5, 2000, "train", n_per_shard=2)
    settings = Settings(
        project=Project(name="test", store=folder / "store"),
        data=Data(genome=folder / "none.fa"),
        layer=(SMALL.layer(train),),
        training=Training(n_positions=100_000, batch_size=500),
    )
    job = Job(
        job_id="n", stage="normalization_constants", settings=settings, layer="known",
        output=folder / "constants", work=folder / "work",
    )  # fmt: skip
    normalization_constants.run(job)
    return settings


def job_in(folder: Path, settings: Settings, threads: int) -> Job:
    """The training, with everything that it writes in a folder."""
    constants = settings.project.store.parent / "constants"
    return Job(
        job_id="t", stage="trained_sae", settings=settings, layer="known",
        hyperparameters=Hyperparameters(layer="known", topk=0.12), output=folder / "sae",
        work=folder / "work", inputs={"normalization_constants": constants}, threads=threads,
    )  # fmt: skip


def start(settings: Settings, folder: Path, processes: int) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    job = job_in(folder, settings, processes)
    (folder / "job.json").write_text(job.model_dump_json())
    return subprocess.Popen(
        [*command(sys.executable, processes), str(folder / "job.json")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def result(folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / "result.json").read_text())
    return document


@pytest.mark.slow  # six processes that load PyTorch
def test_two_workers_make_what_one_makes_and_go_on_after_a_signal(
    settings: Settings, tmp_path: Path
) -> None:
    trained_sae.run(job_in(tmp_path / "alone", settings, 1))
    folder = tmp_path / "two"
    both = start(settings, folder, 2)
    assert both.stdout is not None
    for line in both.stdout:
        if "training" in line:
            break
    both.send_signal(signal.SIGUSR1)
    output = both.communicate(timeout=120)[0]
    assert both.returncode != 0
    assert result(folder)["status"] == "interrupted", output
    assert (folder / "work" / "training.safetensors").exists()
    (folder / "result.json").unlink()
    both = start(settings, folder, 2)
    output = both.communicate(timeout=120)[0]
    assert both.returncode == 0, output
    assert "resuming" in output
    assert output.count("done in") == 1, "one of them reports"
    assert result(folder)["status"] == "success"
    expected, weights = (
        safetensors.torch.load_file(tmp_path / who / "sae" / "sae.safetensors")
        for who in ("alone", "two")
    )
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, rtol=1e-3, atol=1e-3)


def test_what_one_of_them_fails_of_is_the_result(settings: Settings, tmp_path: Path) -> None:
    train = settings.layer[0].train.model_copy(update={"shards": tmp_path / "nowhere"})
    layer = settings.layer[0].model_copy(update={"train": train})
    began = time.monotonic()
    both = start(settings.model_copy(update={"layer": (layer,)}), tmp_path / "two", 2)
    output = both.communicate(timeout=120)[0]
    assert both.returncode != 0
    assert time.monotonic() - began < 90
    assert result(tmp_path / "two")["status"] == "failure", output
    assert "no such folder" in str(result(tmp_path / "two")["error"])
