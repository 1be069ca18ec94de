"""Stage `variant_effects`: how far each variant moves the model's outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from saeborzoi.effects.statistics import empirical_p
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, write_artifact
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.stages.of_variants import opened_model, scored, set_of

TABLES = ARTIFACT["variant_effects"].tables
"""Each is a file of that name."""


def run(job: Job, progress: Progress = silent) -> Figures:
    """Read, check and score the job's set; writes `TABLES`.

    Returns
    -------
    dict
        n_variants, n_skipped, n_beyond_controls (q at most 0.05), notes; words (what a track's
        score is).
    """
    from saeborzoi.effects.track_scores import score_of

    settings, words = job.settings, None
    with opened_model(job, None) as (model, geometry, genome):
        of_job = set_of(settings, genome, geometry, model.input_bp)
        table = of_job.variants.table
        summary, tracks = _without_outputs(table)
        if model.outputs is not None:
            done = scored(settings, model, genome, table, progress)
            neutral = scored(settings, model, genome, of_job.controls, progress)
            null = neutral.variants["effect_norm"].to_numpy()
            p = empirical_p(done.variants["effect_norm"].to_numpy(), null)
            summary = done.variants.drop(columns="window_start_bp").assign(
                p_value=p, q_value=stats.false_discovery_control(p)
            )
            tracks = done.tracks
            words = score_of(model, settings.attribution.span_bp).words
    skipped = of_job.variants.skipped
    tables = {
        "variant": table.merge(summary, on="variant"),
        "variant_track": tracks,
        "variant_skipped": skipped.assign(number=np.arange(len(skipped))),
    }
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        for name in TABLES:
            frame = tables[name].assign(variant_set=of_job.section.name)
            frame.to_parquet(output / f"{name}.parquet", index=False)
    return {
        "n_variants": len(table),
        "n_skipped": len(skipped),
        "n_beyond_controls": int((summary["q_value"] <= 0.05).sum()),
        "notes": list(of_job.variants.notes),
        "words": words,
    }


def _without_outputs(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known where only the model's first layers are there."""
    nothing = pd.DataFrame({"variant": table["variant"]})
    nothing = nothing.assign(n_unknown=None, effect_norm=np.nan, p_value=np.nan, q_value=np.nan)
    columns = {"variant": str, "rank": int, "track": str}
    tracks = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    return nothing, tracks.assign(score_ref=0.0, score_alt=0.0, effect=0.0)
