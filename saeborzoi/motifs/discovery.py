"""Motif discovery over nodes: which engine, on threads or, with the built-in engine, on a GPU.

A node's motifs depend on its own seqlets, the settings and a seed from its identity; never on the
other nodes of the batch, their order, the number of threads or the device.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.jobs.job import Progress, silent
from saeborzoi.motifs import properties
from saeborzoi.motifs.engine.lockstep import gpu_for, in_lockstep
from saeborzoi.motifs.engine.search_data import Steps, run
from saeborzoi.motifs.evidence import node_evidence
from saeborzoi.motifs.meme import run_program
from saeborzoi.motifs.programs import find_program, program_version
from saeborzoi.motifs.sequences import Found, Sequences, encode, letter_frequencies
from saeborzoi.settings.hyperparameters import derived_seed
from saeborzoi.settings.sections import Motifs

if TYPE_CHECKING:
    from saeborzoi.motifs.engine.batched import BatchedExecutor

_NODES_ON_GPU = 128
"""Nodes of a batch on a GPU, at most; their tables take 2 MB each."""
MAX_WIDTH = 50
"""Widest motif where the settings leave it out, MEME's default."""

MOTIF_COLUMNS: dict[str, str] = {
    "node": "int32",
    "motif": "int32",
    "consensus": "str",
    "width_bp": "int32",
    "n_sites": "int32",
    "llr": "float64",
    "log10_e_value": "float64",
    "is_significant": "bool",
    "matrix": "object",
    "engine": "str",
    "information_content_bits": "float64",
    "is_palindrome": "bool",
    "artefact": "str",
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
        CPU seconds of this thread; wall seconds of an external program, or of a batch on a GPU
        divided by its nodes.
    """

    node: int
    rows: list[dict[str, Any]]
    seconds: float


def check_engine(settings: Motifs) -> str:
    """Engine with its version, as column `engine` says it.

    Raises
    ------
    MissingProgramError
        Where an external engine is asked for and cannot be run.
    """
    if settings.engine == "builtin":
        from saeborzoi.motifs.engine.builtin import VERSION

        return f"builtin {VERSION}"
    program = find_program(settings.engine, settings.executable, "[motifs]", "builtin")
    return f"{settings.engine} {program_version(program)}"


def scans_both_strands(settings: Motifs) -> bool:
    """Whether a site may lie on either strand; STREME always scans both."""
    return settings.strands == "both" or settings.engine == "streme"


def discover(
    seqlets: pd.DataFrame,
    settings: Motifs,
    key: str,
    genome: Path | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Motifs of every node that has seqlets.

    Parameters
    ----------
    seqlets
        Columns node, rank, activation, sequence (and more, unused), any order of rows.
    settings
        Engine and its options.
    key
        Partition key of the SAE, from which each node's seed derives.
    genome
        FASTA for `background = "genome"`.
    threads
        Nodes at once; where a GPU searches, threads for what is left to the CPU.

    Returns
    -------
    Columns of `MOTIF_COLUMNS`; nodes ascending, motifs in order of discovery. What needs all
    nodes of the SAE is in `fan_in.fan_in_evidence`.

    Raises
    ------
    MissingProgramError
        Where an external engine cannot be run.
    SettingsError
        Where a GPU is asked for and there is none.
    InputError
        Where a seqlet holds other letters than A, C, G, T.
    """
    n_nodes = seqlets["node"].nunique()
    found = []
    for done, node in enumerate(discover_nodes(seqlets, settings, key, genome, threads), 1):
        found.append(node)
        progress("motifs", done, n_nodes, f"node {node.node}: {len(node.rows)} motifs")
    return motif_frame(found)


def discover_nodes(
    seqlets: pd.DataFrame,
    settings: Motifs,
    key: str,
    genome: Path | None = None,
    threads: int = 1,
    stop: threading.Event | None = None,
) -> Iterator[NodeMotifs]:
    """As `discover`, node by node as they are done (in any order); ends early where `stop` is
    set."""
    engine = check_engine(settings)
    background = None
    if settings.background == "genome":
        if genome is None:
            raise ValueError("a background from the genome needs the genome")
        from saeborzoi.motifs.background import genome_frequencies

        background = genome_frequencies(genome)
    searches = (
        _search(node, rows, settings, key, background, engine)
        for node, rows in seqlets.groupby("node", sort=True)
    )
    n_nodes = seqlets["node"].nunique()
    device = gpu_for(settings.device, n_nodes) if settings.engine == "builtin" else None
    # the engine's heavy loops release the interpreter's lock (or run in another process)
    with ThreadPoolExecutor(max(threads, 1)) as workers:
        if device is None:
            wall = settings.engine != "builtin"
            alone = (partial(_alone, search, wall) for search in searches)
            yield from _in_parallel(alone, workers, threads, stop)
            return
        from saeborzoi.motifs.engine.batched import BatchedExecutor

        executor = BatchedExecutor(device)
        size = min(_NODES_ON_GPU, -(-n_nodes // 2))
        batches = iter(lambda: list(itertools.islice(searches, size)), [])
        together = (partial(_together, batch, executor, workers) for batch in batches)
        # two batches: while the GPU answers one, the threads work on the other
        with ThreadPoolExecutor(2) as pair:
            yield from _in_parallel(together, pair, 1, stop)


def _in_parallel(
    tasks: Iterable[Callable[[], list[NodeMotifs]]],
    pool: ThreadPoolExecutor,
    n_ahead: int,
    stop: threading.Event | None,
) -> Iterator[NodeMotifs]:
    """Nodes of tasks as they are done; at most `n_ahead` more are begun than have to be waited
    for, and none once `stop` is set."""
    running: set[Future[list[NodeMotifs]]] = set()
    for task in tasks:
        if stop is not None and stop.is_set():
            break
        running.add(pool.submit(task))
        if len(running) > n_ahead:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    for future in running:
        yield from future.result()


def _alone(search: Steps[NodeMotifs], wall: bool) -> list[NodeMotifs]:
    clock = time.perf_counter if wall else time.thread_time
    begun = clock()
    found = run(search)
    return [found._replace(seconds=clock() - begun)]


def _together(
    searches: list[Steps[NodeMotifs]], executor: BatchedExecutor, workers: ThreadPoolExecutor
) -> list[NodeMotifs]:
    begun = time.perf_counter()
    found = in_lockstep(searches, executor.answer, workers)
    seconds = (time.perf_counter() - begun) / len(found)
    return [node._replace(seconds=seconds) for node in found]


def motif_frame(found: list[NodeMotifs]) -> pd.DataFrame:
    """Motifs of some nodes as a frame with the columns and types of `MOTIF_COLUMNS`."""
    rows = [row for node in sorted(found, key=lambda n: n.node) for row in node.rows]
    frame = pd.DataFrame(rows, columns=list(MOTIF_COLUMNS))
    return frame.astype({k: v for k, v in MOTIF_COLUMNS.items() if v != "object"})


def _search(
    node: Any,
    rows: pd.DataFrame,
    settings: Motifs,
    key: str,
    background: NDArray[np.float64] | None,
    engine: str,
) -> Steps[NodeMotifs]:
    """One node from its seqlets to its motifs, in steps; who takes them fills in `seconds`."""
    rows = rows.sort_values("rank")
    sequences = encode(rows["sequence"].tolist())
    seed = derived_seed(key, int(node), "motifs")
    both = scans_both_strands(settings)
    if background is None:
        background = letter_frequencies(sequences, both)
    if settings.engine == "builtin":
        motifs = yield from _builtin(sequences, settings, background, seed)
    else:
        motifs = run_program(rows["sequence"].tolist(), settings, background, seed)
    result = []
    activation = rows["activation"].to_numpy(float)
    for number, motif in enumerate(motifs, 1):
        artefact = _artefact(motif, sequences, number)
        evidence = node_evidence(
            motif.matrix, motif.n_sites, sequences, activation, background, both, seed
        )
        result.append(
            {
                "node": int(node),
                "motif": number,
                "consensus": properties.consensus(motif.matrix),
                "width_bp": len(motif.matrix),
                "n_sites": motif.n_sites,
                "llr": motif.llr,
                "log10_e_value": motif.log10_e_value,
                "is_significant": bool(
                    artefact is None and motif.log10_e_value < np.log10(settings.max_e_value)
                ),
                "matrix": motif.matrix.tolist(),
                "engine": engine,
                "information_content_bits": properties.information_content(motif.matrix),
                "is_palindrome": properties.is_palindrome(motif.matrix),
                "artefact": artefact,
                **evidence._asdict(),
            }
        )
    return NodeMotifs(int(node), result, 0.0)


def _builtin(
    sequences: Sequences, settings: Motifs, background: NDArray[np.float64], seed: int
) -> Steps[list[Found]]:
    from saeborzoi.motifs.engine.builtin import search

    longest = int(sequences.lengths.max())
    widest = min(settings.max_width or MAX_WIDTH, longest)
    if longest < settings.min_width or sequences.lengths.size < 2:
        return []
    motifs = yield from search(
        sequences,
        background,
        n_motifs=settings.n_motifs,
        min_width=settings.min_width,
        max_width=max(widest, settings.min_width),
        both_strands=settings.strands == "both",
        seed=seed,
        keep_table=settings.background == "genome",
    )
    return [
        Found(m.counts / m.n_sites, m.n_sites, m.llr, m.log_e_value / np.log(10)) for m in motifs
    ]


def _artefact(motif: Found, sequences: Sequences, number: int) -> str | None:
    """Why a motif is suspect.

    A motif as wide as its sequences with all of them as sites is MEME's known artefact where it
    is not the first (its sites are erased ones), and mere composition where it says little.
    """
    if properties.is_full_width(motif.matrix, motif.n_sites, sequences.lengths):
        bits = properties.information_content(motif.matrix) / len(motif.matrix)
        if number > 1 or bits < properties.FULL_WIDTH_BITS:
            return "full_width"
    return properties.composition_artefact(motif.matrix)
