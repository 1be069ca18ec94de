"""The one settings file, `dagster_project.toml`, as small typed models.

Only what a user may set belongs here. Unknown keys are refused with the allowed ones; relative
paths are relative to the file; defaults are the published ones of sae-borzoi.
"""

from __future__ import annotations

import itertools
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from saeborzoi.errors import PartitionKeyError, SettingsError
from saeborzoi.hyperparameters import LAYER_NAME, Hyperparameters, Recipe, Variant

FILE_NAME = "dagster_project.toml"
PROJECT_VARIABLE = "SAEBORZOI_PROJECT"
BACKEND_VARIABLE = "SAEBORZOI_BACKEND"

STAGES = (
    "normalization_constants",
    "trained_sae",
    "top_activations",
    "seqlets",
    "meme_motifs",
    "tomtom_matches",
    "umap_embedding",
    "annotation_overlaps",
    "jaccard_matrix",
)

PUBLISHED_SEQLET_WIDTHS = {"conv1d_1": 14, "conv1d_2": 18, "conv1d_3": 26, "conv1d_4": 34}
"""Seqlet width in bp of each Borzoi layer in sae-borzoi."""
RECEPTIVE_FIELDS = {"conv1d_1": 24, "conv1d_2": 42, "conv1d_3": 78, "conv1d_4": 150}
"""Receptive field in bp of each Borzoi layer, measured by gradient."""

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Project(_Section):
    """`[project]`: the project's name and where its artifacts and catalogue lie."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    store: Path = Path("store")


class Annotation(_Section):
    """`[[data.annotation]]`: a BED file of genomic annotation, its class in `class_column`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    path: Path
    class_column: Annotated[int, Field(ge=4)] = 6
    """1-based column that holds the class, 6 as in sae-borzoi."""


class MotifDatabase(_Section):
    """`[[data.motif_database]]`: known motifs.

    `source` is a MEME-format file, or `jaspar:<release>:<collection>:<taxonomic group>` for the
    matrices that pyjaspar carries offline.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    source: str

    @property
    def file(self) -> Path | None:
        """The MEME-format file; None for what pyjaspar carries."""
        return None if self.source.startswith("jaspar:") else Path(self.source)


class Data(_Section):
    """`[data]`: the genome and what is known of it."""

    genome: Path
    """FASTA, plain or (b)gzipped, soft-masking ignored."""
    annotation: tuple[Annotation, ...] = ()
    motif_database: tuple[MotifDatabase, ...] = (
        MotifDatabase(name="JASPAR2024", source="jaspar:JASPAR2024:CORE:vertebrates"),
    )


class ShardSet(_Section):
    """A folder of HDF5 shards `activations_<i>.h5` and the BED that says where each row lies."""

    shards: Path
    windows: Path


class Layer(_Section):
    """`[[layer]]`: one layer of the sequence model and its activations."""

    name: str = Field(pattern=rf"^{LAYER_NAME}$")
    n_channels: PositiveInt
    bp_per_position: PositiveInt
    pad_bp: Annotated[int, Field(ge=0)] = 0
    """Base pairs that the model saw on either side of each window of the BED."""
    seqlet_width_bp: PositiveInt | Literal["receptive_field"] | None = None
    """Left out: the published width of that layer; "receptive_field": the true one."""
    receptive_field_bp: PositiveInt | None = None
    train: ShardSet
    validation: ShardSet | None = None
    channel_max: Path | None = None
    """sae-borzoi's `<layer>_max.json`, taken instead of a pass over the shards."""

    @model_validator(mode="after")
    def _width_is_known(self) -> Layer:
        if self._seqlet_width() is None:
            raise ValueError(
                f"layer {self.name!r} has no published seqlet width (those have: "
                f"{', '.join(PUBLISHED_SEQLET_WIDTHS)}); set seqlet_width_bp, or "
                'seqlet_width_bp = "receptive_field" with receptive_field_bp'
            )
        return self

    def _seqlet_width(self) -> int | None:
        if self.seqlet_width_bp == "receptive_field":
            return self.receptive_field_bp or RECEPTIVE_FIELDS.get(self.name)
        return self.seqlet_width_bp or PUBLISHED_SEQLET_WIDTHS.get(self.name)

    @property
    def seqlet_width(self) -> int:
        """Width of this layer's seqlets in bp."""
        width = self._seqlet_width()
        assert width is not None, "validated"
        return width


