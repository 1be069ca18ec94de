"""The demo's known answers with the model in the loop: what named nodes do to the outputs, and
through which nodes broken motifs act.

    saeborzoi --project FOLDER demo
    python -m benchmarks.demo_effects FOLDER

Of a demo that is made. Writes settings beside the demo's own (`in_the_loop.toml`: its layer names
its module, two loci a node) and two VCFs: of each planted motif the best instance, broken at its
most telling base pair; neutral SNPs near them. Makes fidelity, node_effects and variants of its
SAE, and compares with what was planted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import saeborzoi
from saeborzoi.demo import DATA, judge, read_planted, recovery_table
from saeborzoi.demo.precision import VERDICTS
from saeborzoi.genome.alleles import neutral_changes
from saeborzoi.genome.coordinates import Genome
from saeborzoi.project.project import Project
from saeborzoi_assets.commands.cli import main as saeborzoi_command
from tests.demo.test_known_answer import strongest_instances

SETTINGS = """
[effects]
n_sequences = 24
n_loci = 2
n_controls = 1
[attribution]
span_bp = 256
n_controls = 2
[[variants]]
name = "planted"
path = "planted.vcf"
controls = "neutral"
[[variants]]
name = "neutral"
path = "neutral.vcf"
"""
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    folder = parser.parse_args().demo
    settings_file = write_inputs(folder)
    steps = ["--select", "effects", "--select", "variants", "--select", "variant effects"]
    # exit code 1: with one control a locus no effect is significant, which a check says
    if saeborzoi_command(["--project", str(settings_file), "run", *steps]) > 1:
        raise SystemExit("the run failed")
    show(saeborzoi.open(settings_file), folder)


def write_inputs(folder: Path) -> Path:
    """Two VCFs and the settings file."""
    planted, instances = read_planted(folder / DATA)
    with Genome(folder / DATA / "genome" / "genome.fa.gz") as genome:
        broken = strongest_instances(planted, instances, genome)
        neutral = neutral_changes(genome, broken, 2, 200, 2000, seed=3)
    write_vcf(folder / "planted.vcf", broken.assign(name=broken["factor"]))
    write_vcf(folder / "neutral.vcf", neutral.drop_duplicates("variant").assign(name="."))
    text = (folder / "dagster_project.toml").read_text()
    text = text.replace('name = "demo_conv"\n', 'name = "demo_conv"\nmodule = "layer"\n')
    settings_file = folder / "in_the_loop.toml"
    settings_file.write_text(text + SETTINGS)
    return settings_file


def write_vcf(path: Path, variants: pd.DataFrame) -> None:
    rows = (
        f"{v.chrom}\t{v.start_bp + 1}\t{v.name}\t{v.ref}\t{v.alt}\t.\t.\t.\n"
        for v in variants.itertuples(index=False)
    )
    path.write_text(HEADER + "".join(rows))


def show(project: Project, folder: Path) -> None:
    sae = project.sae(project.saes[0])
    planted, instances = read_planted(folder / DATA)
    selection = sae.table("node_selection")
    seqlets = sae.table("seqlet")
    seqlets = seqlets[seqlets["node"].isin(selection.loc[selection["selected"], "node"])]
    kept = sae.fidelity.loc["sae"]
    print(f"fidelity: r {kept['r']:.3f}, recovered against mean {kept['recovered_mean']:.3f}")
    summary = sae.table("node_effect_summary").query("loci == 'activation'")
    top_track = summary.set_index("node")["top_track"]

    recovered = recovery_table(
        planted, instances, seqlets, sae.table("motif"), sae.table("supported_match")
    )
    moves = recovered["node"].map(top_track) == recovered["name"]
    print(f"the node of each planted motif moves its factor most: {moves.sum()} of {len(moves)}")

    factor = factors_of(sae.table("node_name"), planted)
    verdict = judge(planted, instances, seqlets).set_index("node")["verdict"]
    named = pd.DataFrame({"factor": factor, "top": top_track, "verdict": verdict}).loc[factor.index]
    right = named["verdict"] == VERDICTS[0]
    print(f"nodes with a name: {right.sum()} of {len(right)} fire on one planted motif")
    for kind, rows in (("all", named), ("planted", named.dropna()), *named.groupby("verdict")):
        n = (rows["top"] == rows["factor"]).sum()
        print(f"nodes with a name, {kind}: {n} of {len(rows)} move its factor most")

    for name in ("planted", "neutral"):
        variants = sae.variants(name)
        acting = variants["node"].notna()
        print(f"variants {name}: {acting.sum()} of {len(variants)} act through a node")
        if name == "planted":
            right = variants["node"].map(factor) == variants["name"]
            print(f"  {right.sum()} of {len(right)} through one that is named for the factor")


def factors_of(names: pd.DataFrame, planted: pd.DataFrame) -> pd.Series:
    """Node to the planted factor that is among the members of its name, None where none is.

    Parameters
    ----------
    names
        View `node_name`: node, members.
    """
    by_name = {name.upper(): name for name in planted["name"]}
    factors = [
        next((by_name[member.upper()] for member in members if member.upper() in by_name), None)
        for members in names["members"]
    ]
    return pd.Series(factors, index=names["node"], dtype=object)


if __name__ == "__main__":
    main()
