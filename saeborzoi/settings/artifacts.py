"""Which artifacts a project has: some exist only where the settings have what they need."""

from __future__ import annotations

from collections.abc import Callable

from saeborzoi.pipeline import ARTIFACTS, Artifact, Need
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer


def artifacts_of(settings: Settings, layer: Layer | None = None) -> tuple[Artifact, ...]:
    """Artifacts of a project, in the order in which they are made.

    Parameters
    ----------
    layer
        Only those that this layer and its SAEs have; left out, those that any layer has.
    """
    layers = settings.layer if layer is None else (layer,)
    return tuple(
        artifact
        for artifact in ARTIFACTS
        if any(all(_HAS[need](settings, each) for need in artifact.needs) for each in layers)
    )


def inputs_of(artifact: Artifact, settings: Settings, layer: Layer | None = None) -> list[str]:
    """Those inputs of an artifact that exist; see `artifacts_of`."""
    artifact_names = {each.name for each in artifacts_of(settings, layer)}
    return [name for name in artifact.inputs if name in artifact_names]


def _has_model(settings: Settings, layer: Layer) -> bool:
    """Whether predictions of the settings' model can be asked for with this layer changed."""
    model = settings.model
    return model is not None and model.has_outputs and (layer.is_live or layer.module is not None)


def _has_variants(settings: Settings, layer: Layer) -> bool:
    """Whether there are variants, and a model that computes the layer of both alleles."""
    named = layer.is_live or layer.module is not None
    return bool(settings.variants) and settings.model is not None and named


_HAS: dict[Need, Callable[[Settings, Layer], bool]] = {
    "model": _has_model,
    "variants": _has_variants,
}

NEED: dict[Need, str] = {
    "model": "a [model] that predicts, and a [[layer]] that it computes or that names its `module`",
    "variants": "[[variants]], and a [model] with a [[layer]] that it computes or that names its "
    "`module`",
}
"""What the settings are to have, in words."""
