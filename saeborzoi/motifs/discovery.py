"""Motif discovery over nodes: which engine, on threads.

A node's motifs depend on its own seqlets and the options; never on a seed, the order of the
seqlets' sequences, the other nodes of the batch or the number of threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.jobs.job import Progress, silent
from saeborzoi.motifs import properties
from saeborzoi.motifs.engine.copies import copy_weights
from saeborzoi.motifs.evidence import NodeEvidence, independent_sites, node_evidence
from saeborzoi.motifs.meme import run_program
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.programs import find_program, program_version
from saeborzoi.motifs.sequences import Found, Sequences, encode, letter_frequencies

MIN_ODDS_RATIO_LOW = 1.5
"""Odds against shuffled seqlets, lower end of the interval, that clear a motif of few letters."""
MAX_WIDTH = 50
"""Widest motif where nothing else is asked for, MEME's default."""

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


class NodeMotifs(NamedTuple):
    """Motifs of one node.

    Attributes
    ----------
    rows
        One dictionary a motif, keys of `MOTIF_COLUMNS`.
    seconds
        CPU seconds of this thread; wall seconds of an external program.
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
        from saeborzoi.motifs.engine.builtin import VERSION

        return f"builtin {VERSION}"
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
        Nodes at once.

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
    found = []
    for done, node in enumerate(discover_nodes(seqlets, options, genome, threads), 1):
        found.append(node)
        progress("motifs", done, n_nodes, f"node {node.node}: {len(node.rows)} motifs")
    return motif_frame(found)


def discover_nodes(
    seqlets: pd.DataFrame,
    options: DiscoveryOptions = DiscoveryOptions(),  # noqa: B008  (immutable)
    genome: Path | None = None,
    threads: int = 1,
    stop: threading.Event | None = None,
) -> Iterator[NodeMotifs]:
    """As `discover`, node by node as they are done (in any order); ends early where `stop` is
    set."""
    engine = check_discovery_engine(options)
    background = None
    if options.background == "genome":
        if genome is None:
            raise ValueError("a background from the genome needs the genome")
        from saeborzoi.motifs.background import genome_frequencies

        background = genome_frequencies(genome)
    wall = options.engine != "builtin"
    tasks = (
        partial(_timed, node, rows, options, background, engine, wall)
        for node, rows in seqlets.groupby("node", sort=True)
    )
    # the engine's heavy loops release the interpreter's lock (or run in another process)
    with ThreadPoolExecutor(max(threads, 1)) as workers:
        yield from _in_parallel(tasks, workers, threads, stop)


def _in_parallel(
    tasks: Iterable[Callable[[], NodeMotifs]],
    pool: ThreadPoolExecutor,
    n_ahead: int,
    stop: threading.Event | None,
) -> Iterator[NodeMotifs]:
    """Results of tasks in the order in which they finish.

    At most `n_ahead` tasks run or wait in the pool beside the one that is waited for; once `stop`
    is set no further task is started.
    """
    running: set[Future[NodeMotifs]] = set()
    for task in tasks:
        if stop is not None and stop.is_set():
            break
        running.add(pool.submit(task))
        if len(running) > n_ahead:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    for future in running:
        yield future.result()


def motif_frame(nodes: list[NodeMotifs]) -> pd.DataFrame:
    """Motifs of some nodes as a frame with the columns and types of `MOTIF_COLUMNS`."""
    rows = [row for node in sorted(nodes, key=lambda n: n.node) for row in node.rows]
    frame = pd.DataFrame(rows, columns=list(MOTIF_COLUMNS))
    return frame.astype({k: v for k, v in MOTIF_COLUMNS.items() if v != "object"})


def _timed(
    node: Any,
    rows: pd.DataFrame,
    options: DiscoveryOptions,
    background: NDArray[np.float64] | None,
    engine: str,
    wall: bool,
) -> NodeMotifs:
    clock = time.perf_counter if wall else time.thread_time
    begun = clock()
    motifs = _node_motifs(node, rows, options, background, engine)
    return NodeMotifs(int(node), motifs, clock() - begun)


def _node_motifs(
    node: Any,
    rows: pd.DataFrame,
    options: DiscoveryOptions,
    background: NDArray[np.float64] | None,
    engine: str,
) -> list[dict[str, Any]]:
    """One node from its seqlets to the rows of its motifs."""
    rows = rows.sort_values("rank")
    sequences = encode(rows["sequence"].tolist())
    both = options.both_strands
    if background is None:
        background = letter_frequencies(sequences, both)
    weights = np.ones(sequences.lengths.size)
    if options.near_identical == "once":
        weights = copy_weights(sequences, both)
    if options.engine == "builtin":
        motifs = _builtin(sequences, options, background, weights)
    else:
        motifs = run_program(rows["sequence"].tolist(), options, background)
    result = []
    activation = rows["activation"].to_numpy(float)
    for number, motif in enumerate(motifs, 1):
        n_effective = motif.n_effective_sites
        if n_effective is None:
            n_effective = independent_sites(
                motif.matrix, motif.n_sites, sequences, background, both, weights
            )
        counted = weights if n_effective < motif.n_sites else np.ones_like(weights)
        evidence = node_evidence(
            motif.matrix, motif.n_sites, sequences, activation, background, both, counted
        )
        suspect = motif.suspect or _suspect(
            motif, n_effective, sequences, options, number, evidence
        )
        result.append(
            {
                "node": int(node),
                "motif": number,
                "consensus": properties.consensus(motif.matrix),
                "width_bp": len(motif.matrix),
                "n_sites": motif.n_sites,
                "n_effective_sites": n_effective,
                "llr": motif.llr,
                "log10_e_value": motif.log10_e_value,
                "is_significant": bool(
                    suspect is None and motif.log10_e_value < np.log10(options.max_e_value)
                ),
                "matrix": motif.matrix.tolist(),
                "engine": engine,
                "information_content_bits": properties.information_content(motif.matrix),
                "is_palindrome": properties.is_palindrome(motif.matrix),
                "suspect": suspect,
                **evidence._asdict(),
            }
        )
    return result


def _builtin(
    sequences: Sequences,
    options: DiscoveryOptions,
    background: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> list[Found]:
    from saeborzoi.motifs.engine.builtin import find_motifs

    longest = int(sequences.lengths.max())
    widest = min(options.max_width or MAX_WIDTH, longest)
    if longest < options.min_width or sequences.lengths.size < 2:
        return []
    motifs = find_motifs(
        sequences,
        background,
        n_motifs=options.n_motifs,
        min_width=options.min_width,
        max_width=max(widest, options.min_width),
        both_strands=options.strands == "both",
        max_e_value=options.max_e_value,
        min_sites=options.min_sites,
        weights=weights,
        keep_table=options.background == "genome",
    )
    return [
        Found(
            m.counts / m.n_sites, m.n_sites, m.llr, m.log_e_value / np.log(10),
            m.n_effective_sites, m.suspect,
        )
        for m in motifs
    ]  # fmt: skip


def _suspect(
    motif: Found,
    n_effective_sites: float,
    sequences: Sequences,
    options: DiscoveryOptions,
    number: int,
    evidence: NodeEvidence,
) -> str | None:
    """Why a motif is suspect although its engine did not say so.

    A motif as wide as its sequences with all of them as sites is MEME's known artefact where it
    is not the first: its sites are erased ones. Low complexity is no fault where the motif is
    clearly more frequent than in shuffled seqlets, which are as rich in its letters.
    """
    if motif.log10_e_value >= np.log10(options.max_e_value):
        return None
    lengths = sequences.lengths
    if number > 1 and properties.is_full_width(motif.matrix, motif.n_sites, lengths):
        return "composition"
    least = options.min_sites or properties.least_sites(lengths.size)
    suspect = properties.suspect(
        motif.matrix, motif.n_sites, n_effective_sites, lengths, least
    )  # fmt: skip
    if suspect is None and evidence.odds_ratio_low < MIN_ODDS_RATIO_LOW:
        return properties.simple_composition(motif.matrix)
    return suspect
