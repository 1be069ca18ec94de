"""Names and motifs that made tables hold, some of them hostile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOSTILE_CHROM = 'chr1<img src=x onerror="window.hacked=1">'
HOSTILE_NAME = "</script><script>window.hacked=1</script>"
HOSTILE_CLASS = "Alu\"'><b>\u2028"
FACTORS = (
    ("CTCF", "MA0139.1", "TGGCCACCAGGGGGCGCTA", "More than 3 adjacent zinc fingers"),
    ("JUND", "MA0491.2", "TGACTCA", "Jun-related"),
    ("MAX", "MA0058.3", "CCACGTGG", "bHLH-ZIP"),
    ("FOXA1", "MA0148.4", "TGTTTACTTA", "FOX"),
    ("GATA1", "MA0035.4", "AGATAAGA", "C4-GATA-related"),
    ("SP1", "MA0079.5", "GGGGCGGGG", "Three-zinc finger Kruppel-related"),
    ("NRF1", "MA0506.2", "GCGCATGCGCA", "NRF"),
    ("YY1", "MA0095.3", "CAAGATGGCGGC", "More than 3 adjacent zinc fingers"),
    ("HNF4A", "MA0114.4", "CAAAGTCCA", "RXR-related receptors (NR2)"),
    ("ELK4", "MA0076.2", "CCGGAAGTG", "Ets-related"),
    ("CEBPA", "MA0102.4", "ATTGCACAAT", "CEBP-related"),
    ("RUNX1", "MA0002.2", "TCTGTGGTTT", "Runt-related"),
    ("TEAD1", "MA0090.3", "ACATTCCA", "TEF-1-related"),
    ("MEF2A", "MA0052.4", "CTAAAAATAG", "Regulators of differentiation"),
    ("POU2F2", "MA0507.2", "ATGCAAATGA", "POU domain"),
    ("SOX2", "MA0143.4", "CATTGTTATG", "SOX-related"),
    ("TP53", "MA0106.3", "ACATGTCCGGACATGT", "p53-related"),
    ("STAT3", "MA0144.2", "TTCCGGGAA", "STAT"),
    ("IRF1", "MA0050.2", "TTTCACTTTC", "Interferon-regulatory"),
    ("REST", "MA0138.2", "TTCAGCACCATGGACAG", "Factors with multiple dispersed zinc fingers"),
)
ANNOTATION_CLASSES = (
    ("ccre_exon_intron", ("PLS", "pELS", "dELS", "CTCF-only", "DNase-H3K4me3", "exon", "intron")),
    ("repeatmasker", ("SINE/Alu", "LINE/L1", "LTR/ERV1", "Simple_repeat", HOSTILE_CLASS)),
)
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


def motif_matrix(consensus: str, sharpness: float = 0.88) -> NDArray[np.float64]:
    """Position probability matrix of a consensus, (width, 4)."""
    matrix = np.full((len(consensus), 4), (1 - sharpness) / 3)
    matrix[np.arange(len(consensus)), ["ACGT".index(base) for base in consensus]] = sharpness
    return matrix
