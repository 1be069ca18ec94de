"""From sae-borzoi's `config.json` to a `dagster_project.toml`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from saeborzoi.errors import InputError
from saeborzoi.reading import is_number, is_whole, read_json
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.sections import PUBLISHED_SEQLET_WIDTHS, RECEPTIVE_FIELDS

_SEQUENCE_BP = 524_288
_PAD_BP = 163_840
_REQUIRED = ("activations_path", "layer_name", "input_channels", "seq_len")
_WINDOWS = "train_seqs.bed"
_WHOLE = ("input_channels", "seq_len", "expansion_factor")
_NUMBERS = ("topk_pct", "learning_rate")
_TEXTS = ("layer_name", "prespecified_model")
_PATHS = (
    "activations_path",
    "activations_path_val",
    "global_max_save_path",
    "model_save_path",
    "ccre_bed",
    "rmsk_bed",
)
_DEFAULTS = {"expansion_factor": 4, "topk_pct": 0.05, "learning_rate": 1e-5}
_FIELDS = {
    "layer_name": "layer",
    "expansion_factor": "expansion",
    "topk_pct": "topk",
    "learning_rate": "learning_rate",
}


def convert_config(path: Path, genome: Path) -> str:
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
        Where the file cannot be read, lacks a key that the settings need, or a value is of
        another kind than sae-borzoi's, or would come out as another one; names it.
    """
    config = _checked(path, _read(path))
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
    config = read_json(path)
    missing = [key for key in _REQUIRED if not isinstance(config, dict) or key not in config]
    if missing:
        raise InputError(
            f"{path}: lacks {', '.join(missing)}; needed is sae-borzoi's config.json with "
            f"{', '.join(_REQUIRED)}"
        )
    return dict(config)


def _checked(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The values that are used, of the kind that sae-borzoi has; paths absolute from the file's
    folder where they lie there, as the settings may be written elsewhere."""
    values: dict[str, Any] = {}
    for key in (*_WHOLE, *_NUMBERS):
        value: Any = {**_DEFAULTS, **config}[key]
        # a whole number may come as 4.0; 4.5 nodes for a channel there are none
        if key in _WHOLE and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not (is_whole(value, 1) if key in _WHOLE else is_number(value) and value > 0):
            kind = "a whole number of at least 1" if key in _WHOLE else "a number above 0"
            raise InputError(f"{path}: {key} is {_shown(value)}; needed is {kind}: fix it there")
        values[key] = value
    for key in (*_TEXTS, *_PATHS):
        text = config.get(key)
        if text is None and key not in _REQUIRED:
            continue
        if not isinstance(text, str) or (text == "" and key in _REQUIRED):
            raise InputError(f"{path}: {key} is {_shown(text)}; needed is text: fix it there")
        if not text.isprintable():
            raise InputError(f"{path}: {key} is {_shown(text)}, with control characters; fix it")
        values[key] = os.path.abspath(path.parent / text) if text and key in _PATHS else text
    if _SEQUENCE_BP % values["seq_len"]:
        raise InputError(
            f"{path}: seq_len {values['seq_len']!r} does not divide {_SEQUENCE_BP} bp; needed is "
            "the number of positions of the layer, e.g. 262144 for conv1d_1"
        )
    try:
        Hyperparameters(
            layer=values["layer_name"],
            expansion=values["expansion_factor"],
            topk=values["topk_pct"],
            learning_rate=values["learning_rate"],
        )
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        key = next(key for key, settings_field in _FIELDS.items() if settings_field == field)
        message = problem["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{path}: {key} is {_shown(values[key])}: {message}; fix it there"
        ) from None
    return values


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _layer(config: dict[str, Any]) -> Any:
    name = str(config["layer_name"])
    layer = tomlkit.table()
    layer["name"] = name
    layer["n_channels"] = config["input_channels"]
    layer["bp_per_position"] = _SEQUENCE_BP // config["seq_len"]
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
    existing = [file for file in beside if file.is_file()]
    table = tomlkit.inline_table()
    table["shards"] = str(shards)
    table["windows"] = str((existing or beside)[0])
    if not existing:
        table.comment(f"check: no {_WINDOWS} beside the shards")
    return table


def _sae(config: dict[str, Any]) -> Any:
    sae = tomlkit.table()
    sae["layer"] = str(config["layer_name"])
    sae["expansion"] = config["expansion_factor"]
    sae["topk"] = float(config["topk_pct"])
    sae["learning_rate"] = float(config["learning_rate"])
    sae["recipe"] = "published"
    models = config.get("model_save_path")
    if models:
        checkpoint = Path(models, _model_name(config), "best_model.pt")
        if checkpoint.is_file():
            sae["checkpoint"] = str(checkpoint)
        else:
            sae["recipe"].comment(f"check: no {checkpoint}; it is trained anew")  # type: ignore[union-attr]
    return sae


def _model_name(config: dict[str, Any]) -> str:
    """Folder of the SAE's checkpoint: the one that is named, else as sae-borzoi calls it."""
    return str(
        config.get("prespecified_model")
        or f"{config['layer_name']}_exp{config['expansion_factor']}_topk{config['topk_pct']}"
        f"_lr{config['learning_rate']}"
    )
