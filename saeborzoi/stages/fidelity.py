"""Stage `fidelity`: does the model still work with the SAE in the place of its layer?"""

from __future__ import annotations

import numpy as np

from saeborzoi.effects.fidelity import OF_TARGETS, fidelity
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, write_artifact
from saeborzoi.models.splice import Splice, bypass
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.stages.in_model import in_model


def run(job: Job, progress: Progress = silent) -> Figures:
    """Measure on the held-out sequences; writes a file for each of its catalogue tables.

    Returns
    -------
    dict
        n_sequences, n_tracks, n_left_out (sequences with N), bypass (see `splice.bypass`, of the
        first and the last sequence, mean over tracks), and of the SAE r, r_log, r_published,
        the same against targets, recovered_mean, recovered_zero.
    """
    with in_model(job, with_targets=True) as (model, geometry, sae, sequences, _):
        measured = fidelity(model, geometry, sae, sequences, progress=progress)
        n_left_out = sequences.n_left_out
        first, last = sequences.one_hot(0), sequences.one_hot(len(sequences) - 1)
        past = bypass(Splice(model, geometry), first, last)
    # a track that is the same for both sequences says nothing
    share_past = float(np.nanmean(past)) if np.isfinite(past).any() else float("nan")
    assert model.outputs is not None
    n_tracks = len(model.outputs.tracks)
    over_all = measured.over_all.assign(
        n_sequences=measured.n_sequences,
        n_tracks=n_tracks,
        loss_name=measured.loss,
        loss_against=measured.loss_against,
        log_scale=measured.log_scale,
        bypass=share_past,
    )
    per_track = measured.per_track
    for name in OF_TARGETS:
        if name not in over_all:
            over_all[name] = per_track[name] = np.nan
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        for name, frame in zip(ARTIFACT["fidelity"].tables, (over_all, per_track), strict=True):
            frame.to_parquet(output / f"{name}.parquet", index=False)
    of_sae = over_all.set_index("splice").loc["sae"]
    return {
        "n_sequences": measured.n_sequences,
        "n_tracks": n_tracks,
        "n_left_out": n_left_out,
        "bypass": share_past,
        **{
            name: float(of_sae[name])
            for name in (
                "r",
                "r_log",
                "r_published",
                *OF_TARGETS,
                "recovered_mean",
                "recovered_zero",
            )
        },
    }
