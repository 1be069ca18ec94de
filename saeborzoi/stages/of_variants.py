"""What stages about variants share: the model, the variants with their neutral changes, and scores
that are kept between jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.catalog.store import Store
from saeborzoi.effects.levels import with_tracks
from saeborzoi.effects.variant_scores import (
    VariantScores,
    chunk_of,
    require_fits,
    variant_scores,
    window_starts,
)
from saeborzoi.files import write_file
from saeborzoi.genome.alleles import allele_letters, neutral_changes
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variants import Variants, read_variants
from saeborzoi.jobs.job import Job, Progress, StageInterrupted, stop_requested
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.settings.load import Settings, VariantSet
from saeborzoi.sources.regions import live_layer

_SEED = 0
_KEPT = "variant_effects"
"""Folder of the project's work where scores are kept, for every SAE's job."""


class SetOfVariants(NamedTuple):
    """A set of the settings, as read.

    Attributes
    ----------
    section
        Its `[[variants]]`.
    variants
        Its variants, and what was skipped.
    controls
        Neutral changes beside them, with `control_of`.
    """

    section: VariantSet
    variants: Variants
    controls: pd.DataFrame

    @property
    def longest_bp(self) -> int:
        """Of all alleles."""
        both = pd.concat([self.variants.table, self.controls])
        return int(max(both["ref"].str.len().max(), both["alt"].str.len().max()))


@contextlib.contextmanager
def opened_model(
    job: Job, weights: str | None
) -> Iterator[tuple[SequenceModel, LayerGeometry, Genome]]:
    """The settings' model with the tracks that are wanted, the job's layer, and the genome.

    Without outputs where it has none, or where the settings say that it does not predict.
    """
    settings = job.settings
    assert settings.model is not None, "an artifact that needs variants"
    torch.set_num_threads(job.threads)
    model, geometry = live_layer(settings.model, job.layer_settings, weights)
    if not settings.model.predicts:
        model = dataclasses.replace(model, outputs=None)
    elif model.outputs is not None:
        model = with_tracks(model, settings.effects.tracks)
    with Genome(settings.data.genome, cache=Store(settings.project.store).genome_cache) as genome:
        yield model, geometry, genome


def sets_of(settings: Settings, genome: Genome, geometry: LayerGeometry) -> list[SetOfVariants]:
    """Every set of the settings.

    Neutral changes lie where no position of the layer sees both them and the variant, as far as the
    layer's positions see a part of the input only.
    """
    far = settings.attribution.control_bp
    near_bp = min(geometry.receptive_field_bp, far // 2)
    sets = []
    for section in settings.variants:
        variants_read = read_variants(
            section.path,
            genome,
            allow_swapped=section.allow_swapped,
            max_allele_bp=section.max_allele_bp,
        )
        controls = neutral_changes(
            genome, variants_read.table, settings.attribution.n_controls, near_bp, far, _SEED
        )
        once = controls.drop_duplicates("variant", ignore_index=True)
        sets.append(SetOfVariants(section, variants_read, once))
    return sets


def scored(
    settings: Settings,
    model: SequenceModel,
    genome: Genome,
    variants: pd.DataFrame,
    progress: Progress,
) -> VariantScores:
    """Scores of variants; each part is kept by what it was made from, so that neither a job that
    was killed nor another SAE's computes it again.

    Raises
    ------
    StageInterrupted
        Where the job is asked to stop; what is done is kept.
    """
    a = settings.attribution
    require_fits(variants, model.input_bp, a.step_bp)
    folder = kept_scores(settings)
    assert model.outputs is not None
    options = [
        model.fingerprint,
        model.dtype,
        model.outputs.tracks,
        a.n_tracks,
        a.span_bp,
        a.step_bp,
    ]
    size = chunk_of(model.input_bp)
    parts = []
    for low in range(0, len(variants), size):
        if stop_requested.is_set():
            raise StageInterrupted(f"{low:,} of {len(variants):,} variants are scored and kept")
        some = variants.iloc[low : low + size]
        start = window_starts(some, model.input_bp, a.step_bp)
        digest = hashlib.blake2b(json.dumps(options).encode(), digest_size=12)
        digest.update("\0".join(some["variant"]).encode())
        digest.update(allele_letters(genome, some, start, model.input_bp).ref.tobytes())
        path = folder / f"{digest.hexdigest()}.parquet"
        if not path.exists():
            done = next(
                variant_scores(
                    model, genome, some, n_tracks=a.n_tracks, span_bp=a.span_bp,
                    step_bp=a.step_bp, batch_size=a.batch_size,
                )
            )  # fmt: skip
            _write(path, done)
        parts.append(_read(path))
        progress("variants scored", min(low + size, len(variants)), len(variants))
    return VariantScores(*(pd.concat(part, ignore_index=True) for part in zip(*parts, strict=True)))


def kept_scores(settings: Settings) -> Path:
    """Folder of scores that jobs share."""
    return Store(settings.project.store).work(PROJECT, _KEPT)


def _write(path: Path, done: VariantScores) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = pd.concat([done.variants.assign(part=0), done.tracks.assign(part=1)])
    with write_file(path) as temporary:
        whole.to_parquet(temporary, index=False)


def _read(path: Path) -> VariantScores:
    whole = pd.read_parquet(path)
    variants = whole.loc[
        whole["part"] == 0, ["variant", "window_start_bp", "n_unknown", "effect_norm"]
    ]
    tracks = whole.loc[
        whole["part"] == 1, ["variant", "rank", "track", "score_ref", "score_alt", "effect"]
    ]
    whole_numbers = {"window_start_bp": np.int64, "n_unknown": np.int64}
    return VariantScores(variants.astype(whole_numbers), tracks.astype({"rank": np.int64}))
