"""Matplotlib figures as every plot here starts and ends: the house style, small PNGs, and SVG that
takes the colours of the page around it.

No pyplot: a figure belongs to whoever asked for it. What is drawn belongs to `plots.py` and
`comparison/plots.py`.
"""

from __future__ import annotations

import base64
import html
import io
import re

from saeborzoi.extras import extra

with extra("notebook"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MAX_BYTES = 60_000
"""Largest PNG of a plot: it stands in an event log."""
INK = "#2B3138"
GREY = "#9AA3AB"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D1F")
"""Okabe and Ito's colours for the colour-blind without black and yellow, and two more."""
BASE_COLOURS = {"A": "#00805F", "C": "#0072B2", "G": "#B87500", "T": "#C2410C"}
_IN_THE_DARK = {
    "#0072b2": "#4ba3e3", "#d55e00": "#f0803c", "#009e73": "#2fc79a", "#cc79a7": "#e29cc4",
    "#e69f00": "#f2b84b", "#56b4e9": "#8fd0f5", "#7a5195": "#b493d3", "#8c6d1f": "#cbb26a",
    "#00805f": "#4fd0a2", "#b87500": "#efb450", "#c2410c": "#ff8f6b",
}  # fmt: skip
"""Colours of the house on a light ground to those on a dark one, as on the nodes' pages."""


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


def colour_bar(figure: Plot, values: ScalarMappable, axes: Axes | list[Axes], label: str) -> None:
    """A scale beside the axes, its numbers as large as theirs."""
    figure.colorbar(values, ax=axes, label=label, shrink=0.9).ax.tick_params(labelsize=8)


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
    # `savefig` would draw the figure once more before, to put its axes in their places
    FigureCanvasAgg(figure).print_png(buffer)
    image = Image.open(buffer).convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def svg_of(figure: Figure, name: str) -> str:
    """The figure as an SVG element for the inside of a page: without a ground, and ink is the
    page's own colour of text, so that it can be read in the dark, too.

    Parameters
    ----------
    name
        Its text alternative; also what keeps its identifiers apart from those of other figures
        of the page.
    """
    buffer = io.StringIO()
    # text stays text: small, searchable, and in the reader's own font
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue()
    svg = re.sub(rf"#000000|{INK}", "currentColor", svg[svg.index("<svg") :], flags=re.IGNORECASE)
    svg = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _of_theme, svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "system-ui, sans-serif", svg)
    # "figure_1" stands in every figure; what nothing refers to needs no name
    referred = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda tag: tag[0] if tag[1] in referred else "", svg)
    # Matplotlib leaves out a fill that is black
    start = f'<svg role="img" aria-label="{html.escape(name)}" fill="currentColor"'
    return svg.replace("<svg", start, 1)


def themed(colour: str) -> str:
    """CSS value of a colour of the house that follows the page's theme; others stay.

    >>> themed("#0072B2"), themed("#123456")
    ('light-dark(#0072b2, #4ba3e3)', '#123456')
    """
    dark = _IN_THE_DARK.get(colour.lower())
    return colour if dark is None else f"light-dark({colour.lower()}, {dark})"


def _of_theme(declaration: re.Match[str]) -> str:
    # the plain colour first, for browsers that do not know light-dark()
    kind, colour = declaration.groups()
    value = themed(colour)
    return declaration[0] if value == colour else f"{declaration[0]}; {kind}: {value}"


def as_markdown_image(figure: Figure, alternative: str = "plot") -> str:
    """The figure as a markdown image with a data URI, for Dagster's markdown metadata."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png_of(figure)).decode()})"
