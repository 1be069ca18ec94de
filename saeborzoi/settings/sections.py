"""The sections of `dagster_project.toml` as small typed models.

Only what a user may set belongs here; defaults are the published ones of sae-borzoi. How the file
is found, read and made into one `Settings` is in `settings.py`.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.hyperparameters import (
    LAYER_NAME,
    Hyperparameters,
    make_hyperparameters,
)

PUBLISHED_SEQLET_WIDTHS = {"conv1d_1": 14, "conv1d_2": 18, "conv1d_3": 26, "conv1d_4": 34}
"""Seqlet width in bp of each Borzoi layer in sae-borzoi."""
RECEPTIVE_FIELDS = {"conv1d_1": 24, "conv1d_2": 42, "conv1d_3": 78, "conv1d_4": 150}
"""Receptive field in bp of each Borzoi layer, measured by gradient."""

FEWEST_POSITIONS = 3_000_000
"""Positions after which the default recipe has converged on data from a known dictionary."""

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1, le=10**15)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""Goes into names of files."""
MAX_COMBINATIONS = 10_000
MAX_CHANNELS = 100_000
MAX_NODES = 1_000_000
"""Of an SAE: Dagster lists the partition of each."""
MAX_SEQLET_BP = 100_000


class Section(BaseModel):
    """A part of the settings; unknown keys are refused, and true and false where a number is
    wanted, inf and nan too."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that say how a result is made, and leave it as it is."""

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            items = value if isinstance(value, list | tuple) else (value,)
            truth = next((item for item in items if isinstance(item, bool)), None)
            if truth is not None and field is not None and "bool" not in str(field.annotation):
                raise ValueError(f"{name} = {str(truth).lower()}; needed is a number or text")
        return values

    def of_result(self) -> dict[str, Any]:
        """What a result depends on, for its version."""
        return self.model_dump(exclude=set(self.without_effect))


class Project(Section):
    """`[project]`: the project's name and where its artifacts and catalogue lie."""

    name: Name
    store: Path = Path("store")


class Annotation(Section):
    """`[[data.annotation]]`: a BED file of genomic annotation, its class in `class_column`."""

    name: Name
    path: Path
    class_column: Annotated[int, Field(ge=4)] = 6
    """1-based column that holds the class, 6 as in sae-borzoi."""


