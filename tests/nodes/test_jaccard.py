"""Jaccard of nodes: against sets of base pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.nodes.jaccard import jaccard_matrix, node_jaccard

SEQLETS = st.lists(
    st.tuples(
        st.sampled_from([2, 5, 7, 11]),
        st.sampled_from(["chr1", "chr2"]),
        st.integers(-2, 40),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=25,
)


def table(rows: list[tuple[int, str, int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["node", "chrom", "start_bp", "width"])
    return frame.assign(end_bp=frame["start_bp"] + frame["width"])


def by_base_pair(rows: list[tuple[int, str, int, int]]) -> dict[tuple[int, int], tuple]:
    """(node_a, node_b) -> merged loci of a that overlap b, and the Jaccard index."""
    covered: dict[int, set[tuple[str, int]]] = {}
    for node, chrom, start, width in rows:
        covered.setdefault(node, set()).update((chrom, start + i) for i in range(width))
    result = {}
    for a, b in itertools.combinations(sorted(covered), 2):
        both = covered[a] & covered[b]
        if both:
            n_loci = 0
            for chrom in ("chr1", "chr2"):
                inside = sorted(p for c, p in covered[a] if c == chrom)
                runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
                n_loci += sum(any((chrom, p) in both for p in run) for run in runs)
            result[a, b] = (n_loci, len(both) / len(covered[a] | covered[b]))
    return result


@given(SEQLETS)
def test_equals_sets_of_base_pairs(rows: list[tuple[int, str, int, int]]) -> None:
    pairs = node_jaccard(table(rows))
    measured = {
        (a, b): (n, j)
        for a, b, n, j in zip(
            pairs["node_a"], pairs["node_b"], pairs["n_overlapping"], pairs["jaccard"], strict=True
        )
    }
    expected = by_base_pair(rows)
    assert list(measured) == sorted(expected)
    for pair, (n, jaccard) in expected.items():
        assert measured[pair][0] == n
        assert np.isclose(measured[pair][1], jaccard)


def test_dense_matrix_is_symmetric_with_unit_diagonal() -> None:
    rows = [(3, "chr1", 0, 10), (8, "chr1", 5, 10), (9, "chr2", 0, 10)]
    matrix = jaccard_matrix(node_jaccard(table(rows)), [9, 3, 8])
    third = 5 / 15
    assert np.allclose(matrix, np.array([[1, 0, 0], [0, 1, third], [0, third, 1]]))
    assert jaccard_matrix(node_jaccard(table(rows)), [8, 9]).tolist() == [[1, 0], [0, 1]]


def test_no_seqlets_no_pairs() -> None:
    pairs = node_jaccard(table([]))
    assert pairs.empty
    assert list(pairs) == ["node_a", "node_b", "n_overlapping", "jaccard"]


def test_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    frame = table([(int(rng.integers(9)), "chr1", int(s), 14) for s in rng.integers(0, 900, 300)])
    pd.testing.assert_frame_equal(
        node_jaccard(frame), node_jaccard(frame.sample(frac=1, random_state=2))
    )
