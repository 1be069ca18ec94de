"""Built-in motif discovery against recorded MEME runs: the same motifs, the same E-values, and the
ratio of CPU time. With --scaling, what a second core brings to a batch of nodes instead.

    python benchmarks/motifs_parity.py CASE [SET ...] [--scaling NODES]

CASE is a folder with `truth.json` (per set: MEME's motifs with width, sites, llr, log10 of the
E-value, matrix; `meme_cpu`: wall s, CPU s, peak KiB of that run) and `sets/<set>.fa`. Asserts
nothing about time; compiling the loops is not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.motifs.discovery import discover
from saeborzoi.motifs.engine.builtin import Motif, find_motifs
from saeborzoi.motifs.properties import aligned_correlation, consensus
from saeborzoi.motifs.sequences import encode, letter_frequencies
from saeborzoi.settings.sections import Motifs

LOG10_E = np.log10(0.05)
NODES = (2432, 4224)
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("sets", nargs="*", help="some of the sets; all where left out")
    parser.add_argument("--scaling", type=int, metavar="NODES")
    arguments = parser.parse_args()
    if arguments.scaling:
        scaling(arguments.case, arguments.scaling)
        return
    truth = json.loads((arguments.case / "truth.json").read_text())
    names = arguments.sets or sorted(truth)
    search(arguments.case, names[0])  # compiles
    print(
        "| set | CPU s | MEME CPU s | ratio | motif | MEME: width, sites, log10 E "
        "| here: width, sites, log10 E | r |\n|---|---|---|---|---|---|---|---|"
    )
    seconds: dict[str, float] = {}
    ratios, differences, matched, false, n_significant = [], [], 0, 0, 0
    for name in names:
        begun = time.process_time()
        found = search(arguments.case, name)
        seconds[name] = time.process_time() - begun
        reference = float(truth[name]["meme_cpu"].split()[1])
        ratios.append(reference / seconds[name])
        longest = longest_of(arguments.case, name)
        real = [m for m in truth[name]["motifs"] if not artefact(m, longest)]
        real = [m for m in real if m["log10_evalue"] < LOG10_E]
        left = list(range(len(found)))
        for number, motif in enumerate(real):
            n_significant += 1
            best, r = nearest(np.array(motif["matrix"]), found, left)
            own = found[best]
            left.remove(best)
            log10_e = own.log_e_value / np.log(10)
            width = len(own.counts)
            good = abs(width - motif["width"]) <= 1 and r > 0.99 and log10_e < LOG10_E
            matched += good
            if number == 0:
                differences.append(abs(log10_e - motif["log10_evalue"]))
            print(
                f"| {name} | {seconds[name]:.2f} | {reference:.1f} | {ratios[-1]:.0f} "
                f"| {motif['consensus']} | {motif['width']}, {motif['sites']}, "
                f"{motif['log10_evalue']:.1f} | {width}, {own.n_sites}, {log10_e:.1f} "
                f"| {r:.4f}{'' if good else ' *'} |"
            )
        for other in left:
            log10_e = found[other].log_e_value / np.log(10)
            if log10_e < LOG10_E:
                false += 1
                own = found[other]
                print(
                    f"| {name} | | | | none | | {consensus(own.counts / own.n_sites)}: "
                    f"{len(own.counts)}, {own.n_sites}, {log10_e:.1f} | * |"
                )
    print(
        f"\n{matched} of {n_significant} significant motifs found, width ±1 and r > 0.99; "
        f"{false} motifs significant here only\n"
        f"median |Δ log10 E| of first motifs {statistics.median(differences):.2f}, "
        f"largest {max(differences):.2f}\n"
        f"CPU time: MEME's / here = {statistics.mean(ratios):.0f} on average, "
        f"{min(ratios):.0f}-{max(ratios):.0f}\n"
    )
    print("| seqlet width | CPU s a node | " + " | ".join(f"{n:,} nodes, 2 cores" for n in NODES))
    print("|---|---|" + "---|" * len(NODES))
    for width in (14, 18, 26, 34):
        own_seconds = [s for name, s in seconds.items() if re.match(rf"w{width}_", name)]
        if own_seconds:
            mean = statistics.mean(own_seconds)
            minutes = " | ".join(f"{n * mean / 2 / 60:.1f} min" for n in NODES)
            print(f"| {width} | {mean:.2f} | {minutes} |")


def scaling(case: Path, n_nodes: int) -> None:
    """Wall and CPU time of one batch with one thread, with two, and with two processes that share
    nothing, in turn: the last is what other load on the machine leaves to be had."""
    print(
        f"{n_nodes} nodes of 1,000 seqlets, medians of {ROUNDS} rounds in turn\n\n"
        "| seqlet width | wall s: 1 thread | 2 threads | 2 processes | gain of 2 threads "
        "| gain of 2 processes | CPU time, 2 threads / 1 |\n|---|---|---|---|---|---|---|"
    )
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for width in (18, 34):
            seqlets = batch(case, width, n_nodes)
            halves = [seqlets[seqlets["node"] % 2 == half] for half in (0, 1)]
            arms = (
                partial(find, seqlets, 1),
                partial(find, seqlets, 2),
                partial(find_apart, pool, halves),
            )
            measured = np.array([[timed(arm) for arm in arms] for _ in range(ROUNDS + 1)])[1:]
            one, two, apart = measured[:, :, 0].T  # without the first round, which compiles
            cpu = measured[:, 1, 1] / measured[:, 0, 1]
            columns = (one, two, apart, one / two, one / apart, cpu)
            values = " | ".join(f"{np.median(column):.2f}" for column in columns)
            print(f"| {width} | {values} |")


def find(seqlets: pd.DataFrame, threads: int) -> None:
    discover(seqlets, Motifs(device="cpu"), "scaling", threads=threads)


def find_apart(pool: ProcessPoolExecutor, halves: list[pd.DataFrame]) -> None:
    list(pool.map(find, halves, (1, 1)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def batch(case: Path, width: int, n_nodes: int) -> pd.DataFrame:
    """Seqlets of nodes, each a draw with replacement from a set of this width."""
    names = sorted(path.stem for path in (case / "sets").glob(f"w{width}_*.fa"))
    generator = np.random.default_rng(0)
    frames = []
    for node in range(n_nodes):
        sequences = np.array(sequences_of(case, names[node % len(names)]))
        own = generator.choice(sequences, len(sequences))
        frames.append(
            pd.DataFrame(
                {
                    "node": node,
                    "rank": np.arange(len(own)),
                    "activation": np.linspace(2, 1, len(own)),
                    "sequence": own,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def sequences_of(case: Path, name: str) -> list[str]:
    lines = (case / "sets" / f"{name}.fa").read_text().split()
    return [line for line in lines if not line.startswith(">")]


def longest_of(case: Path, name: str) -> int:
    return max(map(len, sequences_of(case, name)))


def artefact(motif: dict[str, float], longest: int) -> bool:
    """MEME's: as wide as the sequences, with all of them as sites."""
    return motif["width"] == longest and motif["sites"] == 1000


def search(case: Path, name: str) -> list[Motif]:
    sequences = encode(sequences_of(case, name))
    return find_motifs(
        sequences,
        letter_frequencies(sequences),
        n_motifs=2,
        min_width=8,
        max_width=min(50, int(sequences.lengths.max())),
        both_strands=False,
        seed=0,
    )


def nearest(matrix: np.ndarray, found: list[Motif], left: list[int]) -> tuple[int, float]:
    """The motif of `left` that is most like `matrix`, and Pearson r over the aligned columns."""
    scored = []
    for i in left:
        own = found[i].counts / found[i].n_sites
        overlap = max(5, min(len(own), len(matrix)) - 1)
        _, offset = aligned_correlation(matrix, own, overlap)
        low, high = max(0, offset), min(len(matrix), offset + len(own))
        r = np.corrcoef(matrix[low:high].ravel(), own[low - offset : high - offset].ravel())[0, 1]
        scored.append((float(r), i))
    r, i = max(scored)
    return i, r


if __name__ == "__main__":
    main()
