"""Built-in motif discovery against recorded MEME runs: the same motifs, the same E-values, and the
ratio of CPU time. With --scaling, what a second core brings to a batch of nodes instead.

    python benchmarks/motifs_parity.py CASE [CASE ...] [--sets SET ...] [--orders 3] [--meme PATH]
    python benchmarks/motifs_parity.py CASE --scaling NODES

CASE is a folder with `truth.json` (per set: MEME's motifs with width, sites, llr, log10 of the
E-value, matrix; `meme_cpu`: wall s, CPU s, peak KiB of that run) and `sets/<set>.fa`. The sets go
through what the stage runs, evidence and suspects included. Each is searched again with its
sequences in other orders, which must change nothing. With --meme that program runs on each set, and
the ratio is to its CPU time here; else to the recorded one, taken on another machine. Asserts
nothing about time; compiling the loops is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saeborzoi.motifs.discovery import discover
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.properties import aligned_correlation, as_matrix

LOG10_E = np.log10(0.05)
NODES = (2432, 4224)
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--sets", nargs="+", help="some of the sets; all where left out")
    parser.add_argument("--orders", type=int, default=1, help="further orders of the sequences")
    parser.add_argument("--meme", help="run this program beside")
    parser.add_argument("--scaling", type=int, metavar="NODES")
    arguments = parser.parse_args()
    if arguments.scaling:
        scaling(arguments.cases[0], arguments.scaling)
        return
    for flank_bp in (6, 30):  # compiles what narrow and wide motifs take
        search(planted_word(flank_bp))
    beside = "MEME run here" if arguments.meme else "MEME as recorded on another machine"
    print(f"{processor()}; ratios of CPU time to {beside}")
    for case in arguments.cases:
        report(case, arguments)


def report(case: Path, arguments: argparse.Namespace) -> None:
    """Print a case's table."""
    truth = json.loads((case / "truth.json").read_text())
    names = [name for name in sorted(truth) if not arguments.sets or name in arguments.sets]
    print(
        f"\n### {case.name}\n\n"
        "| set | CPU s | MEME CPU s | ratio | motif | MEME: width, sites, log10 E "
        "| here: width, sites, log10 E | suspect | r |\n|---|---|---|---|---|---|---|---|---|"
    )
    seconds: dict[str, float] = {}
    ratios, differences, matched, n_significant, n_only, moved = [], [], 0, 0, 0, 0
    for name in names:
        texts = sequences_of(case, name)
        begun = time.process_time()
        motifs = search(texts)
        seconds[name] = time.process_time() - begun
        reference = cpu_of_meme(arguments.meme, case, name) or float(
            truth[name]["meme_cpu"].split()[1]
        )
        ratios.append(reference / seconds[name])
        generator = np.random.default_rng(0)
        for _ in range(arguments.orders):
            moved += not same(motifs, search([texts[i] for i in generator.permutation(len(texts))]))
        lead = f"| {name} | {seconds[name]:.2f} | {reference:.1f} | {ratios[-1]:.0f} "
        left = motifs[motifs["log10_e_value"] < LOG10_E]
        for number, motif in enumerate(truth[name]["motifs"]):
            if motif["log10_evalue"] >= LOG10_E or artefact(motif, texts):
                continue
            n_significant += 1
            row, r = nearest(np.array(motif["matrix"]), left)
            cells = "| | |"
            if row is not None:
                good = abs(row.width_bp - motif["width"]) <= 1 and r > 0.99
                matched += good
                left = left.drop(row.Index) if good else left
                cells = f"{facts(row)} | {r:.4f}{'' if good else ' *'} |"
                if number == 0:
                    differences.append(row.log10_e_value - motif["log10_evalue"])
            print(
                f"{lead}| {motif['consensus']} | {motif['width']}, {motif['sites']}, "
                f"{motif['log10_evalue']:.1f} | {cells}"
            )
        for row in left.itertuples():
            n_only += pd.isna(row.suspect)
            print(f"{lead}| {row.consensus} | | {facts(row)} | |")
    n_orders = len(names) * arguments.orders
    worse, better = max(0.0, *differences), max(0.0, *(-d for d in differences))
    print(
        f"\n{matched} of {n_significant} significant motifs found, width ±1 and r > 0.99 "
        f"(* if not); {n_only} motifs significant here only\n"
        f"first motifs: median |Δ log10 E| {statistics.median(map(abs, differences)):.2f}, "
        f"worse by {worse:.2f} and better by {better:.2f} at most\n"
        f"{moved} of {n_orders} other orders of the sequences give another result\n"
        f"CPU time: MEME's / here = {statistics.mean(ratios):.0f} on average, "
        f"{min(ratios):.0f}-{max(ratios):.0f}\n"
    )
    print("| seqlet width | CPU s a node | " + " | ".join(f"{n:,} nodes, 2 cores" for n in NODES))
    print("|---|---|" + "---|" * len(NODES))
    for width in (14, 18, 26, 34):
        of_width = [s for name, s in seconds.items() if re.match(rf"w{width}_", name)]
        if of_width:
            mean = statistics.mean(of_width)
            minutes = " | ".join(f"{n * mean / 2 / 60:.1f} min" for n in NODES)
            print(f"| {width} | {mean:.2f} | {minutes} |")


