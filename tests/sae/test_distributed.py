"""Several processes train the SAE that one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from test_training import SHORT, H

from saeborzoi.sae.training import TrainingData, TrainingLoop

_RANK = """
import sys
from pathlib import Path
import safetensors.torch
from small_known import data_at
from test_training import H
from test_distributed import SETTINGS
from saeborzoi.sae import distributed
from saeborzoi.sae.training import TrainingLoop
group = distributed.join()
assert group.size == 2
trained = TrainingLoop(data_at(Path(sys.argv[1])), SETTINGS, group=group).run([H])[0]
state = trained.sae.state_dict()
safetensors.torch.save_file(state, Path(sys.argv[2]) / f"{group.rank}.safetensors")
"""

SETTINGS = SHORT.model_copy(update={"n_positions": 20_000})


@pytest.mark.slow
def test_two_processes_equal_one(small_data: TrainingData, tmp_path: Path) -> None:
    """Through torchrun and gloo, with reviving of dead nodes and validation."""
    alone = TrainingLoop(small_data, SETTINGS).run([H])[0]
    script = tmp_path / "rank.py"
    script.write_text(_RANK)
    folder = small_data.train.folder.folder.parent
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), str(folder), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    first, second = (safetensors.torch.load_file(tmp_path / f"{i}.safetensors") for i in range(2))
    for name, expected in alone.sae.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected, rtol=1e-3, atol=1e-3)