class SaeGrid(_Section):
    """`[[sae]]`: hyperparameters wanted; a list of values makes a grid."""

    layer: str | tuple[str, ...]
    expansion: int | tuple[int, ...] = 4
    topk: float | tuple[float, ...] = 0.05
    learning_rate: float | tuple[float, ...] | None = None
    seed: int | tuple[int, ...] = 0
    variant: Variant | tuple[Variant, ...] = "topk"
    recipe: Recipe | tuple[Recipe, ...] = "default"
    checkpoint: Path | None = None
    """sae-borzoi's `best_model.pt` (or a folder with cfg.json + sae.safetensors), imported
    instead of training; needs single values."""

    def expand(self) -> list[Hyperparameters]:
        """Every combination, in order of writing."""
        axes = {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in self
            if name != "checkpoint" and value is not None
        }
        combinations = [
            Hyperparameters.model_validate(dict(zip(axes, values, strict=True)))
            for values in itertools.product(*axes.values())
        ]
        if self.checkpoint is not None and len(combinations) != 1:
            raise ValueError("a checkpoint needs single values, not lists")
        return combinations


class Training(_Section):
    """`[training]`: how long and how large, the same for every SAE of the project."""

    n_positions: PositiveInt | None = None
    """Positions to train on, over as many passes as that takes; left out: `n_epochs` passes."""
    n_epochs: PositiveInt = 1
    batch_size: PositiveInt = 4096
    buffer_mb: PositiveInt = 512
    """Memory of the shuffle buffer."""
    validate_every_positions: PositiveInt = 2_000_000
    patience: PositiveInt = 5
    """Validations without improvement before training stops early."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300


class Selection(_Section):
    """`[selection]`: seqlets for each node, and which nodes are worth a motif."""

    n_top: PositiveInt = 1000
    """Strongest positions kept for each node (N)."""
    min_nonzero: Annotated[int, Field(ge=0)] = 1000
    min_strong: Annotated[int, Field(ge=0)] = 200
    strong_fraction: Fraction = 0.5
    strong_statistic: Literal["mean", "max"] = "mean"
    """A position is strong where its activation is above `strong_fraction` x this statistic of
    the node's top positions."""


class Motifs(_Section):
    """`[motifs]`: motif discovery."""

    engine: Literal["builtin", "meme", "streme"] = "builtin"
    executable: Path | None = None
    n_motifs: PositiveInt = 2
    min_width: Annotated[int, Field(ge=2)] = 8
    max_width: PositiveInt | None = None
    """Left out: the seqlet's length, at most 50."""
    strands: Literal["given", "both"] = "given"
    background: Literal["seqlets", "genome"] = "seqlets"
    max_e_value: Annotated[float, Field(gt=0)] = 0.05


class Matching(_Section):
    """`[matching]`: motifs against databases."""

    engine: Literal["memelite", "tomtom"] = "memelite"
    executable: Path | None = None
    max_p_value: Fraction = 0.05
    max_q_value: Fraction = 0.05
    max_e_value: Annotated[float, Field(gt=0)] = 0.05


class Embedding(_Section):
    """`[embedding]`: UMAP of nodes and clusters on it."""

    min_dist: Annotated[float, Field(ge=0)] = 0.02
    n_neighbors: Annotated[int, Field(ge=2)] = 15
    n_clusters: PositiveInt = 25
    random_state: int = 42


class Overlaps(_Section):
    """`[overlaps]`: seqlets against annotation."""

    n_shuffles: PositiveInt = 10
    """Shuffled copies of the seqlets for the control."""


class Comparison(_Section):
    """`[comparison]`: SAEs of a layer against each other."""

    min_cosine: Fraction = 0.7
    """Nodes of two SAEs are the same where each is the other's closest by cosine of the decoder
    directions, and the cosine is at least this."""


class Checks(_Section):
    """`[checks]`: thresholds of the asset checks."""

    max_fvu: Annotated[float, Field(gt=0)] = 0.5
    max_dead_fraction: Fraction = 0.2


class Profile(_Section):
    """`[compute.profile.<stage>]`: what a stage's process or SLURM job gets."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    cpus: PositiveInt | None = None
    mem: str | None = None
    time: str | None = None
    constraint: str | None = None
    options: tuple[str, ...] = ()
    """Any further sbatch option, as written on its command line."""
    modules: tuple[str, ...] = ()
    activate: str | None = None
    """Shell line that activates the worker's environment."""
    python: str | None = None
    """Worker's interpreter; left out: the one that runs Dagster (or `python` after `activate`)."""
    nodes_per_job: PositiveInt | None = None
    """SAE nodes in one task of a job array; left out: all in one job."""
    max_parallel: PositiveInt | None = None
    """Tasks of an array that run at once."""
    max_attempts: PositiveInt = 3


