"""Which motifs the demo plants: real transcription factors, each of another family."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.databases import Target, load_database

DATABASE = "jaspar:JASPAR2024:CORE:vertebrates"

# Identifier and, where the factor has a taste for one, the annotation class that holds part of
# its instances. Chosen so that no two of them match each other (q < 0.05 in TomTom's sense),
# they are 8 ... 16 bp wide and of families that JASPAR tells apart.
_PLANTED: dict[str, tuple[str, str] | None] = {
    "MA0139.2": ("ccre", "CA-CTCF"),  # CTCF
    "MA0469.4": ("ccre", "PLS"),  # E2F3
    "MA0472.2": ("ccre", "PLS"),  # EGR2
    "MA0080.7": ("ccre", "dELS"),  # Spi1
    "MA0466.4": ("ccre", "dELS"),  # CEBPB
    "MA0482.3": ("ccre", "dELS"),  # GATA4
    "MA1101.3": ("ccre", "dELS"),  # BACH2
    "MA0861.2": ("repeats", "ERV1"),  # TP73: p53 sites do lie in ERV1 long terminal repeats
    "MA1494.2": ("repeats", "Alu"),  # HNF4A
    "MA0652.2": ("repeats", "L1"),  # IRF8
    "MA0510.3": None,  # RFX5
    "MA0507.3": None,  # POU2F2
    "MA0105.4": None,  # NFKB1
    "MA0113.4": None,  # NR3C1
    "MA0486.2": None,  # HSF1
    "MA0497.2": None,  # MEF2C
    "MA1527.2": None,  # NFIC
    "MA0638.2": None,  # CREB3
    "MA0526.5": None,  # USF2
    "MA1421.1": None,  # TCF7L1
    "MA0757.2": None,  # ONECUT3
    "MA0847.4": None,  # FOXD2
    "MA0872.1": None,  # TFAP2A
    "MA0137.4": None,  # STAT1
    "MA0794.1": None,  # PROX1
    "MA0154.5": None,  # EBF1
    "MA0090.4": None,  # TEAD1
    "MA0511.2": None,  # RUNX2
    "MA0781.2": None,  # PAX9
    "MA0083.3": None,  # SRF
    "MA0647.2": None,  # GRHL1
    "MA0776.1": None,  # MYBL1
}


class PlantedMotif(NamedTuple):
    """A motif of the demo.

    Attributes
    ----------
    target
        The motif in JASPAR: identifier, name, family and (width, 4) matrix.
    annotation, annotation_class
        Where part of its instances lie; empty where it has no preference.
    """

    target: Target
    annotation: str
    annotation_class: str

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(width, 4) probabilities of A C G T."""
        return self.target.matrix

    @property
    def information_content_bits(self) -> float:
        """Total information content against even bases."""
        p = self.matrix
        return float((p * np.log2(np.maximum(p, 1e-12) / 0.25)).sum())

    @property
    def consensus(self) -> str:
        """The likeliest base of each column."""
        return "".join("ACGT"[i] for i in self.matrix.argmax(axis=1))


def planted_motifs() -> list[PlantedMotif]:
    """The demo's motifs, always in the same order."""
    known = {target.identifier: target for target in load_database("JASPAR2024", DATABASE).motifs}
    return [
        PlantedMotif(known[identifier], *(place or ("", "")))
        for identifier, place in _PLANTED.items()
    ]
