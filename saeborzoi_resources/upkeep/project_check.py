"""Checks of a whole project, in seconds and before any work: what `saeborzoi check` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.settings.artifacts import NEED, artifacts_of
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Annotation, Layer, MotifDatabase, ShardSet
from saeborzoi.settings.variant_sections import VariantSet
from saeborzoi_resources.finding import Finding

_REASONS = 5
"""Why variants are skipped: so many reasons are named, those of most variants."""


def check_project(settings: Settings) -> Iterator[Finding]:
    """Look at everything that the settings name; each finding comes as soon as it is known.

    Nothing is written but a test file in the store and the genome's index in its cache.
    """
    store = Store(settings.project.store)
    writable = _finding("store", partial(_store, store))
    yield writable
    # without a store the genome's index goes to a temporary folder
    cache = store.genome_cache if writable.ok else None
    sizes: dict[str, int] = {}
    yield _finding("genome", partial(_genome, settings.data.genome, cache, sizes))
    for layer in settings.layer:
        for name, shard_set in (("train", layer.train), ("validation", layer.validation)):
            if shard_set is None:
                continue
            if not shard_set.is_live:
                yield _finding(
                    f"layer {layer.name}, {name} shards",
                    partial(_shards, layer, shard_set),
                )
            yield _finding(
                f"layer {layer.name}, {name} windows",
                partial(_windows, shard_set, sizes, settings.data.genome, cache),
            )
        if layer.channel_max is not None:
            yield _finding(
                f"layer {layer.name}, channel_max",
                partial(_channel_max, layer.channel_max, layer.n_channels),
            )
    answer: dict[str, Any] = {}
    if settings.model is not None:
        computed = [layer for layer in settings.layer if layer.is_live or layer.module]
        place = (settings.data.genome, cache) if sizes else None
        yield from _model(settings.model, computed, place, answer)
    for layer in settings.layer:
        if layer.held_out.targets is not None:
            yield _finding(
                f"layer {layer.name}, targets",
                partial(_targets, layer.held_out, settings, answer.get("predicts")),
            )
    for variant_set in settings.variants:
        yield _finding(
            f"variants {variant_set.name}",
            partial(_variants, variant_set, settings, cache, answer.get("input_bp")),
        )
    for hyperparameters in settings.wanted():
        checkpoint = settings.checkpoint_of(hyperparameters)
        if checkpoint is not None:
            yield _finding(
                f"checkpoint of {hyperparameters.key}",
                partial(_checkpoint, settings, hyperparameters, checkpoint),
            )
    for annotation in settings.data.annotation:
        yield _finding(
            f"annotation {annotation.name}",
            partial(_annotation, annotation, sizes),
        )
    if settings.data.genes is not None:
        yield _finding("genes", partial(_genes, settings.data.genes, sizes))
    for database in settings.data.motif_database:
        yield _finding(
            f"motif database {database.name}",
            partial(_database, database),
        )
    yield _finding(f"motif engine {settings.motifs.engine}", partial(_engines, settings))


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except SaeBorzoiError as error:
        return Finding(what, False, str(error))


def _store(store: Store) -> str:
    store.require_writable()
    return f"{store.root} can be written"


def _genome(path: Path, cache: Path | None, sizes: dict[str, int]) -> str:
    from saeborzoi.genome.coordinates import Genome

    with Genome(path, cache=cache) as genome:
        sizes.update(genome.chrom_sizes)
    return f"{len(sizes)} sequences, {sum(sizes.values()):,} bp"


def _shards(layer: Layer, shard_set: ShardSet) -> str:
    from saeborzoi.activations.values import check_shards

    shards, windows = shard_set.folder_and_windows
    folder, note = check_shards(shards, windows, n_channels=layer.n_channels, **layer.geometry)
    return (
        f"{len(folder.shards)} shards, {folder.n_sequences} sequences of {folder.n_positions} "
        f"positions, {folder.dtype}{f'; {note}' if note else ''}"
    )


def _windows(shard_set: ShardSet, sizes: dict[str, int], genome: Path, cache: Path | None) -> str:
    from saeborzoi.genome.coordinates import Genome, read_windows, require_inside
    from saeborzoi.genome.windows import windows_of

    if shard_set.windows == "genome":
        with Genome(genome, cache=cache) as opened:
            windows = windows_of(genome=opened, **shard_set.where)
            return f"{len(windows):,} windows of {shard_set.window_bp:,} bp"
    path = shard_set.windows
    windows = read_windows(path)
    if sizes:
        require_inside(path, windows.chrom, windows.start_bp, windows.end_bp, windows.line, sizes)
    return f"{len(windows)} windows" + ("" if sizes else "; not compared with the genome")


def _model(
    model: Model,
    layers: Sequence[Layer],
    genome: tuple[Path, Path | None] | None,
    answer: dict[str, Any],
) -> Iterator[Finding]:
    """The model, loaded in a process of its own, and each layer that it computes, whose shards are
    compared with it on the genome; `answer` gets what it says."""
    from saeborzoi.sources.ask import ask_model

    def look() -> str:
        answer.update(ask_model(model, layers, genome=genome))
        return f"{answer['n_parameters']:,} parameters, fingerprint {answer['fingerprint']}"

    yield _finding(f"model {model.loader}", look)
    for layer in answer.get("checked", []):
        yield Finding(f"layer {layer['name']}, module", layer["ok"], layer["detail"])


def _variants(
    section: VariantSet, settings: Settings, cache: Path | None, input_bp: int | None
) -> str:
    """As the run reads them: what it would refuse is refused here, what it would skip is told."""
    from saeborzoi.effects.variant_scores import require_fits
    from saeborzoi.genome.coordinates import Genome
    from saeborzoi.sources.variants import variants_of

    if not any(artifact.name == "variant_effects" for artifact in artifacts_of(settings)):
        raise InputError(f"nothing is made of {section.path}: needed are {NEED['variants']}")
    with Genome(settings.data.genome, cache=cache) as genome:
        table, skipped, notes = variants_of(section, genome)
    if input_bp is not None:
        require_fits(table, input_bp, settings.attribution.step_bp)
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in table["kind"].value_counts().items())
    reasons = skipped.groupby("reason")["line"].agg(["size", "first"]).nlargest(_REASONS, "size")
    named = [
        f"{n:,} skipped, as in line {line}: {reason}" for reason, n, line in reasons.itertuples()
    ]
    return "; ".join([f"{len(table):,} variants ({kinds})", *notes, *named])


def _targets(shard_set: ShardSet, settings: Settings, predicts: dict[str, Any] | None) -> str:
    """As `fidelity` opens them."""
    from saeborzoi.effects.levels import chosen_tracks
    from saeborzoi.effects.targets import open_targets
    from saeborzoi.genome.coordinates import read_windows
    from saeborzoi.models.model import Outputs

    assert shard_set.targets is not None
    if predicts is None:
        raise InputError(f"{shard_set.targets}: there is no model that predicts what was measured")
    outputs = Outputs(**predicts)
    tracks = [outputs.tracks[i] for i in chosen_tracks(outputs.tracks, settings.effects.tracks)]
    assert isinstance(shard_set.windows, Path), "validated"
    n_windows = len(read_windows(shard_set.windows))
    with open_targets(shard_set.targets, n_windows, outputs, tracks) as targets:
        n_windows, n_bins, n_tracks = targets.dataset.shape
    return f"{n_windows:,} windows, {n_bins:,} bins, {n_tracks:,} tracks"


def _channel_max(path: Path, n_channels: int) -> str:
    from saeborzoi.activations.normalization import read_channel_max

    read_channel_max(path, n_channels)
    return f"{n_channels} channels"


def _checkpoint(settings: Settings, hyperparameters: Hyperparameters, path: Path) -> str:
    from saeborzoi.sae.checkpoint import import_published, load_checkpoint

    n_channels = settings.layer_named(hyperparameters.layer).n_channels
    notes: list[str] = []
    if path.is_dir():
        sae = load_checkpoint(path, n_channels)
    else:
        sae = import_published(path, hyperparameters.k(n_channels), n_channels, notes)
    n_nodes = hyperparameters.n_nodes(n_channels)
    if sae.n_nodes != n_nodes:
        raise InputError(
            f"{path}: {sae.n_nodes} nodes, but expansion {hyperparameters.expansion} of "
            f"{n_channels} channels is {n_nodes}; fix expansion in its [[sae]]"
        )
    return "; ".join([f"{sae.n_nodes} nodes", *notes])


def _annotation(annotation: Annotation, sizes: dict[str, int]) -> str:
    from saeborzoi.genome.coordinates import read_bed, require_annotation_fits

    table = read_bed(annotation.path, annotation.class_column)
    detail = f"{len(table):,} rows, {table['annotation_class'].nunique()} classes"
    if not sizes:
        return detail
    passed_over = require_annotation_fits(annotation.path, table, sizes)
    if passed_over:
        detail += f"; {passed_over:,} rows on chromosomes that the genome lacks are passed over"
    return detail


def _genes(path: Path, sizes: dict[str, int]) -> str:
    from saeborzoi.genome.genes import read_genes, require_genes_fit

    genes = read_genes(path)
    detail = f"{len(genes):,} genes"
    passed_over = require_genes_fit(path, genes, sizes) if sizes else 0
    if passed_over:
        detail += f"; {passed_over:,} on chromosomes that the genome lacks are passed over"
    return detail


def _database(database: MotifDatabase) -> str:
    from saeborzoi.motifs.databases import load_database

    return f"{len(load_database(database.name, database.source).motifs):,} motifs"


def _engines(settings: Settings) -> str:
    from saeborzoi.motifs.discovery import check_discovery_engine
    from saeborzoi.motifs.matching import check_matching_engine
    from saeborzoi.motifs.options import DiscoveryOptions

    check_discovery_engine(DiscoveryOptions(**settings.motifs.model_dump()))
    check_matching_engine(settings.matching.engine, settings.matching.executable)
    return f"discovery {settings.motifs.engine}, matching {settings.matching.engine}"
