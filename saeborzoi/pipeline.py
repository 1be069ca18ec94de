"""The pipeline, declared once: every artifact, what it is made from, and where it goes.

Data only. From it follow Dagster's assets with their dependences and versions, the steps that
`saeborzoi run` and the automation take, the chain of `saeborzoi trace`, which tables hold rows of a
node, the stages that can have a profile, and what the pages are made from. A new artifact has an
entry here, its tables in `catalog/schema.py`, and a module of its name in
`saeborzoi_assets/assets/` (a stage in `stages/` too where it is a job).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Grain = Literal["layer", "sae", "node", "variants", "sae_variants", "project"]
"""What one partition is: a layer, an SAE, a node of an SAE, a set of variants, a set looked at with
an SAE, or the whole project."""

Group = Literal[
    "normalization",
    "activations",
    "windows",
    "held_out",
    "validation",
    "targets",
    "checkpoint",
    "genome",
    "model",
    "variants",
    "annotation",
    "genes",
    "motif_database",
]
"""A group of the user's files; which files it is stands in `settings/user_files.py`."""


Need = Literal["model", "variants"]
"""What the settings must have for an artifact to exist; what has it stands in
`settings/artifacts.py`."""


class Reads(NamedTuple):
    """A group of the user's files that an artifact is made from.

    `when` names a setting and the value that it must have, e.g. ``("motifs.background",
    "genome")``; None where the group is always read.
    """

    group: Group
    when: tuple[str, object] | None = None


class Artifact(NamedTuple):
    """One kind of result.

    Attributes
    ----------
    name
        Of Dagster's asset, its module, its stage, its folder in the store.
    code_version
        Raised where the code's results change.
    grain
        What one partition of it is.
    step
        Step of `saeborzoi run` and the automation that makes it; artifacts of a step follow each
        other here and have one grain.
    needs
        What the settings must have for it to exist, for one of its layers at least; without that
        it is not there: no asset, no step, no input of another. See `settings.artifacts_of`.
    inputs
        Artifacts that it is made from, as far as they exist.
    untrained
        Artifacts of the untrained dictionary of its SAE's layer and shape that it is set against,
        where the project has one and they are whole.
    reads
        Groups of the user's files that it is made from.
    settings
        What of the settings it depends on: name in its version to a path in the settings, e.g.
        ``"data.annotation"``; below ``layer.`` of its layer.
    tables
        Catalogue tables that hold its rows; those that no other artifact writes.
    is_job
        Runs as a job of its own, for which `[compute.profile.<name>]` is.
    has_processes
        Several processes can work on one such job together.
    group, kinds
        Where and how Dagster's interface shows it.
    """

    name: str
    code_version: str
    grain: Grain
    step: str
    needs: tuple[Need, ...] = ()
    inputs: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    reads: tuple[Reads, ...] = ()
    settings: Mapping[str, str] = MappingProxyType({})
    tables: tuple[str, ...] = ()
    is_job: bool = False
    has_processes: bool = False
    group: str = "default"
    kinds: tuple[str, ...] = ("python", "parquet")


_MODEL_SETTINGS = {
    "model": "model",
    "module": "layer.module",
    "pad_bp": "layer.pad_bp",
    "window_bp": "layer.held_out_window_bp",
}
"""Settings that predictions depend on."""
_GEOMETRY = {"pad_bp": "layer.pad_bp", "bp_per_position": "layer.bp_per_position"}
"""Settings that the place of a position on the genome depends on."""
_NAMES = ("seqlets", "meme_motifs", "tomtom_matches", "motif_evidence")
"""What nodes are called rests on these."""
_ON_PAGES = (
    "trained_sae", "top_activations", "seqlets", "meme_motifs", "motif_evidence", "tomtom_matches",
    "umap_embedding", "annotation_overlaps", "jaccard_matrix", "concept_scores", "fidelity",
    "node_effects", "variant_nodes",
)  # fmt: skip
"""What the pages of an SAE show."""

