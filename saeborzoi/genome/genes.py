"""Genes of a GTF by where their transcription starts, and the nearest one of intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import require_annotation_fits
from saeborzoi.genome.public_files import gtf_lines


def read_genes(path: Path) -> pd.DataFrame:
    """Genes of a GTF: its lines of genes, or where it has none, of what its exons span.

    Returns
    -------
    DataFrame
        chrom, tss_bp (int64, 0-based, where transcription starts), strand, gene (its name, else its
        identifier); a row a gene, whose index is its first line of the file.

    Raises
    ------
    InputError
        Where it is no GTF, or has neither genes nor exons.
    """
    rows = [
        (
            line.chrom,
            line.start_bp,
            line.end_bp,
            line.strand,
            line.name,
            line.gene_id,
            line.feature,
            line.line,
        )
        for line in gtf_lines(path, ("gene", "exon"))
    ]
    columns = ["chrom", "start_bp", "end_bp", "strand", "gene", "gene_id", "feature", "line"]
    lines = pd.DataFrame(rows, columns=columns)
    if lines.empty:
        raise InputError(f"{path}: no line of a gene or an exon; bring a GTF of genes")
    chosen = lines[lines["feature"] == ("gene" if (lines["feature"] == "gene").any() else "exon")]
    # a gene of the pseudo-autosomal regions stands on both X and Y
    spans = chosen.groupby(["chrom", "gene_id"], sort=False, as_index=False).agg(
        start_bp=("start_bp", "min"), end_bp=("end_bp", "max"), strand=("strand", "first"),
        gene=("gene", "first"), line=("line", "first"),
    )  # fmt: skip
    tss = np.where(spans["strand"] == "-", spans["end_bp"] - 1, spans["start_bp"])
    return spans.assign(tss_bp=tss).set_index("line")[["chrom", "tss_bp", "strand", "gene"]]


def require_genes_fit(path: Path, genes: pd.DataFrame, chrom_sizes: dict[str, int]) -> int:
    """Refuse genes of another assembly than the genome's: all distances would be missing or wrong.

    Parameters
    ----------
    path
        Where they come from, for the message.
    genes
        As `read_genes` gives them.
    chrom_sizes
        Length of every chromosome, `Genome.chrom_sizes`.

    Returns
    -------
    int
        Genes on chromosomes that the genome lacks; they are nearest to nothing.

    Raises
    ------
    InputError
        Where none of their chromosomes is in the genome, or a gene starts beyond one.
    """
    starts = genes.assign(start_bp=genes["tss_bp"], end_bp=genes["tss_bp"] + 1)
    return require_annotation_fits(path, starts, chrom_sizes)


def nearest_genes(intervals: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """The gene whose transcription starts nearest to the middle of each interval.

    Parameters
    ----------
    intervals
        chrom, start_bp, end_bp.
    genes
        As `read_genes` gives them.

    Returns
    -------
    DataFrame
        gene (None on chromosomes without one), distance_bp (Int64, from the start of transcription
        to the interval's middle: negative upstream of the gene), with the intervals' index. Of two
        as near the first of the file.
    """
    middle = ((intervals["start_bp"] + intervals["end_bp"]) // 2).to_numpy(np.int64)
    result = pd.DataFrame({"gene": None, "distance_bp": pd.NA}, index=intervals.index)
    result = result.astype({"gene": object, "distance_bp": "Int64"})
    chroms = intervals["chrom"].to_numpy()
    for chrom, mine in genes.groupby("chrom"):
        where = np.flatnonzero(chroms == chrom)
        mine = mine.sort_values("tss_bp", kind="stable")
        tss = mine["tss_bp"].to_numpy(np.int64)
        at = middle[where]
        # the first of those that start where the next one does, and of those before
        right = np.minimum(np.searchsorted(tss, at), len(tss) - 1)
        left = np.searchsorted(tss, tss[np.maximum(right - 1, 0)])
        nearest = np.where(np.abs(tss[left] - at) <= np.abs(tss[right] - at), left, right)
        sign = np.where(mine["strand"].to_numpy()[nearest] == "-", -1, 1)
        rows = result.index[where]
        result.loc[rows, "gene"] = mine["gene"].to_numpy()[nearest]
        result.loc[rows, "distance_bp"] = sign * (at - tss[nearest])
    return result
