"""Stage `tomtom_matches`: known motifs that each discovered motif looks like."""

from __future__ import annotations

import pandas as pd

from saeborzoi.files import write_file
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.motifs.databases import load_databases
from saeborzoi.motifs.matching import check_matching_engine, match


def run(job: Job, progress: Progress = silent) -> Figures:
    """Match the motifs of `inputs["motif"]`; writes a Parquet file.

    Returns
    -------
    dict
        n_motifs, n_matches (significant), n_nodes_with_match, engine, n_targets of each database.

    Raises
    ------
    InputError
        Where a database is unusable.
    MissingProgramError
        Where tomtom is asked for and cannot be run.
    """
    options = job.settings.matching
    engine = check_matching_engine(options.engine, options.executable)
    databases = load_databases(job.settings.data.motif_sources)
    columns = ["node", "motif", "matrix", "n_sites", "is_significant"]
    motifs = pd.read_parquet(job.inputs["motif"], columns=columns)
    motifs = motifs[motifs["node"].isin(job.nodes)] if job.nodes else motifs
    progress("matching", 0, len(motifs))
    matches = match(motifs, databases, **options.model_dump(), threads=job.threads)
    progress("matching", len(motifs), len(motifs))
    with write_file(job.output) as temporary:
        matches.to_parquet(temporary, index=False)
    significant = matches[matches["is_significant"]]
    return {
        "n_motifs": len(motifs),
        "n_matches": len(significant),
        "n_nodes_with_match": int(significant["node"].nunique()),
        "engine": engine,
        "n_targets": {database.name: len(database.motifs) for database in databases},
    }
