"""Stage `meme_motifs`: motifs of a batch of nodes, restartable node by node."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.files import write_file
from saeborzoi.jobs.fingerprint import fingerprint_of
from saeborzoi.jobs.job import Figures, Job, Progress, StageInterrupted, silent, stop_requested
from saeborzoi.motifs.discovery import (
    NodeMotifs,
    check_discovery_engine,
    discover_nodes,
    motif_frame,
)
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.pool import SearchPool, search_pool

_DONE = "motifs.jsonl"


def run(job: Job, progress: Progress = silent) -> Figures:
    """Find the motifs of every node of `inputs["seqlet"]`; writes a Parquet file.

    What is done is kept in `job.work`, a line a node: the same job run again goes on from there.

    Returns
    -------
    dict
        n_nodes, n_nodes_with_motif, n_motifs (significant ones), seconds_per_node, engine.

    Raises
    ------
    MissingProgramError
        Where an external engine cannot be run.
    StageInterrupted
        Where the stage was asked to stop; what is done is kept.
    """
    options = DiscoveryOptions(**job.settings.motifs.model_dump())
    engine = check_discovery_engine(options)
    with search_pool(job.threads) as pool:  # before anything here starts threads
        return _run(job, progress, options, engine, pool)


def _run(
    job: Job, progress: Progress, options: DiscoveryOptions, engine: str, pool: SearchPool | None
) -> Figures:
    seqlets = pd.read_parquet(
        job.inputs["seqlet"], columns=["node", "rank", "activation", "sequence"]
    )
    seqlets = seqlets[seqlets["node"].isin(job.nodes)] if job.nodes else seqlets
    what = fingerprint_of(
        [
            job.settings.motifs.of_result(),
            engine,
            pd.util.hash_pandas_object(seqlets, index=False).sum().item(),
        ]
    )
    journal = job.work / _DONE
    done = _read(journal, what)
    todo = seqlets[~seqlets["node"].isin([node.node for node in done])]
    n_nodes = seqlets["node"].nunique()
    job.work.mkdir(parents=True, exist_ok=True)
    with journal.open("w") as lines:
        for node in done:
            lines.write(_line(node, what))
        for node in discover_nodes(todo, options, job.settings.data.genome, pool, stop_requested):
            done.append(node)
            lines.write(_line(node, what))
            lines.flush()
            progress("motifs", len(done), n_nodes, f"node {node.node}")
    if len(done) < n_nodes:
        raise StageInterrupted(
            f"{job.job_id}: stopped after {len(done)} of {n_nodes} nodes; run the same job again "
            "to go on"
        )
    frame = motif_frame(done)
    with write_file(job.output) as temporary:
        frame.to_parquet(temporary, index=False)
    journal.unlink()
    significant = frame[frame["is_significant"]]
    seconds = [node.seconds for node in done]
    return {
        "n_nodes": n_nodes,
        "n_nodes_with_motif": int(significant["node"].nunique()),
        "n_motifs": len(significant),
        "seconds_per_node": float(np.mean(seconds)) if seconds else 0.0,
        "engine": engine,
    }


def _line(node: NodeMotifs, what: str) -> str:
    """One node as a line of the journal; nan as null."""
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in node.rows
    ]
    return json.dumps({"of": what, "node": node.node, "s": node.seconds, "rows": rows}) + "\n"


def _read(journal: Path, what: str) -> list[NodeMotifs]:
    """Nodes of an earlier, interrupted run of the same job; half a last line is left out."""
    if not journal.is_file():
        return []
    done = []
    for line in journal.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["of"] == what:
            done.append(NodeMotifs(entry["node"], entry["rows"], entry["s"]))
    return done
