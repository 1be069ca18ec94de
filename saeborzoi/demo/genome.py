"""The demo's genome: composition, repeats, regulatory elements and planted motifs.

Sequence is uint8 codes 0 ... 3 for A C G T. Everything is decided by the generator's seed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.demo.motifs import PlantedMotif

SLOT_BP = 64
"""The genome is divided into slots; each holds one planted motif at most, so that a seqlet does
not see two."""

CHROM_SIZES = {"chr1": 2_359_296, "chr2": 1_703_936, "chr3": 262_144}
"""chr3 is for validation."""

_ELEMENTS = {
    "ccre": {"PLS": (6, 180), "dELS": (6, 360), "CA-CTCF": (5, 140)},
    "repeats": {"Alu": (5, 400), "L1": (14, 180), "ERV1": (8, 180)},
}
"""Annotation, class: slots of one element, elements."""
_REPEAT_DIVERGENCE = 0.25
_DOMAIN_BP = 100_000
_IN_CLASS = 0.3
"""Share of a motif's instances that lie in its preferred class."""
N_INSTANCES = 1_280


class DemoGenome(NamedTuple):
    """The genome and what is known of it.

    Attributes
    ----------
    sequence
        Chromosome to (n_bp,) uint8 codes of A C G T.
    is_soft_masked
        Chromosome to (n_bp,) bool, lower case in the FASTA.
    elements
        annotation, chrom, start_bp, end_bp, annotation_class.
    instances
        motif_id, name, chrom, start_bp, end_bp: each planted instance, forward strand.
    """

    sequence: dict[str, NDArray[np.uint8]]
    is_soft_masked: dict[str, NDArray[np.bool_]]
    elements: pd.DataFrame
    instances: pd.DataFrame


def make_genome(motifs: list[PlantedMotif], rng: np.random.Generator) -> DemoGenome:
    """Background, then elements, then motifs."""
    sequence = {chrom: _background(size, rng) for chrom, size in CHROM_SIZES.items()}
    slots = pd.DataFrame(
        [
            (chrom, i * SLOT_BP)
            for chrom, size in CHROM_SIZES.items()
            for i in range(size // SLOT_BP)
        ],
        columns=["chrom", "start_bp"],
    )
    slots["annotation"] = slots["annotation_class"] = ""
    elements = _place_elements(slots, rng)
    is_soft_masked = {chrom: np.zeros(size, bool) for chrom, size in CHROM_SIZES.items()}
    repeats = elements[elements["annotation"] == "repeats"]
    consensus = {
        name: rng.integers(4, size=SLOT_BP * n_slots).astype(np.uint8)
        for name, (n_slots, _) in _ELEMENTS["repeats"].items()
    }
    for row in repeats.itertuples():
        copy = consensus[row.annotation_class].copy()
        mutated = rng.random(len(copy)) < _REPEAT_DIVERGENCE
        copy[mutated] = rng.integers(4, size=int(mutated.sum()))
        sequence[row.chrom][row.start_bp : row.end_bp] = copy[: row.end_bp - row.start_bp]
        is_soft_masked[row.chrom][row.start_bp : row.end_bp] = True
    instances = _plant(sequence, slots, motifs, rng)
    return DemoGenome(sequence, is_soft_masked, elements, instances)


def _background(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bases of domains that differ in G + C, with most CpG mutated away, as in vertebrates."""
    sequence = np.empty(size, np.uint8)
    for start in range(0, size, _DOMAIN_BP):
        gc = rng.uniform(0.36, 0.52)
        n = min(_DOMAIN_BP, size - start)
        share = np.array([1 - gc, gc, gc, 1 - gc]) / 2
        sequence[start : start + n] = rng.choice(4, size=n, p=share)
    cpg = np.flatnonzero((sequence[:-1] == 1) & (sequence[1:] == 2))
    lost = cpg[rng.random(len(cpg)) < 0.7]
    to_tg = rng.random(len(lost)) < 0.5
    sequence[lost[to_tg]] = 3
    sequence[lost[~to_tg] + 1] = 0
    return sequence


def _place_elements(slots: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Elements on runs of free slots of one chromosome; marks the slots."""
    start = slots["start_bp"].to_numpy()
    chrom = slots["chrom"].to_numpy()
    annotation, classes = np.full(len(slots), "", object), np.full(len(slots), "", object)
    rows = []
    for name, kinds in _ELEMENTS.items():
        for kind, (n_slots, n_elements) in kinds.items():
            placed = 0
            while placed < n_elements:
                first = int(rng.integers(len(slots) - n_slots - 1))
                # one free slot on either side keeps elements apart
                around = slice(max(first - 1, 0), first + n_slots + 1)
                run = slice(first, first + n_slots)
                if (classes[around] != "").any() or len(set(chrom[run])) > 1:
                    continue
                annotation[run], classes[run] = name, kind
                end = start[first] + n_slots * SLOT_BP
                rows.append((name, chrom[first], start[first], end, kind))
                placed += 1
    slots["annotation"], slots["annotation_class"] = annotation, classes
    columns = ["annotation", "chrom", "start_bp", "end_bp", "annotation_class"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["annotation", "chrom", "start_bp"], ignore_index=True)


def _plant(
    sequence: dict[str, NDArray[np.uint8]],
    slots: pd.DataFrame,
    motifs: list[PlantedMotif],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Write instances, drawn from each motif's matrix, into free slots."""
    start = slots["start_bp"].to_numpy()
    chrom = slots["chrom"].to_numpy()
    is_free = np.ones(len(slots), bool)
    rows = []
    for motif in motifs:
        preferred = (slots["annotation"] == motif.annotation).to_numpy() & (
            slots["annotation_class"] == motif.annotation_class
        ).to_numpy()
        n_preferred = int(_IN_CLASS * N_INSTANCES) if motif.annotation else 0
        chosen = rng.choice(np.flatnonzero(is_free & preferred), n_preferred, replace=False)
        is_free[chosen] = False
        # The other instances lie outside of every annotation, so that no motif that prefers a
        # class meets them there.
        anywhere = is_free & (slots["annotation"] == "").to_numpy()
        others = rng.choice(np.flatnonzero(anywhere), N_INSTANCES - n_preferred, replace=False)
        is_free[others] = False
        chosen = np.sort(np.concatenate([chosen, others]))
        width = len(motif.matrix)
        at = start[chosen] + rng.integers(0, SLOT_BP - width + 1, N_INSTANCES)
        draws = rng.random((N_INSTANCES, width, 1))
        letters = (draws > np.cumsum(motif.matrix, axis=1)).sum(axis=2).clip(max=3)
        for name, bp, word in zip(chrom[chosen], at.tolist(), letters, strict=True):
            sequence[name][bp : bp + width] = word
            rows.append((motif.target.identifier, motif.target.name, name, bp, bp + width))
    columns = ["motif_id", "name", "chrom", "start_bp", "end_bp"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["chrom", "start_bp"], ignore_index=True)
