"""Borzoi's conv1d_1 at full width over 10 Mb, live, to the feature browser: what each step takes.

    python -m benchmarks.rehearsal --case <hg38_chr1> FOLDER

The weights are random, as none come along; what a pass costs is the same. Needs saeborzoi[borzoi].
FOLDER gets the project; run again, it makes what is missing, and prints the times of that alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.models.narrow_borzoi import write_narrow_borzoi

WINDOW_BP, REGION_BP, N_VALIDATION = 196_608, 10_000_000, 4
SETTINGS = """
[project]
name = "rehearsal"
store = "store"
[data]
genome = "{case}/genome/chr1_hg38_10M.fa.gz"
[[data.annotation]]
name = "ccre"
path = "{case}/annot/ccre_exon_intron.6col.bed"
[[data.annotation]]
name = "rmsk"
path = "{case}/annot/rmsk_Alu_SVA.6col.bed"
[[data.motif_database]]
name = "jaspar"
source = "{case}/motifs/pyjaspar_2024_vert.meme"
[model]
loader = "borzoi-pytorch:model"
predicts = false
[[layer]]
name = "conv1d_1"
seqlet_width_bp = "receptive_field"
train = {{ windows = "train.bed" }}
validation = {{ windows = "validation.bed" }}
[[sae]]
layer = "conv1d_1"
expansion = 4
topk = 0.05
[training]
n_epochs = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not (folder / "dagster_project.toml").exists():
        write_project(folder, options.case.resolve())
    command = [str(Path(sys.executable).with_name("saeborzoi")), "run", "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    document = json.loads(done.stdout[done.stdout.index("{") :])
    print(f"{os.cpu_count()} cores, 608 channels, 2,432 nodes, {REGION_BP // 2:,} positions")
    for step in document["made"]:
        print(f"{step['step']:<16}{step['seconds']:>8.0f} s")
    sys.exit(done.returncode)


def write_project(folder: Path, case: Path) -> None:
    """Random weights of the true shape before the transformer, windows, settings."""
    folder.mkdir(parents=True, exist_ok=True)
    write_narrow_borzoi(folder / "model")
    starts = range(0, REGION_BP - WINDOW_BP, WINDOW_BP)
    lines = [f"chr1\t{start}\t{start + WINDOW_BP}\n" for start in starts]
    (folder / "train.bed").write_text("".join(lines[:-N_VALIDATION]))
    (folder / "validation.bed").write_text("".join(lines[-N_VALIDATION:]))
    (folder / "dagster_project.toml").write_text(SETTINGS.format(case=case))


if __name__ == "__main__":
    main()
