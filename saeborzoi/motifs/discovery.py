"""Motif discovery over nodes: which engine, in processes of one thread.

A node's motifs depend on its own seqlets and the options; never on a seed, the order of the
seqlets' sequences, the other nodes of the batch or the number of processes. The search itself is
loaded where it runs: this module is light.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.errors import ComputeError
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.motifs import engine as builtin
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.pool import SearchPool, search_pool
from saeborzoi.motifs.programs import find_program, program_version

MOTIF_COLUMNS: dict[str, str] = {
    "node": "int32",
    "motif": "int32",
    "consensus": "str",
    "width_bp": "int32",
    "n_sites": "int32",
    "n_effective_sites": "float64",
    "llr": "float64",
    "log10_e_value": "float64",
    "is_significant": "bool",
    "matrix": "object",
    "engine": "str",
    "information_content_bits": "float64",
    "is_palindrome": "bool",
    "suspect": "str",
    "odds_ratio": "float64",
    "odds_ratio_low": "float64",
    "odds_ratio_high": "float64",
    "enrichment_p_value": "float64",
    "activation_spearman": "float64",
}
"""Columns of table `motif` but the key of the SAE, and their types in a frame."""


class _Task(NamedTuple):
    """One node's seqlets, strongest first."""

    node: int
    texts: list[str]
    activation: NDArray[np.float64]


class NodeMotifs(NamedTuple):
    """Motifs of one node.

    Attributes
    ----------
    rows
        One dictionary a motif, keys of `MOTIF_COLUMNS`.
    seconds
        CPU seconds of its thread; wall seconds of an external program.
    """

    node: int
    rows: list[dict[str, Any]]
    seconds: float


def check_discovery_engine(options: DiscoveryOptions) -> str:
    """Engine with its version, as column `engine` says it.

    Raises
    ------
    MissingProgramError
        Where an external engine is asked for and cannot be run.
    """
    if options.engine == "builtin":
        return f"builtin {builtin.VERSION}"
    program = find_program(options.engine, options.executable, "[motifs]", "builtin")
    return f"{options.engine} {program_version(program)}"


def discover(
    seqlets: pd.DataFrame,
    options: DiscoveryOptions = DiscoveryOptions(),  # noqa: B008  (immutable)
    genome: Path | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Motifs of every node that has seqlets.

    Parameters
    ----------
    seqlets
        Columns node, rank, activation, sequence (and more, unused), any order of rows.
    options
        Engine and what it is told.
    genome
        FASTA for `background = "genome"`.
    threads
        Nodes at once, each in a process of its own.

    Returns
    -------
    Columns of `MOTIF_COLUMNS`; nodes ascending, motifs in order of discovery. What needs all
    nodes of the SAE is in `fan_in.fan_in_evidence`.

    Raises
    ------
    MissingProgramError
        Where an external engine cannot be run.
    InputError
        Where a seqlet holds other letters than A, C, G, T.
    """
    n_nodes = seqlets["node"].nunique()
    motifs_of_nodes = []
    with search_pool(threads) as pool:
        for done, node in enumerate(discover_nodes(seqlets, options, genome, pool), 1):
            motifs_of_nodes.append(node)
            progress("motifs", done, n_nodes, f"node {node.node}: {len(node.rows)} motifs")
    return motif_frame(motifs_of_nodes)


def discover_nodes(
    seqlets: pd.DataFrame,
    options: DiscoveryOptions = DiscoveryOptions(),  # noqa: B008  (immutable)
    genome: Path | None = None,
    pool: SearchPool | None = None,
    stop: threading.Event | None = None,
) -> Iterator[NodeMotifs]:
    """As `discover`, node by node as they are done (in any order), in the processes of a pool or
    here; ends early where `stop` is set."""
    engine = check_discovery_engine(options)
    background = None
    if options.background == "genome":
        if genome is None:
            raise ValueError("a background from the genome needs the genome")
        from saeborzoi.motifs.background import genome_frequencies

        background = genome_frequencies(genome)
    tasks = (
        _Task(
            int(node), rows_of_node["sequence"].tolist(), rows_of_node["activation"].to_numpy(float)
        )
        for node, rows in seqlets.groupby("node", sort=True)
        for rows_of_node in [rows.sort_values("rank")]
    )
    work = partial(_timed, options=options, background=background, engine=engine)
    if pool is None:
        for task in tasks:
            if stop is not None and stop.is_set():
                return
            yield work(task)
        return
    try:
        yield from _in_parallel(work, tasks, pool, stop)
    except BrokenProcessPool as error:
        for process in multiprocessing.active_children():
            process.kill()  # the pool asks them with a signal, and would wait for ever
        raise ComputeError(
            "a process of the motif search was killed, mostly because memory ran out: give the "
            "job more memory or fewer CPUs; the nodes that are done are kept"
        ) from error


def _in_parallel(
    work: Callable[[_Task], NodeMotifs],
    tasks: Iterable[_Task],
    pool: SearchPool,
    stop: threading.Event | None,
) -> Iterator[NodeMotifs]:
    """Nodes of tasks as they are done; one a process is under way and one waits, and none is begun
    once `stop` is set."""
    running: set[Future[NodeMotifs]] = set()
    for task in tasks:
        if stop is not None and stop.is_set():
            break
        running.add(pool.executor.submit(work, task))
        if len(running) > pool.n:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    for future in running:
        yield future.result()


def _timed(
    task: _Task,
    options: DiscoveryOptions,
    background: NDArray[np.float64] | None,
    engine: str,
) -> NodeMotifs:
    from saeborzoi.motifs.node_motifs import motifs_of_node

    clock = time.thread_time if options.engine == "builtin" else time.perf_counter
    begun = clock()
    motifs = motifs_of_node(task.node, task.texts, task.activation, options, background, engine)
    return NodeMotifs(task.node, motifs, clock() - begun)


def motif_frame(nodes: list[NodeMotifs]) -> pd.DataFrame:
    """Motifs of some nodes as a frame with the columns and types of `MOTIF_COLUMNS`."""
    rows = [row for node in sorted(nodes, key=lambda n: n.node) for row in node.rows]
    frame = pd.DataFrame(rows, columns=list(MOTIF_COLUMNS))
    return frame.astype({k: v for k, v in MOTIF_COLUMNS.items() if v != "object"})