class MotifDatabase(Section):
    """`[[data.motif_database]]`: known motifs.

    `source` is a MEME-format file, or `jaspar:<release>:<collection>:<taxonomic group>` for the
    matrices that pyjaspar carries offline.
    """

    name: Name
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

    name: str = Field(pattern=rf"^{LAYER_NAME}$", max_length=100)
    n_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    bp_per_position: Annotated[int, Field(ge=1, le=10**6)]
    pad_bp: Annotated[int, Field(ge=0, le=10**9)] = 0
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
        if self.seqlet_width > MAX_SEQLET_BP:
            raise ValueError(
                f"layer {self.name!r} has seqlets of {self.seqlet_width:,} bp; needed are at most "
                f"{MAX_SEQLET_BP:,}: set seqlet_width_bp"
            )
        return self

    def _seqlet_width(self) -> int | None:
        if self.seqlet_width_bp == "receptive_field":
            return self.receptive_field_bp or RECEPTIVE_FIELDS.get(self.name)
        return self.seqlet_width_bp or PUBLISHED_SEQLET_WIDTHS.get(self.name)

    @property
    def geometry(self) -> dict[str, Any]:
        """How positions lie on the genome, by the names that the science takes them:
        bp_per_position, pad_bp."""
        return {"bp_per_position": self.bp_per_position, "pad_bp": self.pad_bp}

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
        n_combinations = math.prod(len(values) for values in axes.values())
        if n_combinations > MAX_COMBINATIONS:
            raise ValueError(
                f"[[sae]] asks for {n_combinations:,} SAEs; needed are at most "
                f"{MAX_COMBINATIONS:,}: shorten its lists"
            )
        combinations = [
            make_hyperparameters(**dict(zip(axes, values, strict=True)))
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
    batch_size: Annotated[int, Field(ge=1, le=10**7)] | None = None
    """Positions of a step; left out: 4096, but where that takes fewer than 1,000 steps as many as
    make 1,000 (at least 256)."""
    buffer_mb: Annotated[int, Field(ge=1, le=10**6)] = 512
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

    n_top: Annotated[int, Field(ge=2, le=10**6)] = 1000
    """Strongest positions kept for each node (N)."""
    min_nonzero: Annotated[int, Field(ge=0)] = 1000
    min_strong: Annotated[int, Field(ge=0)] = 200
    strong_fraction: Fraction = 0.5
    strong_statistic: Literal["mean", "max"] = "mean"
    """A position is strong where its activation is above `strong_fraction` x this statistic of
    the node's top positions."""

    @model_validator(mode="after")
    def _some_node_can_pass(self) -> Selection:
        if self.min_strong > self.n_top:
            raise ValueError(
                f"min_strong = {self.min_strong} of n_top = {self.n_top} positions can never be "
                "strong, so that no node would be selected; lower min_strong or raise n_top"
            )
        if self.strong_statistic == "max" and self.strong_fraction == 1 and self.min_strong:
            raise ValueError(
                'strong_fraction = 1 with strong_statistic = "max": no position is above the '
                "maximum, so that no node would be selected; lower strong_fraction"
            )
        return self


_ENGINE_WIDTHS = {"builtin": (2, MAX_SEQLET_BP), "meme": (2, 300), "streme": (3, 30)}
"""Narrowest and widest motif that each engine takes."""


class Motifs(Section):
    """`[motifs]`: motif discovery."""

    engine: Literal["builtin", "meme", "streme"] = "builtin"
    executable: Path | None = None
    n_motifs: Annotated[int, Field(ge=1, le=1000)] = 2
    min_width: Annotated[int, Field(ge=2, le=MAX_SEQLET_BP)] = 8
    max_width: Annotated[int, Field(ge=2, le=MAX_SEQLET_BP)] | None = None
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

    @model_validator(mode="after")
    def _widths_fit(self) -> Motifs:
        if self.max_width is not None and self.max_width < self.min_width:
            raise ValueError(
                f"max_width = {self.max_width} is less than min_width = {self.min_width}, so that "
                "no motif can be found; raise max_width or lower min_width"
            )
        lowest, highest = _ENGINE_WIDTHS[self.engine]
        widest = self.max_width or max(self.min_width, lowest)
        if self.min_width < lowest or widest > highest:
            raise ValueError(
                f"min_width = {self.min_width}, max_width = {self.max_width}: {self.engine} finds "
                f"motifs of {lowest} to {highest} bp; fix them, or the engine"
            )
        return self


class Matching(Section):
    """`[matching]`: motifs against databases."""

    engine: Literal["memelite", "tomtom"] = "memelite"
    executable: Path | None = None
    max_p_value: PositiveFraction = 0.05
    max_q_value: PositiveFraction = 0.05
    max_e_value: Annotated[float, Field(gt=0)] = 0.05
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.7
    """Pearson correlation of the aligned columns; -1 takes TomTom's word for every match."""


class Embedding(Section):
    """`[embedding]`: UMAP of nodes and clusters on it."""

    min_dist: Fraction = 0.02
    n_neighbors: Annotated[int, Field(ge=2, le=10**6)] = 15
    n_clusters: Annotated[int, Field(ge=1, le=10**6)] = 25
    random_state: Annotated[int, Field(ge=0, lt=2**32)] = 42


class Overlaps(Section):
    """`[overlaps]`: seqlets against annotation."""

    n_shuffles: Annotated[int, Field(ge=1, le=10**6)] = 10
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
    poll_s: Annotated[float, Field(gt=0, le=86_400)] = 2.0
    profile: dict[str, Profile] = {}

    @model_validator(mode="after")
    def _profiles_are_stages(self) -> Compute:
        unknown = sorted(set(self.profile) - {*STAGES, "default"})
        if unknown:
            raise ValueError(f"no stage {unknown[0]!r}; allowed: default, {', '.join(STAGES)}")
        for stage, profile in self.profile.items():
            able = [name for name in STAGES if ARTIFACT[name].has_processes]
            if profile.processes > 1 and stage not in able:
                raise ValueError(
                    f"processes = {profile.processes} in [compute.profile.{stage}]; only "
                    f"{' and '.join(able)} is worked on by several processes; remove it there"
                )
        return self

    def profile_of(self, stage: str) -> Profile:
        """The stage's profile; what it leaves out comes from `[compute.profile.default]`."""
        base = self.profile.get("default", Profile())
        own = self.profile.get(stage, Profile())
        return base.model_copy(update=own.model_dump(exclude_unset=True))


_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"


class Automation(Section):
    """`[automation]`: what the daemon makes by itself for SAEs that are not complete."""

    max_saes_in_flight: PositiveInt = 1
    hours: str | None = Field(default=None, pattern=rf"^{_CLOCK}-{_CLOCK}$")
    """Local time in which runs are launched, e.g. "22:00-06:00"; left out: always."""
    gpu_hours_per_day: Annotated[float, Field(gt=0)] | None = None
    """No training is launched once those that ended today took so much."""
    max_attempts: PositiveInt = 2
    """Failed runs of a step before it is left alone."""
