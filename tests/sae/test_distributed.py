"""Several processes train the SAE that one process trains."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch

from saeborzoi.sae.distributed import Group
from saeborzoi.sae.training import TrainingData, TrainingLoop
from saeborzoi.settings.hyperparameters import Variant
from tests.sae.gpu.device_loop import DeviceLoop
from tests.sae.test_training import SHORT, H

_RANK = """
import sys
from pathlib import Path
from tests.sae.small_known import data_at
from tests.sae.test_distributed import train_all
from saeborzoi.sae import distributed
group = distributed.join()
assert group.size == 2
train_all(data_at(Path(sys.argv[1])), group, Path(sys.argv[2]) / str(group.rank))
"""

SETTINGS = dataclasses.replace(SHORT, n_positions=20_000)
CASES = [(variant, step) for variant in get_args(Variant) for step in ("sparse", "device")]


def train_all(data: TrainingData, group: Group, folder: Path) -> None:
    """Train an SAE of each case, as one of the processes of a group."""
    folder.mkdir()
    for variant, step in CASES:
        h = H.model_copy(update={"variant": variant})
        loop = DeviceLoop if step == "device" else TrainingLoop
        trained = loop(data, SETTINGS, group=group).run([h])[0]
        log = torch.tensor([[row["l0"], row["loss"]] for row in trained.log])
        safetensors.torch.save_file(
            {**trained.sae.state_dict(), "log": log}, folder / f"{variant}_{step}.safetensors"
        )


@pytest.fixture(scope="module")
def folder(small_data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process made, and (through torchrun and gloo) each of two."""
    folder = tmp_path_factory.mktemp("distributed")
    train_all(small_data, Group(), folder / "alone")
    script = folder / "rank.py"
    script.write_text(_RANK)
    shards: Any = small_data.train.source
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), str(shards.folder.parent), str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(("variant", "step"), CASES)
def test_two_processes_equal_one(folder: Path, variant: str, step: str) -> None:
    """With reviving of dead nodes and validation; the threshold of `batch_topk`, too."""
    alone, first, second = (
        safetensors.torch.load_file(folder / who / f"{variant}_{step}.safetensors")
        for who in ("alone", "0", "1")
    )
    # half-precision operands round sums of slopes
    rtol, atol = (1e-4, 1e-5) if step == "sparse" else (1e-3, 5e-4)
    if variant == "batch_topk":
        assert float(alone["threshold"]) > 0
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected, rtol=rtol, atol=atol)


def test_the_nth_largest_of_one_process() -> None:
    values = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
    assert [Group().nth_largest(values, n, 10) for n in (1, 2, 5, 6)] == [5, 4, 1, 0]
