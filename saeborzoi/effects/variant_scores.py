"""How far a variant moves a model's outputs.

Both alleles are predicted in a window around the variant and reduced at once: of ten thousand
variants on thousands of tracks some megabytes are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from saeborzoi.effects.track_scores import TrackScore, score_of
from saeborzoi.effects.variant_layer import same_size
from saeborzoi.errors import InputError
from saeborzoi.genome.alleles import allele_letters
from saeborzoi.genome.fasta import Genome
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.layer import one_hot
from saeborzoi.models.model import SequenceModel

_CHUNK_BP, _MAX_CHUNK = 1 << 25, 512
_N = ord("N")


class VariantScores(NamedTuple):
    """What some variants do to a model's outputs.

    Attributes
    ----------
    variants
        One row a variant: variant, window_start_bp (of the model's input), n_unknown (its letters
        that are none of A, C, G, T, as beyond a chromosome's end), effect_norm (Euclidean norm of
        the effects over all tracks).
    tracks
        The strongest tracks of each: variant, rank (1 ...), track, score_ref, score_alt, effect
        (alt - ref; see `TrackScore` for the scale).
    """

    variants: pd.DataFrame
    tracks: pd.DataFrame


def chunk_of(input_bp: int) -> int:
    """Variants of one part of the result: as many as have windows of 32 Mb, at most 512."""
    return max(1, min(_MAX_CHUNK, _CHUNK_BP // input_bp))


def window_starts(variants: pd.DataFrame, input_bp: int, step_bp: int = 1) -> NDArray[np.int64]:
    """(n,) starts of the windows in which variants are looked at; may lie before the chromosome.

    The variant is in the middle, or with `step_bp` up to half a step beside it, so that variants of
    one step share a window.
    """
    middle = (variants["start_bp"] + variants["end_bp"]).to_numpy(np.int64) // 2
    return middle // step_bp * step_bp + step_bp // 2 - input_bp // 2


def variant_scores(
    model: SequenceModel,
    genome: Genome,
    variants: pd.DataFrame,
    *,
    n_tracks: int = 10,
    span_bp: int = 2048,
    step_bp: int = 1,
    batch_size: int = 16,
    progress: Progress = silent,
) -> Iterator[VariantScores]:
    """Effects of variants, in parts of `chunk_of`.

    Parameters
    ----------
    variants
        `Variants.table`, or the same of controls.
    n_tracks
        The strongest tracks that are kept of each.
    span_bp, step_bp
        See `TrackScore` and `window_starts`.
    batch_size
        Sequences that the model takes at once; always so many, as last bits depend on it.

    Raises
    ------
    InputError
        Where the model has no outputs, a variant is longer than half of its input, or predictions
        are not finite.
    """
    score = score_of(model, span_bp)
    require_fits(variants, model.input_bp, step_bp)
    assert model.outputs is not None
    names = np.array(model.outputs.tracks, object)
    size = chunk_of(model.input_bp)
    for low in range(0, len(variants), size):
        part = variants.iloc[low : low + size]
        start = window_starts(part, model.input_bp, step_bp)
        letters = allele_letters(genome, part, start, model.input_bp)
        ref = _ref_scores(model, score, part, start, letters.ref, batch_size)
        alt = scores(model, score, letters.alt, batch_size)
        yield _strongest(part, start, letters.ref, ref, alt, names, n_tracks)
        progress("variants", min(low + size, len(variants)), len(variants))


def require_fits(variants: pd.DataFrame, input_bp: int, step_bp: int) -> None:
    """Refuse alleles that leave no room for the sequence around them.

    Raises
    ------
    InputError
        Names the variant.
    """
    longest = np.maximum(variants["ref"].str.len(), variants["alt"].str.len()).to_numpy(np.int64)
    wide = longest + step_bp > input_bp // 2
    if wide.any():
        i = int(wide.argmax())
        raise InputError(
            f"variant {variants['variant'].iloc[i][:60]}: {longest[i]:,} bp and steps of "
            f"{step_bp:,} bp are more than half of the model's input of {input_bp:,} bp; set a "
            "smaller max_allele_bp or step_bp of its [[variants]]"
        )


def scores(
    model: SequenceModel, score: TrackScore, letters: NDArray[np.uint8], batch_size: int
) -> NDArray[np.float64]:
    """(n, n_tracks) float64 of sequences (n, input_bp).

    Raises
    ------
    InputError
        Where a prediction is not finite.
    """
    parts = []
    for low in range(0, len(letters), batch_size):
        some = letters[low : low + batch_size]
        with torch.no_grad():
            parts.append(
                score(model.predict(same_size(one_hot(some), batch_size)))[: len(some)].cpu()
            )
    whole = torch.cat(parts).numpy()
    if not np.isfinite(whole).all():
        raise InputError(
            "predictions hold NaN or infinity, so that no effect can be told; set "
            'dtype = "float32" in [model], or fix the model'
        )
    return whole


def _ref_scores(
    model: SequenceModel,
    score: TrackScore,
    part: pd.DataFrame,
    start: NDArray[np.int64],
    letters: NDArray[np.uint8],
    batch_size: int,
) -> NDArray[np.float64]:
    """As `scores`; a window that several variants share is predicted once."""
    window = pd.MultiIndex.from_arrays([part["chrom"], start])
    code, _ = pd.factorize(window)
    first = np.unique(code, return_index=True)[1]
    return scores(model, score, letters[first], batch_size)[code]


def _strongest(
    part: pd.DataFrame,
    start: NDArray[np.int64],
    letters: NDArray[np.uint8],
    ref: NDArray[np.float64],
    alt: NDArray[np.float64],
    names: NDArray[np.object_],
    n_tracks: int,
) -> VariantScores:
    effect = alt - ref
    kept = np.argsort(-np.abs(effect), axis=1, kind="stable")[:, :n_tracks]
    n, k = kept.shape

    def chosen(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(values, kept, axis=1).ravel()

    variant = part["variant"].to_numpy(object)
    tracks = pd.DataFrame(
        {
            "variant": np.repeat(variant, k),
            "rank": np.tile(np.arange(1, k + 1), n),
            "track": names[kept.ravel()],
            "score_ref": chosen(ref),
            "score_alt": chosen(alt),
            "effect": chosen(effect),
        }
    )
    summary = pd.DataFrame(
        {
            "variant": variant,
            "window_start_bp": start,
            "n_unknown": (letters == _N).sum(1),
            "effect_norm": np.linalg.norm(effect, axis=1),
        }
    )
    return VariantScores(summary, tracks)
