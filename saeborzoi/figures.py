"""Matplotlib figures as every plot here starts and ends: the house style, and small PNGs.

No pyplot: a figure belongs to whoever asked for it. What is drawn belongs to `plots.py` and
`comparison/plots.py`.
"""

from __future__ import annotations

import base64
import io

from saeborzoi.extras import extra

with extra("notebook"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

MAX_BYTES = 60_000
"""Largest PNG of a plot: it stands in an event log."""
INK = "#2B3138"
GREY = "#9AA3AB"


class Plot(Figure):
    """A Matplotlib figure that a notebook shows as the last line of a cell.

    A figure that pyplot does not know is shown only where an inline backend is switched on; this
    one brings its picture. Save it with `savefig`, as PNG, PDF or SVG.
    """

    def _repr_png_(self) -> bytes:
        return png_of(self)


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Plot, list[Axes]]:
    """An empty figure of `rows` x `columns` axes.

    Parameters
    ----------
    width, height
        In inches, at 100 dots an inch.

    Returns
    -------
    tuple
        The figure and its axes, row by row.
    """
    figure = Plot(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    return figure, axes


def finished(figure: Plot) -> Plot:
    """The figure with titles, labels and legends in the sizes of the house."""
    for axis in figure.axes:
        axis.title.set_fontsize(9)
        axis.xaxis.label.set_fontsize(8)
        axis.yaxis.label.set_fontsize(8)
        if (legend := axis.get_legend()) is not None:
            for text in legend.get_texts():
                text.set_fontsize(8)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG of 128 colours, which keeps every plot here below `MAX_BYTES`."""
    with extra("notebook"):
        from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def as_markdown_image(figure: Figure | bytes, alternative: str = "plot") -> str:
    """The figure, or its PNG, as a markdown image with a data URI, for Dagster's markdown
    metadata."""
    png = figure if isinstance(figure, bytes) else png_of(figure)
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
