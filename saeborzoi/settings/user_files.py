"""The user's files by the groups that artifacts read, and by those that Dagster observes.

Which artifact reads which group stands in `saeborzoi.pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from saeborzoi.pipeline import Artifact, Group
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer, Section, ShardSet

CHECKPOINTS = "checkpoints"
"""Observed group of the SAEs' checkpoints that are imported."""


def files_of(
    artifact: Artifact, settings: Settings, layer: Layer | None, sae: Hyperparameters | None = None
) -> list[Path]:
    """The user's files that one partition of an artifact is made from.

    Parameters
    ----------
    layer
        The partition's layer; None for what is of the project.
    sae
        The partition's SAE; None for what is of a layer or the project.
    """
    return [
        file
        for group in groups_read(artifact, settings)
        for file in (
            _OF_PROJECT[group](settings)
            if group in _OF_PROJECT
            else _of_layer(group, settings, layer, sae)
        )
    ]


def groups_read(artifact: Artifact, settings: Settings) -> list[Group]:
    """Groups of files that an artifact reads under these settings."""
    return [
        reads.group
        for reads in artifact.reads
        if reads.when is None or setting(settings, reads.when[0]) == reads.when[1]
    ]


def settings_of(artifact: Artifact, settings: Settings, layer: Layer | None) -> dict[str, Any]:
    """What of the settings one partition of an artifact depends on, for its version."""
    values = {}
    for name, place in artifact.settings.items():
        first, _, rest = place.partition(".")
        values[name] = _plain(
            setting(layer, rest) if first == "layer" else setting(settings, place)
        )
    if layer is not None:
        values |= settings.activation_settings(layer, _sets_read(artifact, layer))
    return values


def _sets_read(artifact: Artifact, layer: Layer) -> list[ShardSet]:
    """Training and validation data that an artifact computes with."""
    groups = {reads.group for reads in artifact.reads}
    of_train = "activations" in groups or ("normalization" in groups and layer.channel_max is None)
    return [
        *([layer.train] if of_train else []),
        *(layer.sets[1:] if "validation" in groups else []),
    ]


def setting(section: Any, place: str) -> Any:
    """Value at a dotted place of the settings.

    >>> from saeborzoi.settings.sections import Motifs
    >>> setting(Motifs(strands="both"), "strands")
    'both'
    """
    for name in place.split("."):
        section = getattr(section, name)
    return section


def _plain(value: Any) -> Any:
    """A setting as a version has it: without what leaves the result as it is."""
    if isinstance(value, Section):
        return value.of_result()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


_OF_PROJECT: dict[Group, Callable[[Settings], list[Path]]] = {
    "model": lambda settings: settings.model.files if settings.model else [],
    "genome": lambda settings: [settings.data.genome],
    "variants": lambda settings: [each.path for each in settings.variants],
    "annotation": lambda settings: [annotation.path for annotation in settings.data.annotation],
    "genes": lambda settings: [settings.data.genes] if settings.data.genes else [],
    "motif_database": lambda settings: [
        database.file for database in settings.data.motif_database if database.file
    ],
}


def _of_layer(
    group: Group, settings: Settings, layer: Layer | None, sae: Hyperparameters | None
) -> list[Path]:
    """Files of a group that belong to a layer, or to an SAE of it."""
    assert layer is not None, f"{group} files are of a layer"
    if group == "checkpoint":
        checkpoint = None if sae is None else settings.checkpoint_of(sae)
        return [] if checkpoint is None else [checkpoint]
    return {
        "normalization": _normalization(settings, layer),
        "activations": settings.activation_files([layer.train]),
        "windows": layer.train.window_files,
        "validation": settings.activation_files(layer.sets[1:]),
        "held_out": layer.held_out.window_files,
        "targets": [layer.held_out.targets] if layer.held_out.targets else [],
    }[group]


def _normalization(settings: Settings, layer: Layer) -> list[Path]:
    if layer.channel_max is not None:
        return [layer.channel_max]
    if layer.train.shards is not None:
        return [layer.train.shards]  # which of their positions count makes no difference
    return settings.activation_files([layer.train])


# -- what Dagster observes -------------------------------------------------------------------


def activations(layer: str) -> str:
    """Observed group of a layer's shards and windows."""
    return f"{layer} activations"


def variant_file(name: str) -> str:
    """Observed group of the file of a set of variants."""
    return f"{name} variants"


def observed_groups(settings: Settings) -> dict[str, list[Path]]:
    """Observed group to its files and folders.

    Coarser than the groups that artifacts read: a layer's shards, windows and constants are one,
    and the checkpoints of all SAEs. Only variants are finer: each set's file is one.
    """
    checkpoints = [grid.checkpoint for grid in settings.sae if grid.checkpoint is not None]
    return {
        **{
            group: files(settings)
            for group, files in _OF_PROJECT.items()
            if group != "variants" and (group not in ("model", "genes") or files(settings))
        },
        **{variant_file(each.name): [each.path] for each in settings.variants},
        **{
            activations(layer.name): [
                *settings.activation_files(layer.sets),
                *([layer.channel_max] if layer.channel_max else []),
                *([layer.held_out.targets] if layer.held_out.targets else []),
            ]
            for layer in settings.layer
        },
        **({CHECKPOINTS: checkpoints} if checkpoints else {}),
    }


def observed_by(artifact: Artifact, settings: Settings) -> list[str]:
    """Observed groups that hold files of an artifact: for what is of one layer, of every layer, as
    Dagster cannot know which SAE is of which; `saeborzoi trace` tells them apart."""
    observed = observed_groups(settings)
    named = _observed_by(groups_read(artifact, settings), settings)
    return [group for group in dict.fromkeys(named) if group in observed]


def _observed_by(groups: Sequence[Group], settings: Settings) -> Iterator[str]:
    for group in groups:
        if group == "variants":
            yield from (variant_file(each.name) for each in settings.variants)
        elif group in _OF_PROJECT:
            yield group
        elif group == "checkpoint":
            yield CHECKPOINTS
        else:
            yield from (activations(layer.name) for layer in settings.layer)
