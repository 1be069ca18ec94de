"""Stage `variant_effects`: how far each variant moves the model's outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from saeborzoi.effects.statistics import empirical_p
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, write_artifact
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.stages.of_variants import SetOfVariants, opened_model, scored, sets_of

TABLES = ARTIFACT["variant_effects"].tables
"""Each is a file of that name."""


def run(job: Job, progress: Progress = silent) -> Figures:
    """Read, check and score every set; writes `TABLES`.

    Returns
    -------
    dict
        n_variants, n_skipped, n_beyond_controls (q at most 0.05), notes; words (what a track's
        score is).
    """
    from saeborzoi.effects.track_scores import score_of

    settings = job.settings
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    notes = []
    with opened_model(job, None) as (model, geometry, genome):
        for each in sets_of(settings, genome, geometry, model.input_bp):
            name = each.section.name
            notes += [f"{name}: {note}" for note in each.variants.notes]
            skipped = each.variants.skipped.assign(number=np.arange(len(each.variants.skipped)))
            frames["variant_skipped"].append(skipped.assign(variant_set=name))
            summary, tracks = _without_outputs(each)
            if model.outputs is not None:
                done = scored(settings, model, genome, each.variants.table, progress)
                neutral = scored(settings, model, genome, each.controls, progress)
                null = neutral.variants["effect_norm"].to_numpy()
                p = empirical_p(done.variants["effect_norm"].to_numpy(), null)
                summary = done.variants.drop(columns="window_start_bp").assign(
                    p_value=p, q_value=stats.false_discovery_control(p)
                )
                tracks = done.tracks
            frames["variant"].append(
                each.variants.table.merge(summary, on="variant").assign(variant_set=name)
            )
            frames["variant_track"].append(tracks.assign(variant_set=name))
        words = (
            None if model.outputs is None else score_of(model, settings.attribution.span_bp).words
        )
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        for name, frame in tables.items():
            frame.to_parquet(output / f"{name}.parquet", index=False)
    return {
        "n_variants": len(tables["variant"]),
        "n_skipped": len(tables["variant_skipped"]),
        "n_beyond_controls": int((tables["variant"]["q_value"] <= 0.05).sum()),
        "notes": notes,
        "words": words,
    }


def _without_outputs(each: SetOfVariants) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known where only the model's first layers are there."""
    nothing = pd.DataFrame({"variant": each.variants.table["variant"]})
    nothing = nothing.assign(n_unknown=None, effect_norm=np.nan, p_value=np.nan, q_value=np.nan)
    columns = {"variant": str, "rank": int, "track": str}
    tracks = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    return nothing, tracks.assign(score_ref=0.0, score_alt=0.0, effect=0.0)