ARTIFACTS = (
    Artifact(
        "normalization_constants",
        code_version="1",
        grain="layer",
        step="normalization",
        reads=(Reads("normalization"),),
        settings={"n_channels": "layer.n_channels"},
        tables=("channel_normalization",),
        is_job=True,
        group="sae",
        kinds=("hdf5", "python"),
    ),
    Artifact(
        "trained_sae",
        code_version="4",
        grain="sae",
        step="training",
        inputs=("normalization_constants",),
        reads=(Reads("activations"), Reads("validation"), Reads("checkpoint")),
        settings={"training": "training"},
        tables=("sae", "training_log"),
        is_job=True,
        has_processes=True,
        group="sae",
        kinds=("torch", "safetensors"),
    ),
    Artifact(
        "top_activations",
        code_version="2",
        grain="sae",
        step="inference",
        inputs=("trained_sae",),
        reads=(Reads("activations"),),
        settings={"selection": "selection"},
        tables=("node",),
        is_job=True,
        group="sae",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "seqlets",
        code_version="2",
        grain="node",
        step="nodes",
        inputs=("top_activations",),
        reads=(Reads("genome"), Reads("windows")),
        settings={
            "selection": "selection",
            "width_bp": "layer.seqlet_width",
            **_GEOMETRY,
        },
        tables=("seqlet", "node_selection"),
        group="motifs",
    ),
    Artifact(
        "meme_motifs",
        code_version="5",
        grain="node",
        step="nodes",
        inputs=("seqlets",),
        reads=(Reads("genome", when=("motifs.background", "genome")),),
        settings={"motifs": "motifs"},
        tables=("motif",),
        is_job=True,
        group="motifs",
    ),
    Artifact(
        "tomtom_matches",
        code_version="3",
        grain="node",
        step="nodes",
        inputs=("meme_motifs",),
        reads=(Reads("motif_database"),),
        settings={"matching": "matching", "databases": "data.motif_database"},
        tables=("motif_match",),
        is_job=True,
        group="motifs",
    ),
    Artifact(
        "concept_scores",
        code_version="4",
        grain="sae",
        step="concepts",
        inputs=("trained_sae", "top_activations"),
        # the windows' ends are where an element may be cut
        reads=(
            Reads("activations"),
            Reads("windows"),
            Reads("validation"),
            Reads("annotation"),
            Reads("genome"),
        ),
        settings={
            "annotation": "data.annotation",
            "seqlet_width_bp": "layer.seqlet_width",
            **_GEOMETRY,
        },
        tables=("concept_score", "concept", "node_profile", "seqlet_activation"),
        is_job=True,
        group="comparison",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "motif_evidence",
        code_version="4",
        grain="sae",
        step="fan-in",
        inputs=("seqlets", "meme_motifs"),
        untrained=("seqlets",),
        # other places of the data are one of its controls
        reads=(Reads("genome"), Reads("windows")),
        settings={
            "strands": "motifs.strands",
            "width_bp": "layer.seqlet_width",
            **_GEOMETRY,
        },
        tables=("motif_evidence",),
        group="motifs",
    ),
    Artifact(
        "annotation_overlaps",
        code_version="3",
        grain="sae",
        step="fan-in",
        inputs=("seqlets", "meme_motifs"),
        # the windows are where the shuffled control may fall
        reads=(Reads("annotation"), Reads("windows"), Reads("genes")),
        settings={
            "overlaps": "overlaps",
            "annotation": "data.annotation",
            "strands": "motifs.strands",
            "engine": "motifs.engine",
        },
        tables=("annotation_overlap", "repeat_class", "seqlet_gene"),
        group="comparison",
    ),
    Artifact(
        "umap_embedding",
        code_version="4",
        grain="sae",
        step="fan-in",
        inputs=(*_NAMES, "annotation_overlaps"),
        settings={"embedding": "embedding"},
        tables=("node_embedding", "embedding_cluster"),
        group="comparison",
    ),
    Artifact(
        "jaccard_matrix",
        code_version="1",
        grain="sae",
        step="fan-in",
        inputs=("seqlets", "motif_evidence"),
        tables=("node_jaccard",),
        group="comparison",
    ),
    Artifact(
        "fidelity",
        code_version="1",
        grain="sae",
        step="effects",
        needs=("model",),
        inputs=("trained_sae",),
        reads=(Reads("genome"), Reads("held_out"), Reads("model"), Reads("targets")),
        settings={
            "n_sequences": "effects.n_sequences",
            "tracks": "effects.tracks",
            **_MODEL_SETTINGS,
        },
        tables=("fidelity", "fidelity_track"),
        is_job=True,
        group="effects",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "node_effects",
        code_version="1",
        grain="sae",
        step="effects",
        needs=("model",),
        # which nodes were selected stands beside the seqlets
        inputs=("trained_sae", "seqlets"),
        reads=(Reads("genome"), Reads("held_out"), Reads("model")),
        settings={"effects": "effects", **_MODEL_SETTINGS},
        tables=("node_effect", "node_effect_summary"),
        is_job=True,
        group="effects",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "variant_effects",
        code_version="1",
        grain="variants",
        step="variant effects",
        needs=("variants",),
        reads=(Reads("genome"), Reads("model"), Reads("variants")),
        settings={
            "variants": "variants",
            "attribution": "attribution",
            "tracks": "effects.tracks",
            "model": "model",
        },
        tables=("variant", "variant_track", "variant_skipped"),
        is_job=True,
        group="effects",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "variant_nodes",
        code_version="2",
        grain="sae_variants",
        step="variants",
        needs=("variants",),
        # matches name the nodes
        inputs=("trained_sae", "meme_motifs", "tomtom_matches", "variant_effects"),
        reads=(Reads("genome"), Reads("model"), Reads("variants")),
        settings={
            "variants": "variants",
            "attribution": "attribution",
            "tracks": "effects.tracks",
            "strands": "motifs.strands",
            "model": "model",
            "module": "layer.module",
        },
        tables=("variant_node",),
        is_job=True,
        group="effects",
        kinds=("torch", "parquet"),
    ),
    Artifact(
        "feature_browser",
        code_version="8",
        grain="sae",
        step="pages",
        inputs=_ON_PAGES,
        reads=(Reads("motif_database"),),
        settings={"genome": "data.genome.name", "motif_database": "data.motif_database"},
        group="pages",
        kinds=("html", "javascript"),
    ),
    Artifact(
        "sae_comparison",
        code_version="6",
        grain="project",
        step="comparison",
        inputs=("trained_sae", "top_activations", *_NAMES, "concept_scores", "fidelity"),
        settings={"comparison": "comparison"},
        tables=("sae_comparison", "baseline_comparison", "sae_stability", "node_recurrence"),
        group="comparison",
    ),
)
"""Every artifact that there can be, in the order in which they are made; which of them a project
has, `saeborzoi.settings.artifacts.artifacts_of` says."""

ARTIFACT = {artifact.name: artifact for artifact in ARTIFACTS}

STAGES = tuple(artifact.name for artifact in ARTIFACTS if artifact.is_job)
"""Artifacts that run as a job of their own, and can have a profile; the others are light."""

JOB_STEPS = frozenset(artifact.step for artifact in ARTIFACTS if artifact.is_job)
"""Steps that wait for a job; the others, light ones, work in the process that runs Dagster."""

NODE_TABLES = tuple(
    table for artifact in ARTIFACTS if artifact.grain == "node" for table in artifact.tables
)
"""Tables of the artifacts that have a partition a node; other tables may have a row a node, too."""

MAKER = {table: artifact.name for artifact in ARTIFACTS for table in artifact.tables}
"""Catalogue table to the artifact whose rows it holds."""
