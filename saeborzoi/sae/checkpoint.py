"""SAEs on disk: `cfg.json` + `sae.safetensors`, and sae-borzoi's `best_model.pt`.

`sae.safetensors` holds `encoder.weight` (n_nodes, n_channels), `encoder.bias` (n_nodes,),
`W_dec` (n_nodes, n_channels) and `b_dec` (n_channels,), the names that sparsify knows;
`sae_weights.safetensors` the same in SAELens's names (see `layouts.py`); `cfg.json` has the
fields of both and, besides, the channel maxima and where the SAE comes from. No pickled code is
ever executed.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from saeborzoi.activations.normalization import read_channel_max
from saeborzoi.errors import InputError
from saeborzoi.files import write_json
from saeborzoi.reading import HEAD_BYTES, is_number, is_whole, kind_of, read_json
from saeborzoi.sae.layouts import (
    SAELENS_NAMES,
    SAELENS_WEIGHTS,
    SPARSIFY_NAMES,
    SPARSIFY_WEIGHTS,
    config_of,
    of_saelens,
    of_sparsify,
    require_readable,
    saelens_weights,
    sparsify_weights,
)
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.pickled import load_tensors, named, require_memory, require_plain
from saeborzoi.settings.hyperparameters import Hyperparameters, Variant

CONFIG = "cfg.json"
WEIGHTS = SPARSIFY_WEIGHTS
FORMAT_VERSION = 1
_STATES = ("model_state_dict", "state_dict")
_PUBLISHED = {
    "encoder.weight": "encoder_weight",
    "latent_bias": "encoder_bias",
    "decoder.weight": "decoder_weight",
    "pre_bias": "pre_bias",
}


def load_sae(
    path: Path | str, k: int | None = None, channel_max: Path | str | None = None
) -> SparseAutoencoder:
    """An SAE from wherever it was kept: saeborzoi, sparsify, SAELens or sae-borzoi.

    Parameters
    ----------
    path
        A folder with `cfg.json` and weights (or one of its files), or sae-borzoi's
        `best_model.pt`.
    k, channel_max
        For `best_model.pt`, which does not hold them: active nodes a position, and sae-borzoi's
        file `<layer>_max.json` of what activations are divided by.

    Returns
    -------
    SparseAutoencoder
        On the CPU, its parameters frozen.

    Raises
    ------
    InputError
        As `load_checkpoint`, `import_published` and `read_channel_max`; where `k` or
        `channel_max` is missing for a `best_model.pt`, or given for a folder, which says itself.
    """
    path = Path(path)
    if path.name in (CONFIG, SPARSIFY_WEIGHTS, SAELENS_WEIGHTS):
        path = path.parent
    if not path.is_file():
        if k is not None or channel_max is not None:
            raise InputError(
                f"{path}: a folder says k and the channel maxima itself; leave them out"
            )
        return load_checkpoint(path).requires_grad_(False)
    if k is None or channel_max is None:
        raise InputError(
            f"{path}: does not hold the number of active nodes and the channel maxima; give both, "
            'e.g. load_sae("best_model.pt", k=30, channel_max="conv1d_1_max.json")'
        )
    sae = import_published(path, k)
    sae.channel_max.copy_(torch.from_numpy(read_channel_max(channel_max, sae.n_channels).used))
    return sae.requires_grad_(False)


def save_checkpoint(sae: SparseAutoencoder, folder: Path | str, **provenance: Any) -> None:
    """Write `cfg.json`, `sae.safetensors` and `sae_weights.safetensors` into an existing folder.

    Parameters
    ----------
    sae
        Any device.
    folder
        Where; use `artifacts.write_folder` to write it whole.
    **provenance
        Goes into `cfg.json`: `data_fingerprint`, `hyperparameters`, `code_version`.
    """
    folder = Path(folder)
    safetensors.torch.save_file(sparsify_weights(sae), folder / WEIGHTS)
    safetensors.torch.save_file(saelens_weights(sae), folder / SAELENS_WEIGHTS)
    write_json(
        folder / CONFIG,
        {
            **config_of(sae),
            "saeborzoi_format": FORMAT_VERSION,
            "variant": sae.variant,
            "threshold": float(sae.threshold),
            "input": "x / channel_max, then layer norm over channels (std with ddof 1, + 1e-5)",
            "channel_max": sae.channel_max.tolist(),
            "provenance": provenance,
        },
    )


def load_checkpoint(folder: Path | str, n_channels: int | None = None) -> SparseAutoencoder:
    """Read a folder with `cfg.json` and `sae.safetensors`, or one of SAELens's.

    A folder that sparsify or SAELens wrote has no channel maxima; they are 1 then.

    Raises
    ------
    InputError
        Where a file is missing or damaged, or shapes do not fit each other or `n_channels`.
    """
    folder = Path(folder)
    config = read_config(folder)
    path, names, attributes_of = folder / WEIGHTS, SPARSIFY_NAMES, of_sparsify
    if not path.exists() and (folder / SAELENS_WEIGHTS).exists():
        path, names, attributes_of = folder / SAELENS_WEIGHTS, SAELENS_NAMES, of_saelens
    try:
        with safetensors.safe_open(path, "pt") as file:
            require_memory(path, path.stat().st_size)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError), path.open("rb") as head:
            kind = kind_of(head.read(HEAD_BYTES))
            if kind is not None:
                raise InputError(f"{path}: not safetensors, but {kind}") from None
        raise InputError(f"{path}: cannot be read ({error}); train or copy the SAE again") from None
    weights, _ = named(path, state, names)
    sae = _assembled(
        path,
        attributes_of(weights),
        config["k"],
        n_channels,
        config.get("variant", "topk"),
    )
    for field, size in (("d_in", sae.n_channels), ("num_latents", sae.n_nodes)):
        given = config.get(field) or size  # sparsify writes 0 where expansion_factor says it
        if given != size:
            raise InputError(
                f"{folder / CONFIG}: {field} {given!r}, but {path.name} has {size}; bring the "
                "files of one SAE"
            )
    # whole numbers beyond 64 bits are numbers of JSON, too
    sae.threshold.fill_(float(config.get("threshold", 0.0)))
    maxima = torch.tensor([float(m) for m in config.get("channel_max", [1.0] * sae.n_channels)])
    if maxima.shape != sae.channel_max.shape:
        raise InputError(
            f"{folder / CONFIG}: {len(maxima)} channel maxima for {sae.n_channels} channels; "
            "train or copy the SAE again"
        )
    sae.channel_max.copy_(maxima)
    return sae


def read_config(folder: Path | str) -> dict[str, Any]:
    """`cfg.json` of a checkpoint.

    Raises
    ------
    InputError
        Where it is missing, no JSON, of a later format, of another kind of SAE, or a field holds
        what it cannot; names the field.
    """
    path = Path(folder) / CONFIG
    config = read_json(path)
    if not isinstance(config, dict) or "k" not in config:
        raise InputError(
            f"{path}: not the configuration of an SAE (it has no field 'k'); train or copy the SAE "
            "again"
        )
    version = config.get("saeborzoi_format", 0)
    _require(path, config, "saeborzoi_format", "a whole number", is_whole(version))
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: format {version}, this version reads up to {FORMAT_VERSION}; update saeborzoi"
        )
    if not version:
        require_readable(path, config)
    _require(path, config, "k", "a whole number of at least 1", is_whole(config["k"], 1))
    _require(path, config, "threshold", "a number", is_number(config.get("threshold", 0.0)))
    variant = config.get("variant", "topk")
    variants = get_args(Variant)
    _require(path, config, "variant", f"one of {', '.join(variants)}", variant in variants)
    maxima = config.get("channel_max", [])
    _require(
        path,
        config,
        "channel_max",
        "a list of numbers above 0",
        isinstance(maxima, list) and all(is_number(m) and m > 0 for m in maxima),
    )
    return config


def _require(path: Path, config: dict[str, Any], field: str, needed: str, fits: bool) -> None:
    if not fits:
        text = json.dumps(config.get(field))
        raise InputError(
            f"{path}: {field} is {text if len(text) < 80 else text[:77] + '...'}; needed is "
            f"{needed}; train or copy the SAE again"
        )


def import_published(
    path: Path | str, k: int, n_channels: int | None = None, notes: list[str] | None = None
) -> SparseAutoencoder:
    """Read sae-borzoi's `best_model.pt`; only tensors and plain values are unpickled.

    Parameters
    ----------
    path
        The file; holds `model_state_dict`, or is one.
    k
        Active nodes a position; the file does not say.
    n_channels
        Channels that the layer has; None takes what is there.
    notes
        Takes what should be said of the file: a prefix that was left out.

    Raises
    ------
    InputError
        Where the file is damaged, holds code, lacks a tensor or has other shapes.
    """
    path = Path(path)
    document = load_tensors(path)
    state = document
    for name in _STATES if isinstance(document, dict) else ():
        if isinstance(document.get(name), dict):
            state = document[name]
            break
    if not isinstance(state, dict):
        raise InputError(
            f"{path}: holds a {type(document).__name__}; needed is the state of a model, as in "
            "best_model.pt of sae-borzoi"
        )
    weights, prefix = named(path, state, _PUBLISHED)
    if prefix and notes is not None:
        notes.append(f"{prefix!r} before every name was left out")
    tensors = {attribute: weights[name].float() for name, attribute in _PUBLISHED.items()}
    tensors["decoder_weight"] = tensors["decoder_weight"].T.contiguous()
    return _assembled(path, tensors, k, n_channels)


def export_published(sae: SparseAutoencoder, path: Path | str) -> None:
    """Write a `best_model.pt` that sae-borzoi loads: the same names, shapes and temperature."""
    state = {name: getattr(sae, attribute).detach().cpu() for name, attribute in _PUBLISHED.items()}
    state["decoder.weight"] = state["decoder.weight"].T.contiguous()
    state["temperature"] = torch.tensor(1.0)
    torch.save({"model_state_dict": state}, path)


def require_fits(
    sae: SparseAutoencoder,
    source: Path,
    hyperparameters: Hyperparameters,
    channel_max: NDArray[np.float32],
) -> None:
    """Refuse an SAE that is not the one that hyperparameters and normalization constants say.

    Parameters
    ----------
    source
        Where it comes from, for the message.
    channel_max
        (n_channels,) float32, constants of the layer.

    Raises
    ------
    InputError
        Where nodes, k, variant or normalization constants differ.
    """
    for what, value, needed in (
        ("nodes", sae.n_nodes, hyperparameters.n_nodes(sae.n_channels)),
        ("active nodes a position (k)", sae.k, hyperparameters.k(sae.n_channels)),
        ("variant", sae.variant, hyperparameters.variant),
    ):
        if value != needed:
            raise InputError(
                f"{source}: {what} {value}, but {hyperparameters.key} has {needed}; fix the "
                "[[sae]] of the settings, or bring the SAE that belongs to it"
            )
    differs = ~np.isclose(sae.channel_max.cpu().numpy(), channel_max, rtol=1e-5)
    if differs.any():
        c = int(differs.argmax())
        raise InputError(
            f"{source}: made for other normalization constants (channel {c}: "
            f"{float(sae.channel_max[c]):g}, now {channel_max[c]:g}); train the SAE again on this "
            "data, or set channel_max of the layer to the constants that it was trained with"
        )


def _assembled(
    path: Path,
    tensors: dict[str, torch.Tensor],
    k: int,
    n_channels: int | None,
    variant: Any = "topk",
) -> SparseAutoencoder:
    """An SAE of these tensors, their shapes checked."""
    weight = tensors["encoder_weight"]
    if weight.ndim != 2:
        raise InputError(
            f"{path}: encoder weight of shape {tuple(weight.shape)}; needed are 2 axes"
        )
    if n_channels is not None and weight.shape[1] != n_channels:
        raise InputError(
            f"{path}: an SAE on {weight.shape[1]} channels, but the layer has {n_channels}; bring "
            "the SAE of this layer"
        )
    if not 1 <= k <= weight.shape[0]:
        raise InputError(
            f"{path}: {weight.shape[0]} nodes, of which k = {k} are to be active; needed is a k of "
            "1 to that: fix topk, or bring the SAE that belongs to it"
        )
    sae = SparseAutoencoder(weight.shape[1], weight.shape[0], k, variant)
    for attribute, tensor in tensors.items():
        parameter = getattr(sae, attribute)
        if parameter.shape != tensor.shape:
            raise InputError(
                f"{path}: {attribute} has shape {tuple(tensor.shape)}, needed is "
                f"{tuple(parameter.shape)}; train or copy the SAE again"
            )
        require_plain(path, attribute, tensor)
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {attribute} holds NaN or infinity; train the SAE again")
        parameter.data.copy_(tensor)
    return sae
