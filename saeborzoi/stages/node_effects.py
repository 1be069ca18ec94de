"""Stage `node_effects`: what a batch of nodes does to the model's outputs."""

from __future__ import annotations

from saeborzoi.effects.loci import find_loci
from saeborzoi.effects.node_effects import N_SHUFFLES, node_effects
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.stages.in_model import in_model


def run(job: Job, progress: Progress = silent) -> Figures:
    """Change each node of the job at its loci; writes a Parquet file, a row a node, way of choosing
    loci and track.

    Returns
    -------
    dict
        n_nodes (that are active somewhere), n_loci, n_predictions, n_sequences.
    """
    effects = job.settings.effects
    with in_model(job) as (model, geometry, sae, sequences, batch_size):
        loci = find_loci(model, geometry, sae, sequences, job.nodes, effects.n_loci, progress)
        n_each = 2 + effects.n_controls + N_SHUFFLES
        progress("nodes changed at their loci", 0, len(loci), f"{n_each} predictions each")
        frame = node_effects(
            model,
            geometry,
            sae,
            sequences,
            loci,
            n_controls=effects.n_controls,
            shuffle_bp=effects.shuffle_bp,
            batch_size=batch_size,
            progress=progress,
        )
        n_sequences = len(sequences)
    with write_file(job.output) as temporary:
        frame.to_parquet(temporary, index=False)
    return {
        "n_nodes": int(frame["node"].nunique()),
        "n_loci": len(loci),
        "n_predictions": n_each * len(loci) + n_sequences,
        "n_sequences": n_sequences,
    }
