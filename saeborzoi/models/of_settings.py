"""The model and the layers that the settings name."""

from __future__ import annotations

from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Layer


def load_settings_model(settings: Model) -> SequenceModel:
    """The model of the settings."""
    return load_model(
        settings.loader,
        weights=settings.weights,
        arguments=settings.arguments,
        input_bp=settings.input_bp,
        dtype=settings.dtype,
        device=settings.device,
    )


def settings_geometry(model: SequenceModel, layer: Layer) -> LayerGeometry:
    """The layer as measured, refused where the settings say another.

    Raises
    ------
    InputError
        Names every setting that differs, with the measured value.
    """
    g = layer_geometry(model, layer.module or layer.name)
    wrong = [
        f"{name} = {given} in the settings, measured is {measured}"
        for name, given, measured in (
            ("n_channels", layer.n_channels, g.n_channels),
            ("bp_per_position", layer.bp_per_position, g.bp_per_position),
            ("receptive_field_bp", layer.receptive_field_bp, g.receptive_field_bp),
        )
        if given is not None and given != measured
    ]
    if wrong:
        raise InputError(
            f"layer {layer.name!r} is module {g.module}: {'; '.join(wrong)}; fix the [[layer]]"
        )
    return g
