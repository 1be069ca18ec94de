"""The state of an unfinished training on disk: one file, replaced whole.

What the state holds is `TrainerBase.state`'s business; a finished SAE is kept by `checkpoint.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from saeborzoi.errors import TrainingError
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Progress, silent

if TYPE_CHECKING:
    from saeborzoi.sae.trainer_base import TrainerBase


def save_state(
    path: Path, identity: dict[str, Any], trainers: Sequence[TrainerBase], elapsed_s: float
) -> None:
    """Write the state of trainers that stand at the same step.

    Parameters
    ----------
    path
        The file; it is there whole or as it was before, whenever the process dies.
    identity
        Says which training this is: only the same one goes on from it.
    elapsed_s
        Seconds spent so far.
    """
    tensors: dict[str, torch.Tensor] = {}
    values = []
    for i, trainer in enumerate(trainers):
        tensors_of_trainer, value = trainer.state()
        tensors |= {
            f"{i}.{name}": tensor.detach().cpu().contiguous()
            for name, tensor in tensors_of_trainer.items()
        }
        values.append(value)
    document = {"identity": identity, "elapsed_s": elapsed_s, "trainers": values}
    with write_file(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {"state": json.dumps(document)})


def load_state(
    path: Path,
    identity: dict[str, Any],
    trainers: Sequence[TrainerBase],
    progress: Progress = silent,
) -> float:
    """Take up a saved state; a state of another training is passed over, and `progress` told why.

    Returns
    -------
    float
        Seconds spent before; 0 where there is no state that fits.

    Raises
    ------
    TrainingError
        Where the file is damaged.
    """
    if not path.is_file():
        return 0.0
    try:
        with safetensors.safe_open(path, "pt") as file:
            document = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, TypeError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path}: the state of an unfinished training cannot be read ({error}); remove the "
            "file, and the training starts from the beginning"
        ) from None
    saved = document["identity"]
    if saved != identity:
        differs = "; ".join(
            f"{name} {saved.get(name)} then, {value} now"
            for name, value in identity.items()
            if saved.get(name) != value
        )
        progress("resuming", 0, 0, f"from the beginning: {path} is of another training ({differs})")
        return 0.0
    for i, (trainer, values) in enumerate(zip(trainers, document["trainers"], strict=True)):
        tensors_of_trainer = {
            name.removeprefix(f"{i}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{i}.")
        }
        trainer.restore(tensors_of_trainer, values)
    progress("resuming", 0, 0, f"after step {trainers[0].n_done:,}, from {path}")
    return float(document["elapsed_s"])
