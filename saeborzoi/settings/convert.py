"""From sae-borzoi's `config.json` to a `dagster_project.toml`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tomlkit

from saeborzoi.errors import InputError
from saeborzoi.settings.sections import PUBLISHED_SEQLET_WIDTHS, RECEPTIVE_FIELDS

_SEQUENCE_BP = 524_288
_PAD_BP = 163_840
_REQUIRED = ("activations_path", "layer_name", "input_channels", "seq_len")
_WINDOWS = "train_seqs.bed"


def convert_config(path: Path | str, genome: Path | str) -> str:
    """Settings that do with sae-borzoi's files what its scripts did.

    Parameters
    ----------
    path
        Its `config.json`.
    genome
        FASTA of the reference, which the config does not name.

    Returns
    -------
    str
        TOML; a line that could not be taken from the config ends in a comment with `check`.
        The SAE is imported where the config's model folder holds `best_model.pt`, else trained
        with the published recipe.

    Raises
    ------
    InputError
        Where the file cannot be read, or lacks a key that the settings need.
    """
    path = Path(path)
    config = _read(path)
    document = tomlkit.document()
    document.add(tomlkit.comment(f"Made from {path.name}. `saeborzoi check` looks at every input."))
    layer_name = str(config["layer_name"])
    document["project"] = {"name": layer_name, "store": "store"}
    document["data"] = {"genome": os.path.abspath(genome)}
    annotations = tomlkit.aot()
    for name, key in (("ccre", "ccre_bed"), ("repeats", "rmsk_bed")):
        if config.get(key):
            annotations.append(tomlkit.item({"name": name, "path": str(config[key])}))
    if annotations:
        document["data"]["annotation"] = annotations  # type: ignore[index]
    layers = tomlkit.aot()
    layers.append(_layer(config))
    document["layer"] = layers
    saes = tomlkit.aot()
    saes.append(_sae(config))
    document["sae"] = saes
    return tomlkit.dumps(document)


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; needed is sae-borzoi's config.json") from None
    missing = [key for key in _REQUIRED if not isinstance(config, dict) or key not in config]
    if missing:
        raise InputError(
            f"{path}: lacks {', '.join(missing)}; needed is sae-borzoi's config.json with "
            f"{', '.join(_REQUIRED)}"
        )
    try:
        n_positions = int(config["seq_len"])
    except (TypeError, ValueError):
        n_positions = 0
    if n_positions < 1 or _SEQUENCE_BP % n_positions:
        raise InputError(
            f"{path}: seq_len {config['seq_len']!r} does not divide {_SEQUENCE_BP} bp; needed is "
            "the number of positions of the layer, e.g. 262144 for conv1d_1"
        )
    return config


def _layer(config: dict[str, Any]) -> Any:
    name = str(config["layer_name"])
    layer = tomlkit.table()
    layer["name"] = name
    layer["n_channels"] = int(config["input_channels"])
    layer["bp_per_position"] = _SEQUENCE_BP // int(config["seq_len"])
    layer["pad_bp"] = _PAD_BP
    if name not in PUBLISHED_SEQLET_WIDTHS:
        layer["seqlet_width_bp"] = 34
        layer["seqlet_width_bp"].comment("check: no published width for this layer")  # type: ignore[union-attr]
    elif name in RECEPTIVE_FIELDS:
        layer.add(
            tomlkit.comment(
                f'seqlet_width_bp = "receptive_field"  # {RECEPTIVE_FIELDS[name]} bp instead of '
                f"the published {PUBLISHED_SEQLET_WIDTHS[name]}"
            )
        )
    if config.get("global_max_save_path"):
        layer["channel_max"] = str(config["global_max_save_path"])
    layer["train"] = _shard_set(Path(config["activations_path"]))
    if config.get("activations_path_val"):
        layer["validation"] = _shard_set(Path(config["activations_path_val"]))
    return layer


def _shard_set(shards: Path) -> Any:
    beside = [folder / _WINDOWS for folder in (shards, shards.parent)]
    found = [file for file in beside if file.is_file()]
    table = tomlkit.inline_table()
    table["shards"] = str(shards)
    table["windows"] = str((found or beside)[0])
    if not found:
        table.comment(f"check: no {_WINDOWS} beside the shards")
    return table


def _sae(config: dict[str, Any]) -> Any:
    sae = tomlkit.table()
    sae["layer"] = str(config["layer_name"])
    sae["expansion"] = int(config.get("expansion_factor", 4))
    sae["topk"] = float(config.get("topk_pct", 0.05))
    sae["learning_rate"] = float(config.get("learning_rate", 1e-5))
    sae["recipe"] = "published"
    model = str(config.get("prespecified_model") or "")
    checkpoint = Path(config.get("model_save_path") or "", model, "best_model.pt")
    if model and checkpoint.is_file():
        sae["checkpoint"] = str(checkpoint)
    return sae
