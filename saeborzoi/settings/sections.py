"""The sections of `dagster_project.toml` as small typed models: data, layers and their analysis.

Only what a user may set belongs here; defaults are the published ones of sae-borzoi. The model is
in `model_sections.py`, SAEs and their training are in `sae_sections.py`, where stages run is in
`compute_sections.py`; how the file is found, read and made into one `Settings` is in `load.py`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from saeborzoi.settings.hyperparameters import LAYER_NAME
from saeborzoi.settings.section import (
    ENGINE_WIDTHS,
    MAX_CHANNELS,
    MAX_SEQLET_BP,
    Fraction,
    Name,
    PositiveFraction,
    PositiveInt,
    Section,
    UserPath,
    from_folder,
)

PUBLISHED_SEQLET_WIDTHS = {"conv1d_1": 14, "conv1d_2": 18, "conv1d_3": 26, "conv1d_4": 34}
"""Seqlet width in bp of each Borzoi layer in sae-borzoi."""
RECEPTIVE_FIELDS = {"conv1d_1": 24, "conv1d_2": 42, "conv1d_3": 78, "conv1d_4": 150}
"""Receptive field in bp of each Borzoi layer, measured by gradient."""

SHAPES = {"conv1d_1": (608, 2), "conv1d_2": (736, 4), "conv1d_3": (896, 8), "conv1d_4": (1056, 16)}
"""Channels, and bp of a position, of each Borzoi layer."""


class Project(Section):
    """`[project]`: the project's name and where its artifacts and catalogue lie."""

    name: Name
    store: Annotated[UserPath, Field(validate_default=True)] = Path("store")


class Annotation(Section):
    """`[[data.annotation]]`: a BED file of genomic annotation, its class in `class_column`."""

    name: Name
    path: UserPath
    class_column: Annotated[int, Field(ge=4)] = 6
    """1-based column that holds the class, 6 as in sae-borzoi."""
    strand_column: Annotated[int, Field(ge=4)] | None = None
    """1-based column that holds the strand, 5 of what `saeborzoi data prepare` writes: concepts are
    then scored by strand, and upstream and downstream of elements, too."""

    def of_result(self) -> dict[str, Any]:
        """As of any section; without strands nothing changed since they can be given."""
        values = super().of_result()
        return {name: v for name, v in values.items() if name != "strand_column" or v is not None}


class MotifDatabase(Section):
    """`[[data.motif_database]]`: known motifs.

    `source` is a MEME-format file, or `jaspar:<release>:<collection>:<taxonomic group>` for the
    matrices that pyjaspar carries offline.
    """

    name: Name
    source: str

    @field_validator("source")
    @classmethod
    def _from_folder(cls, source: str, info: ValidationInfo) -> str:
        is_file = not source.startswith("jaspar:")
        return str(from_folder(Path(source), info)) if is_file else source

    @property
    def file(self) -> Path | None:
        """The MEME-format file; None for what pyjaspar carries."""
        return None if self.source.startswith("jaspar:") else Path(self.source)


class Data(Section):
    """`[data]`: the genome and what is known of it."""

    genome: UserPath
    """FASTA, plain or (b)gzipped, soft-masking ignored."""
    annotation: tuple[Annotation, ...] = ()
    genes: UserPath | None = None
    """GTF, plain or gzipped, as GENCODE's: the gene nearest to each seqlet."""
    motif_database: tuple[MotifDatabase, ...] = (
        MotifDatabase(name="JASPAR2024", source="jaspar:JASPAR2024:CORE:vertebrates"),
    )

    @property
    def motif_sources(self) -> dict[str, str]:
        """Name of each motif database to its source."""
        return {database.name: database.source for database in self.motif_database}