def facts(row: Any) -> str:
    return (
        f"{row.width_bp}, {row.n_sites}, {row.log10_e_value:.1f} "
        f"| {'' if pd.isna(row.suspect) else row.suspect}"
    )


def processor() -> str:
    """Its name as Linux has it."""
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def cpu_of_meme(program: str | None, case: Path, name: str) -> float | None:
    """CPU seconds of MEME on a set, None where no program is given."""
    if program is None:
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["-dna", "-nmotifs", "2", "-text", "-nostatus"]
    subprocess.run(
        [program, str(case / "sets" / f"{name}.fa"), *options], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def planted_word(flank_bp: int) -> list[str]:
    generator = np.random.default_rng(0)
    return [
        "".join(generator.choice(list("ACGT"), flank_bp))
        + "TGATAAGA"[: 8 - i % 2]
        + "ACGT"[: 2 + i % 2]
        for i in range(40)
    ]


def search(texts: list[str]) -> pd.DataFrame:
    """The motifs of one node that has these seqlets, as the stage finds them."""
    seqlets = pd.DataFrame(
        {
            "node": 0,
            "rank": np.arange(len(texts)),
            "activation": np.linspace(2, 1, len(texts)),
            "sequence": texts,
        }
    )
    return discover(seqlets, DiscoveryOptions())


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    columns = ["consensus", "n_sites", "log10_e_value", "suspect"]
    return a[columns].equals(b[columns]) and all(
        np.array_equal(as_matrix(x), as_matrix(y))
        for x, y in zip(a["matrix"], b["matrix"], strict=True)
    )


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
    discover(seqlets, DiscoveryOptions(), threads=threads)


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


def artefact(motif: dict[str, Any], texts: list[str]) -> bool:
    """MEME's: as wide as all sequences, with all of them as sites."""
    return len({motif["width"], *map(len, texts)}) == 1 and motif["sites"] == len(texts)


def nearest(matrix: np.ndarray, motifs: pd.DataFrame) -> tuple[Any, float]:
    """The motif that is most like `matrix` (None where there is none), and Pearson r over the
    aligned columns."""
    best, best_r = None, -2.0
    for row in motifs.itertuples():
        other = as_matrix(row.matrix)
        overlap = max(5, min(len(other), len(matrix)) - 1)
        _, offset = aligned_correlation(matrix, other, overlap)
        low, high = max(0, offset), min(len(matrix), offset + len(other))
        pair = matrix[low:high].ravel(), other[low - offset : high - offset].ravel()
        r = float(np.corrcoef(*pair)[0, 1])
        if r > best_r:
            best, best_r = row, r
    return best, best_r


if __name__ == "__main__":
    main()
