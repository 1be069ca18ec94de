"""The one settings file, `dagster_project.toml`: found, read, checked, made into `Settings`.

Unknown keys are refused with the allowed ones; relative paths are relative to the file. What each
section holds is in `sections.py` and beside it.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from saeborzoi.errors import InputError, PartitionKeyError, SettingsError
from saeborzoi.reading import read_text, shown
from saeborzoi.settings.compute_sections import Automation, Compute, Profile
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.model_sections import Effects, Model
from saeborzoi.settings.sae_sections import SaeGrid, Training
from saeborzoi.settings.section import MAX_NODES, Section, expanded
from saeborzoi.settings.sections import (
    PUBLISHED_SEQLET_WIDTHS,
    RECEPTIVE_FIELDS,
    Annotation,
    Checks,
    Comparison,
    Data,
    Embedding,
    Layer,
    Matching,
    MotifDatabase,
    Motifs,
    Overlaps,
    Project,
    Selection,
    ShardSet,
)
from saeborzoi.settings.variant_sections import Attribution, VariantSet, require_sets

__all__ = [
    "BACKEND_VARIABLE",
    "FILE_NAME",
    "PROJECT_VARIABLE",
    "PUBLISHED_SEQLET_WIDTHS",
    "RECEPTIVE_FIELDS",
    "Annotation",
    "Attribution",
    "Automation",
    "Checks",
    "Comparison",
    "Compute",
    "Data",
    "Effects",
    "Embedding",
    "Layer",
    "Matching",
    "Model",
    "MotifDatabase",
    "Motifs",
    "Overlaps",
    "Profile",
    "Project",
    "SaeGrid",
    "Section",
    "Selection",
    "Settings",
    "ShardSet",
    "Training",
    "VariantSet",
    "find_settings_file",
    "load_settings",
]

FILE_NAME = "dagster_project.toml"
PROJECT_VARIABLE = "SAEBORZOI_PROJECT"
BACKEND_VARIABLE = "SAEBORZOI_BACKEND"
MAX_BYTES = 1 << 24
MAX_LETTERS = 4096
"""Of one text in the settings: the longest path that Linux takes."""


class Settings(Section):
    """A whole `dagster_project.toml`; as `load_settings` gives it, every path is absolute."""

    project: Project
    data: Data
    model: Model | None = None
    layer: Annotated[tuple[Layer, ...], Field(min_length=1)]
    sae: tuple[SaeGrid, ...] = ()
    training: Training = Training()
    selection: Selection = Selection()
    motifs: Motifs = Motifs()
    matching: Matching = Matching()
    embedding: Embedding = Embedding()
    overlaps: Overlaps = Overlaps()
    effects: Effects = Effects()
    variants: tuple[VariantSet, ...] = ()
    attribution: Attribution = Attribution()
    comparison: Comparison = Comparison()
    checks: Checks = Checks()
    compute: Compute = Compute()
    automation: Automation = Automation()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        names = [layer.name for layer in self.layer]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"layer {name!r} stands twice; give each layer its own name")
        for what, entries in (
            ("annotation", self.data.annotation),
            ("motif_database", self.data.motif_database),
        ):
            labels = [entry.name for entry in entries]
            if len(set(labels)) < len(labels):
                raise ValueError(f"two [[data.{what}]] share a name: {labels}")
        require_sets(self.variants, has_model=self.model is not None)
        for layer in self.layer:
            self._require_activations(layer)
            if self.motifs.min_width > layer.seqlet_width:
                raise ValueError(
                    f"[motifs] min_width = {self.motifs.min_width} is more than the "
                    f"{layer.seqlet_width} bp of a seqlet of layer {layer.name!r}, so that no "
                    "motif can be found; lower min_width or raise seqlet_width_bp"
                )
        for grid in self.sae:
            for hyperparameters in grid.expand():
                self.require_fits(hyperparameters)
        return self

    def _require_activations(self, layer: Layer) -> None:
        if layer.is_live and self.model is None:
            raise ValueError(
                f"layer {layer.name!r} has windows without `shards`, and there is no [model] to "
                "compute their activations; add a [model], or name `shards`"
            )
        for shard_set in layer.sets:
            if shard_set.windows == "genome" and shard_set.window_bp % layer.bp_per_position:
                raise ValueError(
                    f"layer {layer.name!r}: window_bp = {shard_set.window_bp} is no multiple of "
                    f"bp_per_position = {layer.bp_per_position}; set one that is"
                )

    def activation_files(self, sets: Sequence[ShardSet]) -> list[Path]:
        """Files of the user that activations are made from."""
        files = [file for shard_set in sets for file in shard_set.files]
        if any(shard_set.is_live for shard_set in sets):
            assert self.model is not None, "validated"
            files += [self.data.genome, *self.model.files]
        return files

    def activation_settings(self, layer: Layer, sets: Sequence[ShardSet]) -> dict[str, Any]:
        """Settings that activations depend on beside the files; none where they are shards."""
        if not any(shard_set.is_live for shard_set in sets):
            return {}
        assert self.model is not None, "validated"
        live = [s.model_dump(include={"window_bp"}) for s in sets if s.windows == "genome"]
        return {
            "model": self.model.of_result(),
            "layer": layer.model_dump(include={"module", "bp_per_position", "pad_bp"}),
            **({"windows": live} if live else {}),
        }

    def layer_named(self, name: str) -> Layer:
        """The layer of that name.

        Raises
        ------
        PartitionKeyError
            Where the settings have no such layer.
        """
        for layer in self.layer:
            if layer.name == name:
                return layer
        raise PartitionKeyError(
            f"layer {shown(name)} is not in the settings; there: "
            f"{', '.join(layer.name for layer in self.layer)}; add a [[layer]] or fix the name"
        )

    def of_set(self, name: str) -> Settings:
        """These settings with one set of variants alone, as what is made of it depends on no other.

        Raises
        ------
        PartitionKeyError
            Where the settings have no such set.
        """
        for each in self.variants:
            if each.name == name:
                # which set it is compared with later changes nothing that is made of it
                alone = each.model_copy(update={"controls": None})
                return self.model_copy(update={"variants": (alone,)})
        raise PartitionKeyError(
            f"variants {shown(name)} are not in the settings; there: "
            f"{', '.join(each.name for each in self.variants) or 'none'}; add a [[variants]] or "
            "fix the name"
        )

    def require_fits(self, hyperparameters: Hyperparameters) -> Layer:
        """The layer of these hyperparameters, refused where they keep no active node."""
        layer = self.layer_named(hyperparameters.layer)
        if hyperparameters.k(layer.n_channels) < 1:
            raise PartitionKeyError(
                f"topk {hyperparameters.topk:g} of {layer.n_channels} channels keeps no node; "
                f"needed is at least {1 / layer.n_channels:.3g}"
            )
        if hyperparameters.n_nodes(layer.n_channels) > MAX_NODES:
            raise PartitionKeyError(
                f"expansion {hyperparameters.expansion} of {layer.n_channels:,} channels is "
                f"{hyperparameters.n_nodes(layer.n_channels):,} nodes; needed are at most "
                f"{MAX_NODES:,}"
            )
        return layer

    def parse_key(self, key: str) -> Hyperparameters:
        """Hyperparameters of a partition key, refused where the settings cannot serve it."""
        hyperparameters = Hyperparameters.from_key(key, known=[h.key for h in self.wanted()])
        self.require_fits(hyperparameters)
        return hyperparameters

    def wanted(self) -> list[Hyperparameters]:
        """Every SAE that `[[sae]]` asks for, each once, in order of writing."""
        return list(dict.fromkeys(h for grid in self.sae for h in grid.expand()))

    def checkpoint_of(self, hyperparameters: Hyperparameters) -> Path | None:
        """The file that this SAE is imported from, if it is not to be trained."""
        for grid in self.sae:
            if grid.checkpoint is not None and grid.expand() == [hyperparameters]:
                return grid.checkpoint
        return None


def find_settings_file(start: Path | str | None = None) -> Path:
    """`dagster_project.toml` from `SAEBORZOI_PROJECT` (a file or folder), else from the working
    directory or one of its parents."""
    named = os.environ.get(PROJECT_VARIABLE)
    if start is None and named:
        path = expanded(Path(named))
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise SettingsError(f"{PROJECT_VARIABLE}={named}: no such settings file")
        return path.resolve()
    folder = Path(start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    raise SettingsError(
        f"no {FILE_NAME} in {folder} or above it; `saeborzoi init` writes one from your "
        f"files, or set {PROJECT_VARIABLE}"
    )


def load_settings(path: Path | str | None = None) -> Settings:
    """Read and check a settings file; every path in the result is absolute.

    Parameters
    ----------
    path
        The file, or a folder that holds `dagster_project.toml`; left out: as
        `find_settings_file` finds it.

    Raises
    ------
    SettingsError
        Where the file is missing, is not TOML, or a value does not fit; names each place.
    """
    path = find_settings_file() if path is None else Path(path).expanduser()
    path = path / FILE_NAME if path.is_dir() else path
    document = _read(path)
    backend = os.environ.get(BACKEND_VARIABLE)
    if backend and isinstance(document.setdefault("compute", {}), dict):
        document["compute"]["backend"] = backend
    try:
        return Settings.model_validate(document, context={"folder": path.parent.absolute()})
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from None
    except (PartitionKeyError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    """The document of a settings file; no text in it holds control characters."""
    try:
        document = tomllib.loads(read_text(path, MAX_BYTES))
    except InputError as error:
        raise SettingsError(str(error)) from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply; flatten it") from None
    except ValueError as error:  # of TOML, or a number of more digits than Python takes
        raise SettingsError(f"{path}: not TOML: {error}") from None
    for place, text in _texts(document):
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
            raise SettingsError(
                f"{path}: {place} = {shown(text)} holds control characters; remove them"
            )
        if len(text) > MAX_LETTERS:
            raise SettingsError(
                f"{path}: {place} has {len(text):,} letters; needed are at most {MAX_LETTERS:,}"
            )
        if text == "" and place.rpartition(".")[2] != "name":
            raise SettingsError(f"{path}: {place} is empty; fill it in, or leave it out")
    return document


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield f"a key in {place or 'the file'}", name or " "
            yield from _texts(item, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{place}.{i}")


def _explain(error: ValidationError) -> str:
    """One line a problem: where, what was seen, what is allowed."""
    problems = error.errors()
    places = [problem["loc"] for problem in problems]
    lines = []
    for problem in problems:
        location, value = problem["loc"], problem["input"]
        if problem["type"] == "too_short" and any(
            place[: len(location)] == location and len(place) > len(location) for place in places
        ):
            continue  # it is short because what stands in it does not fit, which is said
        is_list = isinstance(value, list | tuple)
        if any(str(part).startswith("tuple[") for part in location) and not is_list:
            if any(place[:-1] == location[:-1] and place != location for place in places):
                continue  # one value or a list of them: the complaint about one value is enough
        elif is_list and any(
            len(place) >= len(location)
            and place[: len(location) - 1] == location[:-1]
            and str(place[len(location) - 1]).startswith("tuple[")
            for place in places
            if place != location
        ):
            continue
        place = ".".join(str(part) for part in location if not _BRANCH.match(str(part)))
        place = place or "settings"
        if problem["type"] == "extra_forbidden":
            allowed = _allowed_keys(location[:-1])
            nearest = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
            lines.append(f"unknown key {place!r}; allowed there: {', '.join(allowed)}{meant}")
        elif problem["type"] == "path_type":
            lines.append(f"{place} = {shown(value)}: needed is a path, as text")
        elif problem["type"] == "missing":
            lines.append(f"{place!r} is missing")
        elif location and not isinstance(value, dict | BaseModel):
            lines.append(f"{place} = {shown(value)}: {problem['msg']}")
        else:
            lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(dict.fromkeys(lines))


_BRANCH = re.compile(r"tuple\[|constrained-|literal\[|function-after\[|(int|float|str)$")
"""Parts of a place that name one of several kinds of value, not a key."""


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at a place of the document."""
    model: Any = Settings
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _inner_model(model.model_fields[str(part)].annotation)
    return sorted(model.model_fields)


def _inner_model(annotation: Any) -> Any:
    """The settings model inside `tuple[Model, ...]`, `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _inner_model(argument)
        if model is not None:
            return model
    return None
