"""How many known motifs come out of seqlets at random positions: a control that should give none.

    python benchmarks/motifs_random_control.py FASTA [BED] [--nodes 50] [--seqlets 1000]

BED lists the places to draw from (each row a place; its centre is used); left out, any place of
the FASTA without N. Seqlets are cut at random places, dealt to made-up nodes and go through the
same steps as real ones: discovery, matching with JASPAR, evidence against shuffled seqlets and
against the other nodes. Printed is what passes each step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.genome.coordinates import Genome
from saeborzoi.motifs.databases import load_databases
from saeborzoi.motifs.discovery import discover
from saeborzoi.motifs.fan_in import MAX_FDR, MIN_ODDS_RATIO, fan_in_evidence
from saeborzoi.motifs.matching import match
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.settings.sections import Data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fasta", type=Path)
    parser.add_argument("bed", type=Path, nargs="?")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seqlets", type=int, default=1000)
    parser.add_argument("--width", type=int, default=26)
    parser.add_argument("--strands", choices=("given", "both"), default="given")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    seqlets = random_seqlets(arguments)
    options = DiscoveryOptions(strands=arguments.strands)
    begun = time.process_time()
    motifs = discover(seqlets, options, threads=arguments.threads)
    seconds = (time.process_time() - begun) / arguments.nodes
    databases = load_databases(Data(genome=arguments.fasta).motif_sources)
    matches = match(motifs, databases, threads=arguments.threads)
    fan_in = fan_in_evidence(motifs, seqlets, "random", both_strands=options.both_strands)
    low_e = motifs["log10_e_value"] < np.log10(options.max_e_value)
    known = matches[matches["is_significant"]][["node", "motif"]].drop_duplicates()
    supported = fan_in[fan_in["is_supported"]][["node", "motif"]]
    print(
        f"{arguments.nodes} nodes of {arguments.seqlets} seqlets of {arguments.width} bp at random "
        f"places, {len(motifs)} motifs, {seconds:.2f} CPU s a node\n\n"
        "| step | motifs left |\n|---|---|\n"
        f"| E < {options.max_e_value} | {low_e.sum()} |\n"
        f"| and not suspect (repeat, low complexity, ...) | {motifs['is_significant'].sum()} |\n"
        f"| and a known motif matches | {len(known)} |\n"
        f"| enriched {MIN_ODDS_RATIO:g}-fold over both controls, {MAX_FDR:.0%} FDR "
        f"| {len(supported)} |\n"
        f"| and a known motif matches | {len(known.merge(supported))} |"
    )


def random_seqlets(arguments: argparse.Namespace) -> pd.DataFrame:
    """Seqlets of made-up nodes; half as many places again are drawn, as some hold N."""
    generator = np.random.default_rng(0)
    width, wanted = arguments.width, arguments.nodes * arguments.seqlets
    parts: list[str] = []
    with Genome(arguments.fasta) as genome:
        while len(parts) < wanted:
            n = wanted + wanted // 2
            if arguments.bed:
                places = pd.read_csv(arguments.bed, sep="\t", header=None, comment="#")
                rows = places.sample(n, replace=True, random_state=generator)
                chrom = rows[0].to_numpy(object)
                start = ((rows[1] + rows[2]) // 2).to_numpy(np.int64) - width // 2
            else:
                sizes = pd.Series(genome.chrom_sizes)
                chrom = generator.choice(sizes.index.to_numpy(object), n, p=sizes / sizes.sum())
                start = (generator.random(n) * (sizes[chrom].to_numpy() - width)).astype(np.int64)
            inside = genome.inside(chrom, start, start + width)
            texts = genome.fetch(chrom[inside], start[inside], start[inside] + width)
            parts += [text for text in texts if set(text) <= set("ACGT")]
    return pd.DataFrame(
        {
            "node": np.repeat(np.arange(arguments.nodes), arguments.seqlets),
            "rank": np.tile(np.arange(arguments.seqlets), arguments.nodes),
            "activation": generator.random(wanted),
            "sequence": parts[:wanted],
        }
    )


if __name__ == "__main__":
    main()
