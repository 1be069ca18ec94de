"""Overlaps with annotation: counts by brute force, chance by a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.genome.coordinates import Windows
from saeborzoi.nodes.overlaps import annotation_overlaps, repeat_classes

LAYER = {"width_bp": 10, "bp_per_position": 4, "pad_bp": 8}
BED = ["chrom", "start_bp", "end_bp", "annotation_class"]


def windows(*starts: int, core_bp: int = 4000) -> Windows:
    start = np.array(starts)
    n = len(starts)
    return Windows(
        path=Path("w.bed"),
        chrom=np.full(n, "chr1", object),
        start_bp=start,
        end_bp=start + core_bp,
        shard=np.zeros(n, np.int64),
        row=np.arange(n),
        line=np.arange(n),
    )


def seqlets(rows: list[tuple[int, str, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["node", "chrom", "start_bp"])
    return frame.assign(end_bp=frame["start_bp"] + 10)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["chr1", "chr2"]), st.integers(0, 90)),
        min_size=1,
        max_size=20,
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["chr1", "chr2"]),
            st.integers(0, 90),
            st.integers(1, 30),
            st.sampled_from(["Alu", "L1", "SVA"]),
        ),
        min_size=1,
        max_size=20,
    ),
)
def test_counts_equal_brute_force(
    seqlet_rows: list[tuple[int, str, int]], regions: list[tuple[str, int, int, str]]
) -> None:
    bed = pd.DataFrame([(c, s, s + w, k) for c, s, w, k in regions], columns=BED)
    result = annotation_overlaps(
        seqlets(seqlet_rows), {"rmsk": bed}, windows(0), **LAYER, n_shuffles=1, seed=0
    )
    expected = {}
    for node in {node for node, _, _ in seqlet_rows}:
        for name in set(bed["annotation_class"]):
            expected[node, name] = sum(
                any(
                    c == chrom and s < start + 10 and start < s + w and k == name
                    for c, s, w, k in regions
                )
                for n, chrom, start in seqlet_rows
                if n == node
            )
    keys = zip(result["node"], result["annotation_class"], strict=True)
    assert dict(zip(keys, result["n_overlapping"], strict=True)) == expected
    numbers = result.select_dtypes("number").to_numpy(float)
    assert np.isfinite(numbers).all(), "a NaN would sort above every number in the catalogue"


def test_chance_is_the_share_of_the_scanned_genome() -> None:
    """Two windows that overlap scan 100,000-106,000 once; the class covers a sixth of it, and
    everything outside of it, which is no concern."""
    bed = pd.DataFrame(
        [("chr1", 0, 101_000, "c"), ("chr1", 106_000, 10**7, "c"), ("chr2", 0, 10**7, "c")],
        columns=BED,
    )
    rows = [(0, "chr1", 100_000 + 4 * i) for i in range(200)]
    rows += [(1, "chr1", 102_000 + 4 * i) for i in range(200)]
    result = annotation_overlaps(
        seqlets(rows), {"a": bed}, windows(100_000, 102_000), **LAYER, n_shuffles=500, seed=0
    ).set_index("node")
    assert result["n_overlapping"].tolist() == [200, 0]
    # seqlets reach out 5 bp from their centre: a little more than a sixth
    assert result["n_expected"].tolist() == pytest.approx([200 * 1008 / 6000] * 2, rel=0.03)
    assert result.loc[0, "z_score"] == pytest.approx(1)
    assert result.loc[1, "z_score"] == pytest.approx(-1)
    share = 1008 / 6000
    z = (200 - 200 * share) / np.sqrt(200 * share * (1 - share))
    assert result.loc[0, "z_shuffled"] == pytest.approx(z, rel=0.03)
    odds = (200.5 / 0.5) / (share / (1 - share))
    assert result.loc[0, "odds_ratio"] == pytest.approx(odds, rel=0.05)
    assert result.loc[0, "odds_ratio_low"] > 10
    assert result.loc[1, "odds_ratio_high"] < 0.3


def test_interval_of_the_odds_ratio_holds_one_where_nothing_is_there() -> None:
    """Seqlets at random: about 95 % of the intervals hold 1."""
    rng = np.random.default_rng(3)
    bed = pd.DataFrame([("chr1", s, s + 400, "c") for s in range(0, 200_000, 2000)], columns=BED)
    start = rng.integers(0, 200_000 // 4, 200 * 300) * 4
    rows = [(i // 300, "chr1", int(s)) for i, s in enumerate(start)]
    result = annotation_overlaps(
        seqlets(rows), {"a": bed}, windows(0, core_bp=200_000), **LAYER, n_shuffles=10, seed=0
    )
    holds = (result["odds_ratio_low"] < 1) & (result["odds_ratio_high"] > 1)
    assert 0.9 < holds.mean() < 0.99
    assert result["z_shuffled"].std() == pytest.approx(1, abs=0.15)


def test_seed_decides_and_order_does_not() -> None:
    bed = pd.DataFrame([("chr1", 500, 900, "b"), ("chr1", 100, 120, "a")], columns=BED)
    frame = seqlets([(n, "chr1", 4 * i) for n in (4, 2) for i in range(50)])

    def run(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
        return annotation_overlaps(frame, {"x": bed, "y": bed}, windows(0), **LAYER, seed=seed)

    first = run(frame, 7)
    assert list(first["annotation_class"].unique()) == ["a", "b"]
    assert len(first) == 2 * 2 * 2
    pd.testing.assert_frame_equal(first, run(frame.sample(frac=1, random_state=0), 7))
    assert not first["n_expected"].equals(run(frame, 8)["n_expected"])


@pytest.mark.parametrize("what", ["seqlets", "annotations"])
def test_nothing_to_compare_is_an_empty_table(what: str) -> None:
    bed = pd.DataFrame([("chr1", 500, 900, "b")], columns=BED)
    frame = seqlets([(0, "chr1", 4)])
    full = annotation_overlaps(frame, {"a": bed}, windows(0), **LAYER, n_shuffles=1)
    empty = annotation_overlaps(
        frame.iloc[:0] if what == "seqlets" else frame,
        {} if what == "annotations" else {"a": bed},
        windows(0),
        **LAYER,
        n_shuffles=1,
    )
    assert empty.empty
    assert list(empty) == list(full)
    numeric = [c for c in full if c not in ("annotation", "annotation_class")]
    assert empty[numeric].dtypes.tolist() == full[numeric].dtypes.tolist()


def test_the_class_that_carries_a_repeat_is_named() -> None:
    """Of 40 seqlets ten are copies: nine lie in Alu, which covers a hundredth of the genome, all
    40 in introns."""
    rng = np.random.default_rng(0)
    element = "GGCTGAGGCAGGAGAATCGC"
    texts = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(30)] + [element] * 10
    start = np.arange(40) * 1000
    seqlets = pd.DataFrame(
        {"node": 3, "rank": range(40), "sequence": texts, "chrom": "chr1", "start_bp": start,
         "end_bp": start + 20}
    )  # fmt: skip
    copies = start[30:39]
    alu = pd.DataFrame(
        {"chrom": "chr1", "start_bp": copies - 100, "end_bp": copies + 10,
         "annotation_class": "SINE/Alu"}
    )  # fmt: skip
    intron = pd.DataFrame(
        {"chrom": ["chr1"], "start_bp": [0], "end_bp": [41000], "annotation_class": "intron"}
    )
    annotations = {"genes": intron, "repeats": alu}
    chance = pd.DataFrame(
        {"node": 3, "annotation": ["genes", "repeats"], "n_seqlets": 40,
         "annotation_class": ["intron", "SINE/Alu"], "n_expected": [39.0, 0.4]}
    )  # fmt: skip
    matrix = np.full((20, 4), 0.01)
    matrix[range(20), ["ACGT".index(letter) for letter in element]] = 0.97
    motifs = pd.DataFrame(
        {"node": [3, 9], "motif": 2, "matrix": [matrix.tolist()] * 2, "n_sites": 10}
    )
    (row,) = repeat_classes(motifs, seqlets, annotations, chance, both_strands=False).itertuples()
    assert (row.node, row.motif, row.annotation_class) == (3, 2, "SINE/Alu")
    assert (row.n_sites, row.n_overlapping, row.n_expected) == (10, 9, 0.1)
    assert repeat_classes(motifs.iloc[:0], seqlets, annotations, chance, both_strands=False).empty
    # a project without annotation has repeats, too
    assert repeat_classes(motifs, seqlets, {}, chance.iloc[:0], both_strands=False).empty
