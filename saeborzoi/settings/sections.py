"""The sections of `dagster_project.toml` as small typed models.

Only what a user may set belongs here; defaults are the published ones of sae-borzoi. How the file
is found, read and made into one `Settings` is in `settings.py`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from saeborzoi.settings.hyperparameters import LAYER_NAME, Hyperparameters

STAGES = (
    "normalization_constants",
    "trained_sae",
    "top_activations",
    "meme_motifs",
    "tomtom_matches",
)
"""Stages that run as a job of their own, and can have a profile; the others are light."""

PUBLISHED_SEQLET_WIDTHS = {"conv1d_1": 14, "conv1d_2": 18, "conv1d_3": 26, "conv1d_4": 34}
"""Seqlet width in bp of each Borzoi layer in sae-borzoi."""
RECEPTIVE_FIELDS = {"conv1d_1": 24, "conv1d_2": 42, "conv1d_3": 78, "conv1d_4": 150}
"""Receptive field in bp of each Borzoi layer, measured by gradient."""

FEWEST_POSITIONS = 3_000_000
"""Positions after which the default recipe has converged on data from a known dictionary."""

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that say how a result is made, and leave it as it is."""

    def of_result(self) -> dict[str, Any]:
        """What a result depends on, for its version."""
        return self.model_dump(exclude=set(self.without_effect))


class Project(Section):
    """`[project]`: the project's name and where its artifacts and catalogue lie."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    store: Path = Path("store")


class Annotation(Section):
    """`[[data.annotation]]`: a BED file of genomic annotation, its class in `class_column`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    path: Path
    class_column: Annotated[int, Field(ge=4)] = 6
    """1-based column that holds the class, 6 as in sae-borzoi."""


class MotifDatabase(Section):
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


class Data(Section):
    """`[data]`: the genome and what is known of it."""

    genome: Path
    """FASTA, plain or (b)gzipped, soft-masking ignored."""
    annotation: tuple[Annotation, ...] = ()
    motif_database: tuple[MotifDatabase, ...] = (
        MotifDatabase(name="JASPAR2024", source="jaspar:JASPAR2024:CORE:vertebrates"),
    )


class ShardSet(Section):
    """A folder of HDF5 shards `activations_<i>.h5` and the BED that says where each row lies."""

    shards: Path
    windows: Path


class Layer(Section):
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


class _SaeGrid(Section):
    """`[[sae]]`: hyperparameters wanted; a list of values makes a grid.

    Its fields are those of `Hyperparameters`, None where left out, and `checkpoint`.
    """

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


if TYPE_CHECKING:
    SaeGrid = _SaeGrid
else:
    SaeGrid = create_model(
        "SaeGrid",
        __base__=_SaeGrid,
        __module__=__name__,
        __doc__=_SaeGrid.__doc__,
        **{
            name: (field.annotation | tuple[field.annotation, ...], ...)
            if field.is_required()
            else (field.annotation | tuple[field.annotation, ...] | None, None)
            for name, field in Hyperparameters.model_fields.items()
        },
    )


