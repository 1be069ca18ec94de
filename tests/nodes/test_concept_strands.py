"""Classes that the strands of an annotation tell: by strand of reading, upstream, downstream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Windows, read_bed
from saeborzoi.nodes.concept_elements import concepts_of, elements_on_positions, with_strands

BP, N_POSITIONS, START = 10, 400, 1000
END = START + BP * N_POSITIONS
BED = (
    "chr1\t2100\t2140\tg\t+\texon\nchr1\t3400\t3440\tg\t-\texon\n"
    "chr1\t4000\t4020\tg\t.\texon\nchr1\t200\t240\tg\t+\tearly\n"
)


def _covered(elements: np.ndarray, concept: int, window: int) -> list[tuple[int, int]]:
    """Base pairs of a class in a window, as the genome counts."""
    here = elements[(elements[:, 0] == concept) & (elements[:, 1] == window)]
    if window == 0:
        return sorted((START + BP * int(a), START + BP * int(b)) for *_, a, b in here)
    return sorted((END - BP * int(b), END - BP * int(a)) for *_, a, b in here)


def test_strands_and_flanks_are_classes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text(BED)
    genes = with_strands(read_bed(tmp_path / "a.bed", 6, 5))
    concepts = concepts_of({"genes": genes})
    one = np.array([START, START])
    windows = Windows(
        path=tmp_path, chrom=np.full(2, "chr1", object), start_bp=one, end_bp=one + END - START,
        shard=np.zeros(2, np.int64), row=np.arange(2), line=np.arange(2),
        is_reverse=np.array([False, True]),
    )  # fmt: skip
    elements = elements_on_positions(concepts, {"genes": genes}, windows, N_POSITIONS, BP, 0)
    plus, minus, none = (2100, 2140), (3400, 3440), (4000, 4020)
    expected = {
        "exon": ([plus, minus, none],) * 2,
        "exon, strand read": ([plus], [minus]),
        "exon, other strand": ([minus], [plus]),
        "exon, 500 bp upstream": ([(1600, 2100), (3440, 3940)],) * 2,
        "exon, 500 bp downstream": ([(2140, 2640), (2900, 3400)],) * 2,
    }
    counts = {
        name: tuple(_covered(elements, i, window) for window in (0, 1))
        for i, name in enumerate(concepts["annotation_class"])
        if name.startswith("exon")
    }
    assert counts == expected
    # a flank ends where the chromosome does
    upstream = genes[genes["annotation_class"] == "early, 500 bp upstream"]
    assert upstream[["start_bp", "end_bp"]].values.tolist() == [[0, 200]]


def test_without_its_column_strands_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text(BED)
    table = read_bed(tmp_path / "a.bed")
    assert list(concepts_of({"genes": table})["annotation_class"]) == ["early", "exon"]
    with pytest.raises(InputError, match=r"line 1: column 4, the strand, holds 'g'"):
        read_bed(tmp_path / "a.bed", 6, 4)


def test_an_element_without_strand_has_no_flank() -> None:
    row = {"chrom": "chr1", "start_bp": 5, "end_bp": 9, "annotation_class": "x", "strand": "."}
    assert len(with_strands(pd.DataFrame([row]))) == 1
