"""What stages about variants share: the model, the variants with their neutral changes, and parts
of their results that are kept between jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

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
from saeborzoi.genome.variants import Variants
from saeborzoi.jobs.job import Job, Progress, StageInterrupted, stop_requested
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.load import Settings, VariantSet
from saeborzoi.sources.regions import live_layer
from saeborzoi.sources.variants import variants_of

_SEED = 0
_KEPT = "variant_effects"
"""Whose work scores are, for every SAE's job."""
_OF_VARIANTS = {
    "variant": object, "window_start_bp": np.int64, "n_unknown": np.int64, "effect_norm": float,
}  # fmt: skip
_OF_TRACKS = {
    "variant": object, "rank": np.int64, "track": object, "score_ref": float, "score_alt": float,
    "effect": float,
}  # fmt: skip


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


def set_of(
    settings: Settings, genome: Genome, geometry: LayerGeometry, input_bp: int
) -> SetOfVariants:
    """The set of a job's settings, refused where an allele leaves no room in the model's input.

    Neutral changes lie where no position of the layer sees both them and the variant, as far as the
    layer's positions see a part of the input only.
    """
    (section,) = settings.variants  # a job has the settings of its partition's set alone
    far = settings.attribution.control_bp
    near_bp = min(geometry.receptive_field_bp, far // 2)
    variants = variants_of(section, genome)
    require_fits(variants.table, input_bp, settings.attribution.step_bp)
    controls = neutral_changes(
        genome, variants.table, settings.attribution.n_controls, near_bp, far, _SEED
    )
    return SetOfVariants(section, variants, controls.drop_duplicates("variant", ignore_index=True))


class KeptParts:
    """Parts of a result, each a file named by what it was made from: neither a job that was killed
    nor one with another set beside computes them again.

    Parameters
    ----------
    folder
        Where they lie.
    asset
        Whose code makes them: of another code version they are computed anew.
    made_from
        Everything that a part depends on beside its variants and their sequence.
    """

    def __init__(self, folder: Path, asset: str, *made_from: object) -> None:
        self._folder = folder
        self._made_from = json.dumps([ARTIFACT[asset].code_version, *made_from]).encode()
        self._used: set[Path] = set()

    def part(
        self,
        variants: pd.DataFrame,
        letters: NDArray[np.uint8],
        compute: Callable[[], pd.DataFrame],
    ) -> pd.DataFrame:
        """The rows of some variants: those that are kept, else computed and kept.

        Parameters
        ----------
        variants
            All that is known of them; each row counts.
        letters
            (n, n_bp) uint8, the genome in their windows.
        """
        digest = hashlib.blake2b(self._made_from, digest_size=12)
        digest.update(variants.to_csv(index=False, float_format="%.17g").encode())
        digest.update(letters.tobytes())
        path = self._folder / f"{digest.hexdigest()}.parquet"
        self._used.add(path)
        if not path.exists():
            rows = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_file(path) as temporary:
                rows.to_parquet(temporary, index=False)
        return pd.read_parquet(path)

    def forget_others(self) -> None:
        """Remove the parts that nobody asked for: of variants, settings or code that are gone."""
        for path in set(self._folder.glob("*.parquet")) - self._used:
            path.unlink(missing_ok=True)


def require_going_on(what: str) -> None:
    """Raise where the job is asked to stop; `what` says what is kept.

    Raises
    ------
    StageInterrupted
        The same job run again goes on from there.
    """
    if stop_requested.is_set():
        raise StageInterrupted(what)


def scored(
    settings: Settings,
    model: SequenceModel,
    genome: Genome,
    variants: pd.DataFrame,
    progress: Progress,
) -> VariantScores:
    """Scores of variants; each part is kept, for the jobs of other SAEs as well.

    Raises
    ------
    StageInterrupted
        Where the job is asked to stop; what is done is kept.
    """
    a = settings.attribution
    assert model.outputs is not None
    kept = KeptParts(
        Store(settings.project.store).work(PROJECT, _KEPT), _KEPT, model.fingerprint, model.dtype,
        model.outputs.tracks, a.n_tracks, a.span_bp, a.step_bp,
    )  # fmt: skip
    size = chunk_of(model.input_bp)
    parts = []
    if variants.empty:  # as neutral changes where the genome has no room for them
        parts.append(_apart(pd.DataFrame(columns=["part", *(_OF_VARIANTS | _OF_TRACKS)])))
    for low in range(0, len(variants), size):
        require_going_on(f"{low:,} of {len(variants):,} variants are scored and kept")
        some = variants.iloc[low : low + size]
        start = window_starts(some, model.input_bp, a.step_bp)

        def compute(some: pd.DataFrame = some) -> pd.DataFrame:
            done = next(
                variant_scores(
                    model, genome, some, n_tracks=a.n_tracks, span_bp=a.span_bp,
                    step_bp=a.step_bp, batch_size=a.batch_size,
                )
            )  # fmt: skip
            return pd.concat([done.variants.assign(part=0), done.tracks.assign(part=1)])

        letters = allele_letters(genome, some, start, model.input_bp).ref
        parts.append(_apart(kept.part(some[["variant"]], letters, compute)))
        progress("variants scored", min(low + size, len(variants)), len(variants))
    return VariantScores(*(pd.concat(part, ignore_index=True) for part in zip(*parts, strict=True)))


def _apart(whole: pd.DataFrame) -> VariantScores:
    variants = whole.loc[whole["part"] == 0, list(_OF_VARIANTS)]
    tracks = whole.loc[whole["part"] == 1, list(_OF_TRACKS)]
    return VariantScores(variants.astype(_OF_VARIANTS), tracks.astype(_OF_TRACKS))
