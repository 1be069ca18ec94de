"""Seqlets: the right sequence at the right place, and why a node is not selected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows
from saeborzoi.nodes.seqlets import make_seqlets

SEQUENCE = "".join(np.random.default_rng(0).choice(list("acgtACGT"), 400))
SEQUENCE = SEQUENCE[:200] + "N" + SEQUENCE[201:]


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[Genome]:
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n")
    with Genome(path) as genome:
        yield genome


def windows(chrom: str = "chr1") -> Windows:
    return Windows(
        path=Path("w.bed"),
        chrom=np.array([chrom, chrom], object),
        start_bp=np.array([0, 200]),
        end_bp=np.array([200, 400]),
        shard=np.array([0, 0]),
        row=np.array([0, 1]),
        line=np.array([1, 2]),
    )


def layer(width: int) -> dict[str, Any]:
    return {"width_bp": width, "bp_per_position": 4, "pad_bp": 8}


def top(*rows: tuple[int, int, int, int, float]) -> pd.DataFrame:
    columns = ["node", "rank", "window", "position", "activation"]
    return pd.DataFrame(list(rows), columns=columns)


def counts(**nodes: int) -> pd.Series:
    return pd.Series({int(name[1:]): count for name, count in nodes.items()})


EASY: dict[str, Any] = {"n_top": 10, "min_nonzero": 1, "min_strong": 1}


@pytest.mark.parametrize("width", [14, 13])
def test_sequence_is_the_reference_around_the_position(genome: Genome, width: int) -> None:
    activations = top((5, 0, 1, 20, 3.0), (5, 1, 0, 10, 2.0), (9, 0, 0, 11, 9.0))
    seqlets, selection = make_seqlets(
        activations, counts(n5=2), windows(), genome, **layer(width), **EASY
    )
    # position 20 of the second window: 200 - 8 + 20 * 4 = 272, centre 274
    assert seqlets["start_bp"].tolist() == [274 - width // 2, 34 - width // 2]
    assert (seqlets["end_bp"] - seqlets["start_bp"] == width).all()
    assert seqlets["sequence"].tolist() == [
        SEQUENCE[s : s + width].upper() for s in seqlets["start_bp"]
    ]
    assert seqlets["rank"].tolist() == [0, 1]
    assert seqlets["node"].tolist() == [5, 5], "other nodes are not asked for"
    assert selection.to_dict("records") == [
        {
            "node": 5,
            "selected": True,
            "reason": None,
            "n_seqlets": 2,
            "n_strong": 2,
            "n_dropped": 0,
        }
    ]


def test_ends_and_unknown_bases_are_dropped_and_counted(genome: Genome) -> None:
    activations = top(
        (0, 0, 0, 2, 5.0),  # centre 2: beyond the start
        (0, 1, 1, 2, 4.0),  # centre 202: the N at 200
        (0, 2, 1, 51, 3.0),  # centre 398: beyond the end
        (0, 3, 0, 20, 2.0),
        (0, 4, 0, 30, 0.0),  # does not fire
    )
    seqlets, selection = make_seqlets(
        activations, counts(n0=4), windows(), genome, **layer(14), **EASY
    )
    assert seqlets["rank"].tolist() == [3]
    assert selection["n_dropped"].tolist() == [3]
    assert selection["n_seqlets"].tolist() == [1]


def test_reasons(genome: Genome) -> None:
    rule = {"n_top": 4, "min_nonzero": 1000, "min_strong": 3}
    rows = [(n, r, 0, 10 + r, a) for n in (1, 2, 3) for r, a in enumerate((9.0, 8.0, 1.0, 1.0))]
    rows += [(4, r, 0, 10 + r, 2.0) for r in range(9)]
    rows += [(6, r, 0, 2, 2.0) for r in range(3)]
    seqlets, selection = make_seqlets(
        top(*rows),
        counts(n0=0, n1=312, n2=1000, n3=5000, n4=1500, n6=2000),
        windows(),
        genome,
        **layer(14),
        **rule,  # type: ignore[arg-type]
    )
    few = "2 top positions above 0.5 x mean, needed 3"
    assert dict(zip(selection["node"], selection["reason"], strict=True)) == {
        0: "dead: never fires",
        1: "fires at 312 positions, needed 1,000",
        2: few,
        3: few,
        4: None,
        6: "no seqlet: every top position is at a chromosome end or not A, C, G, T",
    }
    assert selection["selected"].tolist() == [False, False, False, False, True, False]
    assert seqlets.groupby("node").size().to_dict() == {1: 4, 2: 4, 3: 4, 4: 4}


@pytest.mark.parametrize(("statistic", "strong"), [("mean", 3), ("max", 2)])
def test_strong_is_above_a_fraction_of_the_statistic(
    genome: Genome, statistic: str, strong: int
) -> None:
    rows = [(0, r, 0, 10 + r, a) for r, a in enumerate((10.0, 6.0, 4.0, 1.0))]
    rule: dict[str, Any] = {"min_nonzero": 1, "min_strong": 1, "strong_statistic": statistic}
    _, selection = make_seqlets(top(*rows), counts(n0=4), windows(), genome, **layer(14), **rule)
    assert selection["n_strong"].tolist() == [strong]


def test_chromosome_that_the_genome_lacks_is_refused(genome: Genome) -> None:
    with pytest.raises(InputError, match="line 1: chromosome 'chrX' is not in the genome"):
        make_seqlets(
            top((0, 0, 0, 20, 1.0)), counts(n0=1), windows("chrX"), genome, **layer(14), **EASY
        )


def test_batches_give_the_same_as_all_at_once(genome: Genome) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (n, r, int(rng.integers(2)), int(rng.integers(54)), float(rng.random()))
        for n in range(6)
        for r in range(8)
    ]
    n_nonzero = counts(n0=8, n1=8, n2=8, n3=8, n4=8, n5=8)
    whole = make_seqlets(top(*rows), n_nonzero, windows(), genome, **layer(14), **EASY)
    parts = [
        make_seqlets(top(*rows), n_nonzero.iloc[cut], windows(), genome, **layer(14), **EASY)
        for cut in (slice(0, 1), slice(1, 6))
    ]
    for one, many in zip(whole, zip(*parts, strict=True), strict=True):
        pd.testing.assert_frame_equal(one, pd.concat(many, ignore_index=True))