class ShardSet(Section):
    """Where activations come from: a folder of HDF5 shards `activations_<i>.h5` and the BED that
    says where each row lies; or windows alone, on which `[model]` computes them."""

    shards: UserPath | None = None
    # in this order: a job's JSON would have "genome" as a path
    windows: Annotated[Literal["genome"] | UserPath, Field(union_mode="left_to_right")]
    """BED; a strand in column 6 says on which one the model reads a window. "genome" (without
    `shards`): every chromosome, cut into windows of `window_bp`."""
    window_bp: PositiveInt = 131_072
    """Of `windows = "genome"`; a multiple of the layer's bp_per_position."""
    mask: UserPath | None = None
    """BED of what `windows = "genome"` leaves out, such as gaps."""
    cache: UserPath | None = None
    """Folder for shards that a first pass of the model writes, and later ones read."""
    targets: UserPath | None = None
    """HDF5 file of what was measured on the windows, for `fidelity`: dataset `targets` (windows,
    bins, tracks) on the model's scale."""

    @model_validator(mode="after")
    def _live_or_not(self) -> ShardSet:
        if self.shards is not None and (self.windows == "genome" or self.cache is not None):
            name = "cache" if self.cache is not None else 'windows = "genome"'
            raise ValueError(
                f"{name} goes with a model, not with shards = {str(self.shards)!r}; remove one"
            )
        if self.mask is not None and self.windows != "genome":
            raise ValueError(
                'mask goes with windows = "genome"; leave out the masked windows of the BED'
            )
        if self.targets is not None and self.windows == "genome":
            raise ValueError(
                "targets has a row a window of a BED, not of "
                'windows = "genome"; name the BED, or remove targets'
            )
        return self

    @property
    def is_live(self) -> bool:
        """Whether the model computes the activations."""
        return self.shards is None

    @property
    def where(self) -> dict[str, Any]:
        """Where windows lie, by the names that the science takes."""
        return self.model_dump(include={"windows", "window_bp", "mask"})

    @property
    def folder_and_windows(self) -> tuple[Path, Path]:
        """The shards' folder and their BED; of a set that is not live."""
        assert self.shards is not None, "of shards only"
        assert self.windows != "genome", "validated"
        return self.shards, self.windows

    @property
    def files(self) -> list[Path]:
        """What of it the user brings, but the genome and the model."""
        return [*([self.shards] if self.shards else []), *self.window_files]

    @property
    def window_files(self) -> list[Path]:
        """What of it says where windows lie."""
        windows = self.windows if isinstance(self.windows, Path) else self.mask
        return [windows] if windows else []


class Layer(Section):
    """`[[layer]]`: one layer of the sequence model and its activations."""

    name: str = Field(pattern=rf"^{LAYER_NAME}$", max_length=100)
    module: str | None = None
    """Module of `[model]` whose output the layer is; left out, the one known by its name. A layer
    of shards that names it says that they were made with this model, and gets what is made of its
    predictions."""
    n_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    """Of Borzoi's layers known by their name; of others as `saeborzoi model` shows it."""
    bp_per_position: Annotated[int, Field(ge=1, le=10**6)]
    """Base pairs that one position covers."""
    pad_bp: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Base pairs that the model saw on either side of each window of the BED."""
    seqlet_width_bp: PositiveInt | Literal["receptive_field"] | None = None
    """Left out: the published width of that layer; "receptive_field": the true one."""
    receptive_field_bp: PositiveInt | None = None
    train: ShardSet
    validation: ShardSet | None = None
    channel_max: UserPath | None = None
    """sae-borzoi's `<layer>_max.json`, taken instead of a pass over the shards."""

    @model_validator(mode="before")
    @classmethod
    def _shape_is_known(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("name") in SHAPES:
            n_channels, bp = SHAPES[values["name"]]
            return {"n_channels": n_channels, "bp_per_position": bp, **values}
        return values

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

    @model_validator(mode="after")
    def _targets_are_held_out(self) -> Layer:
        if self.validation is not None and self.train.targets is not None:
            raise ValueError(
                f"targets of layer {self.name!r} are of train, but predictions are made of "
                "validation; give those of the validation windows there"
            )
        return self

    def _seqlet_width(self) -> int | None:
        if self.seqlet_width_bp == "receptive_field":
            return self.receptive_field_bp or RECEPTIVE_FIELDS.get(self.name)
        return self.seqlet_width_bp or PUBLISHED_SEQLET_WIDTHS.get(self.name)

    @property
    def sets(self) -> list[ShardSet]:
        """Training data, and validation data where there is some."""
        return [self.train, *([self.validation] if self.validation else [])]

    @property
    def held_out(self) -> ShardSet:
        """Where the model is asked for predictions: validation data, else that of training."""
        return self.sets[-1]

    @property
    def held_out_window_bp(self) -> int | None:
        """Of those windows where they are cut from the genome, else None."""
        return self.held_out.window_bp if self.held_out.windows == "genome" else None

    @property
    def is_live(self) -> bool:
        """Whether the model computes some of its activations."""
        return any(shard_set.is_live for shard_set in self.sets)

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


class Motifs(Section):
    """`[motifs]`: motif discovery."""

    engine: Literal["builtin", "meme", "streme"] = "builtin"
    executable: UserPath | None = None
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
            warnings.warn(
                "[motifs] device is not looked at any more: motif discovery runs on CPUs, which "
                "were faster than a GPU; delete the line",
                FutureWarning,
                stacklevel=2,
            )
            return {name: value for name, value in values.items() if name != "device"}
        return values

    @model_validator(mode="after")
    def _widths_fit(self) -> Motifs:
        if self.max_width is not None and self.max_width < self.min_width:
            raise ValueError(
                f"max_width = {self.max_width} is less than min_width = {self.min_width}, so that "
                "no motif can be found; raise max_width or lower min_width"
            )
        lowest, highest = ENGINE_WIDTHS[self.engine]
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
    executable: UserPath | None = None
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
    min_recovered: Annotated[float, Field(le=1)] = 0.8
    """Loss recovered against mean ablation, with the SAE in the model."""