class Compute(_Section):
    """`[compute]`: where heavy stages run. SAEBORZOI_BACKEND overrides `backend`."""

    backend: Literal["local", "slurm"] = "local"
    ssh_host: str | None = None
    """Run sbatch and its kin through `ssh <host>`; left out: on this machine."""
    poll_s: Annotated[float, Field(gt=0)] = 2.0
    profile: dict[str, Profile] = {}

    @model_validator(mode="after")
    def _profiles_are_stages(self) -> Compute:
        unknown = sorted(set(self.profile) - {*STAGES, "default"})
        if unknown:
            raise ValueError(f"no stage {unknown[0]!r}; allowed: default, {', '.join(STAGES)}")
        return self

    def profile_of(self, stage: str) -> Profile:
        """The stage's profile; what it leaves out comes from `[compute.profile.default]`."""
        base = self.profile.get("default", Profile())
        own = self.profile.get(stage, Profile())
        return base.model_copy(update=own.model_dump(exclude_unset=True))


class Automation(_Section):
    """`[automation]`: what the daemon makes by itself for SAEs that are not complete."""

    max_saes_in_flight: PositiveInt = 1
    hours: str | None = Field(
        default=None, pattern=r"^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"
    )
    """Local time in which runs are launched, e.g. "22:00-06:00"; left out: always."""
    gpu_hours_per_day: Annotated[float, Field(gt=0)] | None = None
    """No training is launched once those that ended today took so much."""
    max_attempts: PositiveInt = 2
    """Failed runs of a step before it is left alone."""


class Settings(_Section):
    """A whole `dagster_project.toml`, resolved: every path absolute."""

    project: Project
    data: Data
    layer: Annotated[tuple[Layer, ...], Field(min_length=1)]
    sae: tuple[SaeGrid, ...] = ()
    training: Training = Training()
    selection: Selection = Selection()
    motifs: Motifs = Motifs()
    matching: Matching = Matching()
    embedding: Embedding = Embedding()
    overlaps: Overlaps = Overlaps()
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
        for grid in self.sae:
            for hyperparameters in grid.expand():
                self.require_fits(hyperparameters)
        return self

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
            f"layer {name!r} is not in the settings; there: "
            f"{', '.join(layer.name for layer in self.layer)}; add a [[layer]] or mend the name"
        )

    def require_fits(self, hyperparameters: Hyperparameters) -> Layer:
        """The layer of these hyperparameters, refused where they keep no active node."""
        layer = self.layer_named(hyperparameters.layer)
        if hyperparameters.k(layer.n_channels) < 1:
            raise PartitionKeyError(
                f"topk {hyperparameters.topk:g} of {layer.n_channels} channels keeps no node; "
                f"needed is at least {1 / layer.n_channels:.3g}"
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


def find_settings_file(start: Path | None = None) -> Path:
    """`dagster_project.toml` from `SAEBORZOI_PROJECT` (a file or folder), else from the working
    directory or one of its parents."""
    named = os.environ.get(PROJECT_VARIABLE)
    if start is None and named:
        path = Path(named).expanduser()
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise SettingsError(f"{PROJECT_VARIABLE}={named}: no such settings file")
        return path.resolve()
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    raise SettingsError(
        f"no {FILE_NAME} in {folder} or above it; `make demo` makes one, or set {PROJECT_VARIABLE}"
    )


def load_settings(path: Path | None = None) -> Settings:
    """Read and check a settings file; every path in the result is absolute.

    Raises
    ------
    SettingsError
        Where the file is missing, is not TOML, or a value does not fit; names each place.
    """
    path = path or find_settings_file()
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    backend = os.environ.get(BACKEND_VARIABLE)
    if backend:
        document.setdefault("compute", {})["backend"] = backend
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from None
    except PartitionKeyError as error:
        raise SettingsError(f"{path}: {error}") from None
    return _resolved(settings, path.parent)


def _explain(error: ValidationError) -> str:
    """One line a problem: where, what was seen, what is allowed."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(_allowed_keys(problem["loc"][:-1]))
            lines.append(f"unknown key {place!r}; allowed there: {allowed}")
        elif problem["type"] == "missing":
            lines.append(f"{place!r} is missing")
        elif problem["loc"] and not isinstance(problem["input"], dict):
            lines.append(f"{place} = {problem['input']!r}: {problem['msg']}")
        else:
            lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(dict.fromkeys(lines))


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
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _resolved(value: Any, folder: Path) -> Any:
    """A copy of a settings model with every path absolute, relative ones from `folder`."""
    if isinstance(value, Path):
        return Path(os.path.normpath(folder / value.expanduser()))
    if isinstance(value, tuple):
        return tuple(_resolved(item, folder) for item in value)
    if isinstance(value, dict):
        return {name: _resolved(item, folder) for name, item in value.items()}
    if isinstance(value, MotifDatabase):
        if value.file is None:
            return value
        return value.model_copy(update={"source": str(_resolved(value.file, folder))})
    if isinstance(value, BaseModel):
        resolved = {name: _resolved(item, folder) for name, item in value}
        return value.model_copy(
            # only what changed: a profile must go on knowing which fields were left out
            update={name: item for name, item in resolved.items() if item != getattr(value, name)}
        )
    return value
