"""Nodes that two SAEs share, on the page: in order of likeness, with names, links and logos."""

from __future__ import annotations

import re

import numpy as np

from saeborzoi.comparison.side_by_side import (
    MAX_NODES,
    Shown,
    best_place,
    side_by_side,
    svg_logo,
)
from saeborzoi.comparison.stability import Matches

SURE_A = np.array([[1.0, 0, 0, 0], [0.25] * 4])


def matches(jaccard: list[float]) -> Matches:
    n = len(jaccard)
    nodes, values = np.arange(n, dtype=np.int32), np.array(jaccard, np.float32)
    return Matches(nodes, nodes + 5, np.full(n, 0.9, np.float32), values, n, n, n, 0.9, 0.9)


def test_a_logo_is_as_high_as_its_information() -> None:
    logo = svg_logo(SURE_A, "m")
    # two bits of A fill the first column, the second says nothing
    assert re.findall(r'href="#base(.)" transform="(.*?)"', logo) == [
        ("A", "translate(0 0.0) scale(9 34.0)")
    ]


def test_a_motif_is_turned_and_shifted_to_lie_under_the_other() -> None:
    letters = np.eye(4)
    site = letters[[2, 0, 3, 0, 0]]  # GATAA
    longer = np.vstack([np.full((2, 4), 0.25), site])
    assert best_place(longer, site) == (False, 2)
    assert best_place(site, longer) == (False, -2)
    assert best_place(longer, site[::-1, ::-1]) == (True, 2)
    shown = {
        "a": Shown({0: "GATA"}, {0: longer}, None),
        "b": Shown({5: "GATA"}, {5: site[::-1, ::-1]}, None),
    }
    page = side_by_side([("a", "b", matches([0.9]))], shown)
    assert "GATA (reverse complement)" in page
    # the same letters at the same places
    first, second = re.findall(r"<td class=\"words\">.*?</td>", page)
    drawn = r'href="#base(.)" transform="translate\((\d+) '
    assert re.findall(drawn, first) == re.findall(drawn, second)
    assert [letter for letter, _ in re.findall(drawn, first)] == list("GATAA")


def test_nodes_stand_beside_each_other() -> None:
    shown = {
        "a": Shown({0: "AP-1 <b>", 1: "CTCF"}, {1: SURE_A}, "../x/index.html"),
        "b": Shown({6: "CTCF"}, {}, None),
    }
    page = side_by_side([("a", "b", matches([0.5, 0.8])), ("a", "b", matches([0.6]))], shown)
    rows = re.findall(r"<tr>(<td.*?)</tr>", page)
    # the most alike first, each pair of SAEs in a block of which the first is open
    assert 'href="../x/index.html#node=1"' in rows[0]
    assert "0.80" in rows[0]
    assert "node 6" in rows[0]
    assert "<svg" in rows[0]
    assert "AP-1 &lt;b&gt;" in rows[1]
    assert "<svg" not in rows[1]
    assert page.count("<details open>") == 1
    assert "2 nodes in common" in page
    assert "1 node in common" in page
    assert page.count("<defs>") == 1


def test_a_page_does_not_grow_with_the_saes() -> None:
    shown = {key: Shown({}, {}, None) for key in "ab"}
    page = side_by_side([("a", "b", matches([0.5] * (MAX_NODES + 3)))], shown)
    assert len(re.findall(r"<tr><td", page)) == MAX_NODES
    assert "3 more" in page
    assert side_by_side([], {}) == ""
