"""Figures that only a report has."""

from __future__ import annotations

from collections.abc import Iterable

from saeborzoi.figures import Plot, new_figure
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.plots import draw_logo


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