class Training(Section):
    """`[training]`: how long and how large, the same for every SAE of the project."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"saes_per_pass"})

    n_positions: PositiveInt | None = None
    """Positions to train on, over as many passes as that takes; left out: `n_epochs` passes."""
    n_epochs: PositiveInt | None = None
    """Passes over the data; left out: one, or as many as make 3 million positions."""
    batch_size: PositiveInt | None = None
    """Positions of a step; left out: 4096, but where that takes fewer than 1,000 steps as many as
    make 1,000 (at least 256)."""
    buffer_mb: PositiveInt = 512
    """Memory of the shuffle buffer."""
    validate_every_positions: PositiveInt = 2_000_000
    patience: PositiveInt = 5
    """Validations without improvement before training stops early."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300
    saes_per_pass: PositiveInt = 1
    """SAEs of one layer and seed that a run over several partitions trains together, reading the
    data once: worth it where reading is slower than training, as on a GPU. None comes out
    otherwise than it would alone."""

    def total_positions(self, n_available: int) -> int:
        """Positions that a training sees where one pass over the data has `n_available`."""
        if self.n_positions is not None:
            return self.n_positions
        n_epochs = self.n_epochs or max(1, -(-FEWEST_POSITIONS // n_available))
        return n_epochs * n_available


class Selection(Section):
    """`[selection]`: seqlets for each node, and which nodes are worth a motif."""

    n_top: PositiveInt = 1000
    """Strongest positions kept for each node (N)."""
    min_nonzero: Annotated[int, Field(ge=0)] = 1000
    min_strong: Annotated[int, Field(ge=0)] = 200
    strong_fraction: Fraction = 0.5
    strong_statistic: Literal["mean", "max"] = "mean"
    """A position is strong where its activation is above `strong_fraction` x this statistic of
    the node's top positions."""


class Motifs(Section):
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
    min_sites: Annotated[int, Field(ge=2)] | None = None
    """A motif with fewer sites is suspect. Left out: 2 % of the node's seqlets, at least 3."""
    near_identical: Literal["once", "each"] = "once"
    """How near-identical seqlets, copies of one element of the genome, count for the sites of a
    motif and for its enrichment: together as one, or each."""

    @model_validator(mode="before")
    @classmethod
    def _device_is_gone(cls, values: Any) -> Any:
        if isinstance(values, dict) and "device" in values:
            raise ValueError(
                "device: motif discovery runs on the CPU only (an array of CPU jobs does as well "
                "as a GPU did); delete the line"
            )
        return values


class Matching(Section):
    """`[matching]`: motifs against databases."""

    engine: Literal["memelite", "tomtom"] = "memelite"
    executable: Path | None = None
    max_p_value: Fraction = 0.05
    max_q_value: Fraction = 0.05
    max_e_value: Annotated[float, Field(gt=0)] = 0.05
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.7
    """Pearson correlation of the aligned columns; -1 takes TomTom's word for every match."""


class Embedding(Section):
    """`[embedding]`: UMAP of nodes and clusters on it."""

    min_dist: Annotated[float, Field(ge=0)] = 0.02
    n_neighbors: Annotated[int, Field(ge=2)] = 15
    n_clusters: PositiveInt = 25
    random_state: int = 42


class Overlaps(Section):
    """`[overlaps]`: seqlets against annotation."""

    n_shuffles: PositiveInt = 10
    """Shuffled copies of the seqlets for the control."""


class Comparison(Section):
    """`[comparison]`: SAEs of a layer against each other."""

    min_cosine: Fraction = 0.7
    """Nodes of two SAEs are the same where each is the other's closest by cosine of the decoder
    directions, the cosine is at least this,"""
    min_jaccard: Fraction = 0.5
    """and the Jaccard index of their top positions at least this."""


class Checks(Section):
    """`[checks]`: thresholds of the asset checks."""

    max_fvu: Annotated[float, Field(gt=0)] = 0.5
    max_dead_fraction: Fraction = 0.2


class Profile(Section):
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
    processes: PositiveInt = 1
    """`trained_sae` only: processes that train one SAE together, a GPU each (torchrun)."""
    nodes_per_job: PositiveInt | None = None
    """SAE nodes in one task of a job array; left out: all in one job."""
    max_parallel: PositiveInt | None = None
    """Tasks of an array that run at once."""
    max_attempts: PositiveInt = 3


class Compute(Section):
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
        for stage, profile in self.profile.items():
            if profile.processes > 1 and stage != "trained_sae":
                raise ValueError(
                    f"processes = {profile.processes} in [compute.profile.{stage}]; only "
                    "trained_sae is worked on by several processes; remove it there"
                )
        return self

    def profile_of(self, stage: str) -> Profile:
        """The stage's profile; what it leaves out comes from `[compute.profile.default]`."""
        base = self.profile.get("default", Profile())
        own = self.profile.get(stage, Profile())
        return base.model_copy(update=own.model_dump(exclude_unset=True))


class Automation(Section):
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
