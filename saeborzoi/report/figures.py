"""Figures of a report as SVG that stands inside an HTML page."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from saeborzoi.figures import Plot, new_figure
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.plots import draw_logo

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_of(figure: Figure, name: str) -> str:
    """The figure as an SVG element.

    Parameters
    ----------
    name
        Its text alternative; also what keeps its identifiers apart from those of other figures
        of the page.
    """
    import html

    import matplotlib

    buffer = io.StringIO()
    # text stays text: small, searchable, and in the reader's own font
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)


def small_logo(matrix: Iterable[Iterable[float]]) -> Plot:
    """A logo for a line of a table, without axes.

    Parameters
    ----------
    matrix
        (width, 4), rows sum to 1, order A C G T.
    """
    letters = as_matrix(matrix)
    figure, (axis,) = new_figure(0.13 * len(letters) + 0.1, 0.5)
    draw_logo(axis, letters)
    axis.set_axis_off()
    return figure
