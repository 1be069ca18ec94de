"""Nodes that two SAEs share, beside each other with their logos, as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from saeborzoi.comparison.stability import Matches
from saeborzoi.errors import counted
from saeborzoi.figures import BASE_COLOURS, themed
from saeborzoi.motifs.properties import column_bits

MAX_PAIRS = 6
MAX_NODES = 25
"""Pairs of SAEs that stand on the page, those with most nodes in common, and nodes of each."""
_COLUMN, _HEIGHT = 9.0, 34.0
_LEAST_BITS = 0.04


class Shown(NamedTuple):
    """What is shown of an SAE's nodes: names and matrices (width, 4) of those that have any, and
    where their pages are (None: nowhere)."""

    names: Mapping[int, str]
    matrices: Mapping[int, NDArray[np.float64]]
    page: str | None


def side_by_side(pairs: Sequence[tuple[str, str, Matches]], shown: Mapping[str, Shown]) -> str:
    """A block for each pair of SAEs, the first one open; nothing where there is no pair.

    Parameters
    ----------
    pairs
        The two partition keys, and nodes of theirs that are the same.
    shown
        Partition key to what is shown of it.
    """
    blocks = []
    for i, (a, b, matches) in enumerate(pairs):
        order = np.lexsort((-matches.cosine, -matches.jaccard))[:MAX_NODES]
        rows = "".join(_row(matches, n, shown[a], shown[b]) for n in order)
        more = len(matches.node_a) - len(order)
        head = (
            f'<th scope="col" class="words">{_linked(a, shown[a].page)}</th>'
            '<th scope="col">top positions, Jaccard</th><th scope="col">direction, cosine</th>'
            f'<th scope="col" class="words">{_linked(b, shown[b].page)}</th>'
        )
        blocks.append(
            f"<details{' open' if not i else ''}><summary>{html.escape(a)} and {html.escape(b)}: "
            f"{counted(len(matches.node_a), 'node')} in common</summary>"
            f'<div class="wide"><table class="pairs"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
            + (f"<p>{more:,} more: project.compare(a, b).nodes</p>" if more else "")
            + "</details>"
        )
    return _symbols() + "".join(blocks) if blocks else ""


def _linked(text: str, page: str | None) -> str:
    text = html.escape(text)
    return text if page is None else f'<a href="{html.escape(page)}">{text}</a>'


def _row(matches: Matches, n: int, a: Shown, b: Shown) -> str:
    """Both nodes; the second one's motif is turned and shifted to lie as the first one's does."""
    node_a, node_b = int(matches.node_a[n]), int(matches.node_b[n])
    matrix_a, matrix_b = a.matrices.get(node_a), b.matrices.get(node_b)
    shift, note = 0, ""
    if matrix_a is not None and matrix_b is not None:
        is_turned, shift = best_place(matrix_a, matrix_b)
        if is_turned:
            matrix_b, note = matrix_b[::-1, ::-1], " (reverse complement)"
    return (
        f"<tr>{_node(node_a, a, matrix_a, max(-shift, 0))}"
        f"<td>{matches.jaccard[n]:.2f}</td><td>{matches.cosine[n]:.2f}</td>"
        f"{_node(node_b, b, matrix_b, max(shift, 0), note)}</tr>"
    )


def best_place(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[bool, int]:
    """How a motif lies best under another one.

    Parameters
    ----------
    a, b
        (width, 4) float64, order A C G T.

    Returns
    -------
    Whether `b` is to be turned to its reverse complement, and the column of `a` at which it then
    starts, negative where it starts before it: where the sum over columns of the products of
    probabilities, less those of letters at random, is largest.
    """
    from_random = a - 0.25
    places = []
    for is_turned, other in ((False, b - 0.25), (True, b[::-1, ::-1] - 0.25)):
        products = from_random @ other.T
        for shift in range(1 - len(b), len(a)):
            places.append(
                (float(np.trace(products, offset=-shift)), not is_turned, -abs(shift), shift)
            )
    _, is_forward, _, shift = max(places)
    return not is_forward, shift


def _node(
    node: int, shown: Shown, matrix: NDArray[np.float64] | None, n_before: int, note: str = ""
) -> str:
    """A cell: the node, what it is called, and its motif after `n_before` empty columns."""
    text = _linked(f"node {node}", None if shown.page is None else f"{shown.page}#node={node}")
    name = shown.names.get(node)
    label = f'<span class="name">{html.escape(name)}{note}</span>' if name else ""
    logo = "" if matrix is None else svg_logo(matrix, f"motif of node {node}{note}", n_before)
    return f'<td class="words">{text} {label}{logo}</td>'


def svg_logo(matrix: NDArray[np.float64], label: str, n_before: int = 0) -> str:
    """A logo in bits whose letters are the page's symbols; the axis goes to 2 bits.

    Parameters
    ----------
    matrix
        (width, 4) float64, order A C G T.
    n_before
        Empty columns before it.
    """
    heights = matrix * column_bits(matrix)[:, None] / 2 * _HEIGHT
    letters = []
    for column, row in enumerate(heights, n_before):
        top = _HEIGHT
        for base in np.argsort(row, kind="stable"):
            if row[base] < _LEAST_BITS / 2 * _HEIGHT:
                continue
            top -= row[base]
            letters.append(
                f'<use href="#base{"ACGT"[base]}" transform="translate({column * _COLUMN:.0f} '
                f'{top:.1f}) scale({_COLUMN:.0f} {row[base]:.1f})"/>'
            )
    width = (n_before + len(matrix)) * _COLUMN
    return (
        f'<svg class="logo" role="img" aria-label="{html.escape(label)}" width="{width:.0f}" '
        f'height="{_HEIGHT:.0f}" viewBox="0 0 {width:.0f} {_HEIGHT:.0f}">{"".join(letters)}</svg>'
    )


@cache
def _symbols() -> str:
    """The letters, one unit wide and high, drawn once for the page."""
    shapes = []
    for base, colour in BASE_COLOURS.items():
        outline = TextPath((0, 0), base, size=10)
        box = outline.get_extents()
        low, high = np.asarray(box.min), np.asarray(box.max)
        points = (np.asarray(outline.vertices) - low) / (high - low)
        commands = []
        verb = {1: "M", 2: "L", 3: "Q", 4: "C"}
        last = 0
        for (x, y), code in zip(points, outline.codes, strict=True):
            if code == 79:  # closes the outline
                commands.append("Z")
            else:
                # the points of a curve follow one another
                commands.append("" if code == last and code in (3, 4) else verb[int(code)])
                commands.append(f"{x:.3f} {1 - y:.3f} ")
            last = code
        shapes.append(
            f'<path id="base{base}" fill="{colour}" style="fill: {themed(colour)}" '
            f'd="{"".join(commands)}"/>'
        )
    return f'<svg width="0" height="0" aria-hidden="true"><defs>{"".join(shapes)}</defs></svg>'
