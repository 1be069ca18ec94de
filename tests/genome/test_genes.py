"""The nearest gene of an interval, by the start of its transcription, equals looking at each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.genes import nearest_genes, read_genes

_GENE = (
    "{chrom}\tx\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t"
    'gene_id "{gene}"; gene_name "N{gene}";\n'
)


def _gtf(path: Path, feature: str) -> Path:
    rows = [("chr1", 101, 200, "+", "a"), ("chr1", 401, 500, "-", "b"), ("chr2", 1, 50, "-", "c")]
    path.write_text(
        "".join(
            _GENE.format(chrom=chrom, feature=kind, start=start, end=end, strand=strand, gene=gene)
            for chrom, start, end, strand, gene in rows
            for kind in dict.fromkeys(["exon", feature])
        )
    )
    return path


@pytest.mark.parametrize("feature", ["gene", "exon"])
def test_genes_start_where_their_strand_says(tmp_path: Path, feature: str) -> None:
    genes = read_genes(_gtf(tmp_path / "g.gtf", feature))
    assert genes.set_index("gene")["tss_bp"].to_dict() == {"Na": 100, "Nb": 499, "Nc": 49}
    where = pd.DataFrame(
        [("chr1", 0, 20), ("chr1", 290, 300), ("chr1", 480, 490), ("chr1", 600, 700),
         ("chr9", 1, 2)],
        columns=["chrom", "start_bp", "end_bp"],
        index=[7, 3, 5, 4, 1],
    )  # fmt: skip
    nearest = nearest_genes(where, genes)
    assert nearest.index.tolist() == [7, 3, 5, 4, 1]
    assert nearest["gene"].tolist()[:4] == ["Na", "Na", "Nb", "Nb"]
    assert pd.isna(nearest["gene"].iloc[4])
    # before a gene on the forward strand is upstream, behind one on the reverse strand as well
    assert nearest["distance_bp"].tolist()[:4] == [-90, 195, 14, -151]


def test_the_nearest_of_many_is_the_nearest() -> None:
    rng = np.random.default_rng(0)
    genes = pd.DataFrame({"chrom": "chr1", "tss_bp": rng.integers(0, 5000, 300), "strand": "+"})
    genes["gene"] = [f"g{i}" for i in range(300)]
    start = rng.integers(0, 5000, 500)
    where = pd.DataFrame({"chrom": "chr1", "start_bp": start, "end_bp": start + 20})
    nearest = nearest_genes(where, genes)
    least = np.abs(genes["tss_bp"].to_numpy() - (start + 10)[:, None]).min(axis=1)
    np.testing.assert_array_equal(nearest["distance_bp"].abs().astype(int), least)


def test_a_file_without_genes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.gtf").write_text('chr1\tx\tCDS\t1\t9\t.\t+\t.\tgene_id "a";\n')
    with pytest.raises(InputError, match="no line of a gene or an exon"):
        read_genes(tmp_path / "g.gtf")
