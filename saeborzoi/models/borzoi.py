"""Borzoi (Linder et al. 2025) in PyTorch, from a folder on disk, with package borzoi-pytorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from saeborzoi.errors import InputError
from saeborzoi.extras import extra
from saeborzoi.models.model import LoadedModel, Outputs
from saeborzoi.models.tensors import load_strictly, load_tensors

INPUT_BP, BIN_BP = 524_288, 32
LAYERS = {f"conv1d_{i}": f"res_tower.{2 * (i - 1)}.conv_layer" for i in (1, 2, 3, 4)}
"""Names that sae-borzoi uses, which are Keras's, to modules of borzoi-pytorch. What is meant is
the raw convolution: bias added, before pooling and before the next block's norm and GELU."""


def load_borzoi(
    path: Path,
    input_bp: int = INPUT_BP,
    head: Literal["human", "mouse"] = "human",
    tracks: Sequence[str | int] | None = None,
) -> LoadedModel:
    """Load a replicate from `config.json` and `model.safetensors` of a folder.

    Parameters
    ----------
    path
        The folder, as `Borzoi.save_pretrained` or a download from the Hugging Face hub leaves it.
    input_bp
        Base pairs of a sequence; shorter ones need `bins_to_return` of the config to match.
    head
        Which genome's tracks are predicted.
    tracks
        Names or numbers of the tracks to predict; left out, all of the head.

    Raises
    ------
    MissingPackageError
        Where borzoi-pytorch is not installed.
    InputError
        Where the folder lacks a file, a tensor is missing or unexpected, or there is no such
        track.
    """
    with extra("borzoi"):
        from borzoi_pytorch import Borzoi
        from borzoi_pytorch.config_borzoi import BorzoiConfig
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise InputError(
                f"{path}: holds no {name}; needed is a folder with config.json and "
                "model.safetensors, as Borzoi's save_pretrained writes it (pickled .bin files are "
                "not read); fix `loader` of [model]"
            )
    config = BorzoiConfig.from_json_file(path / "config.json")
    with torch.device("meta"):  # random weights would only be thrown away
        module = Borzoi(config)
    tensors = load_tensors(path / "model.safetensors")
    load_strictly(module, tensors, str(path / "model.safetensors"), assign=True)
    if not hasattr(module, f"{head}_head"):
        raise InputError(
            f"{path}: this Borzoi has no {head} head; set `head` in the arguments of [model]"
        )
    names = _track_names(getattr(module, f"{head}_head"), head)
    chosen = None if tracks is None else [_track(track, names) for track in tracks]
    n_bins = module.crop.target_length
    crop_bp = (input_bp - n_bins * BIN_BP) // 2
    if input_bp % 128 or crop_bp < 0:
        raise InputError(
            f"{path}: {n_bins} bins of {BIN_BP} bp are more than an input of {input_bp:,} bp, or "
            "that is no multiple of 128; fix input_bp, or bins_to_return in config.json"
        )
    return LoadedModel(
        module=module,
        input_bp=input_bp,
        outputs=Outputs(
            tuple(names if chosen is None else [names[i] for i in chosen]),
            n_bins, BIN_BP, crop_bp, "squashed",
        ),
        layers=LAYERS,
        forward=_Forward(module, head, chosen),
    )  # fmt: skip


class _Forward:
    """Predictions of some tracks of a head; the others are not computed."""

    def __init__(self, module: nn.Module, head: str, chosen: list[int] | None) -> None:
        self._module, self._head, self._chosen = module, head, chosen

    def __call__(self, one_hot: Tensor) -> Tensor:
        module = self._module
        x = module.final_joined_convs(module.get_embs_after_crop(one_hot))  # type: ignore[operator]
        head = getattr(module, f"{self._head}_head")
        with torch.autocast(x.device.type, enabled=False):
            if self._chosen is None:
                return functional.softplus(head(x.float()))
            return functional.softplus(
                functional.conv1d(x.float(), head.weight[self._chosen], head.bias[self._chosen])
            )


def _track_names(head: nn.Conv1d, head_name: str) -> list[str]:
    """The targets' identifiers, where the package's table is of this head."""
    with extra("borzoi"):
        from borzoi_pytorch.pytorch_borzoi_model import TRACKS_DF

    if head_name == "human" and len(TRACKS_DF) == head.out_channels:
        return TRACKS_DF["identifier"].astype(str).tolist()
    return [f"{head_name}_{i}" for i in range(head.out_channels)]


def _track(track: str | int, names: list[str]) -> int:
    if isinstance(track, int):
        if 0 <= track < len(names):
            return track
        raise InputError(f"track {track}: the head has tracks 0 to {len(names) - 1}")
    if names.count(track) != 1:
        raise InputError(
            f"track {track!r} stands {names.count(track)} times among the {len(names)} tracks of "
            "the head; name each by its identifier in Borzoi's targets, or by its number"
        )
    return names.index(track)
