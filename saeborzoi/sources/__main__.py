"""Describes a model in a process of its own, as a user's module may do anything when imported.

``python -m saeborzoi.sources`` reads a JSON document from standard input: `model`, the settings'
section, and `layers`, sections to check against the modules, and their shards against what these
compute on `genome`; with `modules` true, every module is described. It writes one JSON document:
what was found, or `error`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saeborzoi.errors import SaeBorzoiError
from saeborzoi.genome.coordinates import Genome
from saeborzoi.models.measure import describe_modules, table
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Layer
from saeborzoi.sources.same_activations import require_same_activations


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """What is asked for of a model.

    Returns
    -------
    dict
        fingerprint, input_bp, n_parameters, outputs (in words), predicts (fields of `Outputs`, or
        None), layers (known by name), checked
        (name, ok, detail of each layer asked about); where asked for, modules (a dict each) and
        table (text).
    """
    settings = Model.model_validate(request["model"]).model_copy(update={"device": "cpu"})
    model = load_settings_model(settings)
    answer: dict[str, Any] = {
        "fingerprint": model.fingerprint,
        "input_bp": model.input_bp,
        "n_parameters": sum(p.numel() for p in model.module.parameters()),
        "outputs": _outputs(model),
        "predicts": None if model.outputs is None else dataclasses.asdict(model.outputs),
        "layers": dict(model.layers),
        "checked": [
            _checked(model, Layer.model_validate(layer), request.get("genome"))
            for layer in request["layers"]
        ],
    }
    if request.get("modules"):
        descriptions = describe_modules(model)
        answer["table"] = table(descriptions)
        answer["modules"] = [
            {
                "module": d.name,
                "kind": d.kind,
                "shape": d.shape,
                "n_calls": d.n_calls,
                "is_changed_in_place": d.is_changed,
                "is_layer": d.geometry is not None,
                "note": d.reason,
                **(
                    {
                        "n_channels": d.geometry.n_channels,
                        "bp_per_position": d.geometry.bp_per_position,
                        "receptive_field_bp": d.geometry.receptive_field_bp,
                        "offset_bp": d.geometry.offset_bp,
                        "is_whole": d.geometry.is_whole,
                    }
                    if d.geometry
                    else {}
                ),
            }
            for d in descriptions
        ]
    return answer


def _outputs(model: SequenceModel) -> str:
    if model.outputs is None:
        return "none: the first layers only"
    o = model.outputs
    return (
        f"{len(o.tracks):,} tracks ({', '.join(o.tracks[:3])}{', ...' if o.tracks[3:] else ''}) of "
        f"{o.n_bins:,} bins of {o.bin_bp} bp, {o.crop_bp:,} bp cropped on the left; scale {o.scale}"
    )


def _checked(
    model: SequenceModel, layer: Layer, genome: Sequence[str | None] | None
) -> dict[str, Any]:
    try:
        g = settings_geometry(model, layer)
        if genome is not None:
            fasta, cache = (None if path is None else Path(path) for path in genome)
            assert fasta is not None
            with Genome(fasta, cache=cache) as opened:
                require_same_activations(model, g, layer, opened)
    except SaeBorzoiError as error:
        return {"name": layer.name, "ok": False, "detail": str(error)}
    way = "in whole windows" if g.is_whole else f"a position sees {g.receptive_field_bp} bp"
    detail = f"{g.module}: {g.n_channels} channels, {g.bp_per_position} bp a position, {way}"
    if genome is not None and not all(shard_set.is_live for shard_set in layer.sets):
        detail += "; the shards hold what it computes on the genome"
    return {"name": layer.name, "ok": True, "detail": detail}


def main() -> int:
    """Entry point."""
    request = json.load(sys.stdin)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a user's module may print
            answer = describe(request)
    except SaeBorzoiError as error:
        answer = {"error": str(error), "type": type(error).__name__}
    print(json.dumps(answer))
    return 2 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
