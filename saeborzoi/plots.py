"""The main plots as small PNGs, light enough to stand in an event log.

Each function takes a table of the catalogue (columns as in `docs/catalog`; with or without
`hyperparameters`) and returns the bytes of one PNG below 60 kB. matplotlib is imported where it
is used. Interactive views belong to `saeborzoi.browser`.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.matching import best_matches
from saeborzoi.motifs.properties import as_matrix, column_bits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BYTES = 60_000
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D1F")
"""Okabe and Ito's colours for the colour-blind without black and yellow, and two more."""
BASE_COLOURS = {"A": "#00805F", "C": "#0072B2", "G": "#B87500", "T": "#C2410C"}
_GREY = "#9AA3AB"
_INK = "#2B3138"


def training_curves(training_log: pd.DataFrame) -> bytes:
    """FVU and dead share over positions, train and validation; PNG bytes."""
    figure, (left, right) = _figure(7.2, 2.7, columns=2)
    for axis, column, label in (
        (left, "fvu", "fraction of variance unexplained"),
        (right, "dead_fraction", "share of dead nodes"),
    ):
        for split, colour in (("train", PALETTE[0]), ("validation", PALETTE[1])):
            rows = training_log[training_log["split"] == split].sort_values("n_positions")
            rows = rows[rows[column].notna()]
            if len(rows):
                axis.plot(
                    rows["n_positions"], rows[column], color=colour, label=split,
                    marker="o" if len(rows) < 15 else None, markersize=3,
                )  # fmt: skip
        axis.set(xlabel="positions seen", title=label, ylim=(0, None))
    if left.lines:
        left.legend(frameon=False)
    return _png(figure)


def activation_frequency(node: pd.DataFrame) -> bytes:
    """Histogram of how often nodes fire, log axis, dead nodes counted in words; PNG bytes."""
    figure, (axis,) = _figure(5.2, 2.7)
    frequency = node["frequency"].to_numpy(dtype=float)
    alive = frequency[frequency > 0]
    if len(alive):
        low, high = np.log10(alive.min()), np.log10(alive.max())
        axis.hist(alive, bins=np.logspace(low - 1e-9, high + 1e-9, 41).tolist(), color=PALETTE[0])
        axis.set_xscale("log")
    n_dead = len(frequency) - len(alive)
    axis.set(
        xlabel="share of positions where the node fires",
        ylabel="nodes",
        title=f"{len(alive):,} nodes fire, {n_dead:,} never do",
    )
    return _png(figure)


def umap_by_family(node_embedding: pd.DataFrame, matches: pd.DataFrame) -> bytes:
    """UMAP of the nodes, coloured by the family of their best significant match; PNG bytes.

    Parameters
    ----------
    node_embedding
        Table `node_embedding`.
    matches
        Table `motif_match`; the eight families with most nodes get a colour.
    """
    figure, (axis,) = _figure(7.2, 4.4)
    families = best_matches(matches).set_index("node")["target_family"]
    family = node_embedding["node"].map(families).fillna("")
    named = family[family != ""].value_counts().index[: len(PALETTE)]
    x, y = node_embedding["umap_1"].to_numpy(), node_embedding["umap_2"].to_numpy()
    rest = ~family.isin(named).to_numpy()
    size = float(np.clip(3000 / max(len(x), 1), 2, 16))
    axis.scatter(x[rest], y[rest], s=size, color=_GREY, alpha=0.5, linewidths=0, label="other")
    for name, colour in zip(named, PALETTE, strict=False):
        here = (family == name).to_numpy()
        label = name if len(name) <= 34 else name[:33] + "…"
        axis.scatter(x[here], y[here], s=size * 1.3, color=colour, linewidths=0, label=label)
    axis.set(title="nodes by family of their best match", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2)
    return _png(figure)


def motif_logos(motif: pd.DataFrame, n: int = 8) -> bytes:
    """Logos of the `n` most significant motifs, two a row, in bits; PNG bytes."""
    rows = motif[motif["is_significant"].astype(bool)].sort_values(["log10_e_value", "node"])
    rows = rows.head(n)
    if rows.empty:
        figure, (axis,) = _figure(5.2, 1.0)
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no significant motif", ha="center", va="center", color=_INK)
        return _png(figure)
    n_rows = (len(rows) + 1) // 2
    figure, axes = _figure(7.2, 1.15 * n_rows + 0.2, columns=2, rows=n_rows)
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes, rows.to_dict("records"), strict=False):
        matrix = as_matrix(row["matrix"])
        draw_logo(axis, matrix)
        axis.set_title(
            f"node {row['node']}, motif {row['motif']}: E = 1e{row['log10_e_value']:.0f}, "
            f"{row['n_sites']} sites",
            fontsize=8,
            loc="left",
        )
    return _png(figure)


def annotation_heatmap(annotation_overlap: pd.DataFrame, n_per_class: int = 4) -> bytes:
    """Log2 odds ratio of each class for the nodes most enriched in each class; PNG bytes."""
    frame = annotation_overlap.assign(
        label=annotation_overlap["annotation_class"].astype(str).str.slice(0, 24)
    )
    tables = frame.groupby("label", sort=False)
    top = tables.apply(lambda rows: rows.nlargest(n_per_class, "z_shuffled")["node"].tolist())
    nodes = list(dict.fromkeys(node for chosen in top for node in chosen))
    wide = frame[frame["node"].isin(nodes)].pivot_table(
        index="label", columns="node", values="odds_ratio", sort=False
    )
    wide = wide[[node for node in nodes if node in wide.columns]]
    values = np.log2(wide.clip(lower=1 / 64, upper=64)).to_numpy()
    figure, (axis,) = _figure(7.2, 1.2 + 0.2 * len(wide))
    if values.size:
        image = axis.imshow(values, cmap="PuOr_r", vmin=-4, vmax=4, aspect="auto")
        figure.colorbar(image, ax=axis, label="log2 odds ratio", shrink=0.9)
        axis.set_yticks(range(len(wide)), [_plain(name) for name in wide.index])
        step = max(1, len(nodes) // 24)
        axis.set_xticks(range(0, len(nodes), step), nodes[::step], rotation=90)
    axis.set(xlabel="node", title="annotation of the most enriched nodes")
    return _png(figure)


def jaccard_heatmap(node_jaccard: pd.DataFrame, n_nodes: int = 60) -> bytes:
    """Jaccard index among the `n_nodes` nodes that share most, ordered by it; PNG bytes."""
    pairs = node_jaccard[["node_a", "node_b", "jaccard"]]
    total = (
        pairs.groupby("node_a")["jaccard"]
        .sum()
        .add(pairs.groupby("node_b")["jaccard"].sum(), fill_value=0)
    )
    nodes = np.sort(total.nlargest(n_nodes).index.to_numpy(dtype=np.int64))
    place = {node: i for i, node in enumerate(nodes)}
    pairs = pairs[pairs["node_a"].isin(place) & pairs["node_b"].isin(place)]
    values = np.eye(len(nodes))
    a, b = pairs["node_a"].map(place).to_numpy(int), pairs["node_b"].map(place).to_numpy(int)
    values[a, b] = values[b, a] = pairs["jaccard"]
    order = _order(values)
    figure, (axis,) = _figure(5.2, 4.6)
    if len(nodes):
        image = axis.imshow(values[np.ix_(order, order)], cmap="viridis", vmin=0, vmax=1)
        figure.colorbar(image, ax=axis, label="Jaccard index", shrink=0.9)
        ticks = range(0, len(nodes), max(1, len(nodes) // 20))
        axis.set_xticks(ticks, nodes[order][list(ticks)], rotation=90)
        axis.set_yticks(ticks, nodes[order][list(ticks)])
    axis.set(title=f"the {len(nodes)} nodes that share most seqlets")
    return _png(figure)


def as_markdown_image(png: bytes, alternative: str = "plot") -> str:
    """The PNG as a markdown image with a data URI, for Dagster's markdown metadata."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def draw_logo(axis: Axes, matrix: NDArray[np.float64]) -> None:
    """Draw a (width, 4) matrix as a logo, letter heights in bits, the largest on top."""
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    letters = {base: TextPath((0, 0), base, size=1) for base in BASE_COLOURS}
    boxes = {base: path.get_extents() for base, path in letters.items()}
    heights = matrix * column_bits(matrix)[:, None]
    for position, column in enumerate(heights):
        bottom = 0.0
        for index in np.argsort(column):
            height = float(column[index])
            if height < 0.01:
                continue
            base = "ACGT"[index]
            box = boxes[base]
            place = (
                Affine2D()
                .translate(-box.x0, -box.y0)
                .scale(0.92 / box.width, height / box.height)
                .translate(position - 0.46, bottom)
            )
            axis.add_patch(
                PathPatch(place.transform_path(letters[base]), fc=BASE_COLOURS[base], lw=0)
            )
            bottom += height
    axis.set(xlim=(-0.6, len(matrix) - 0.4), ylim=(0, 2), yticks=[0, 1, 2], xticks=[])
    axis.set_ylabel("bits")


def _order(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of rows in which similar ones are neighbours (average linkage)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(similarity) < 3:
        return np.arange(len(similarity))
    distance = squareform(1 - similarity, checks=False)
    return np.asarray(leaves_list(linkage(distance, "average")), dtype=np.int64)


def _plain(text: str) -> str:
    """Text without what matplotlib reads as mathematics or cannot draw."""
    return "".join(letter for letter in text if letter.isprintable()).replace("$", r"\$")


def _figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_INK)
    return figure, axes


def _png(figure: Figure) -> bytes:
    """The figure as a PNG of 128 colours, which keeps it below `MAX_BYTES`."""
    from PIL import Image

    for axis in figure.axes:
        axis.title.set_fontsize(9)
        axis.xaxis.label.set_fontsize(8)
        axis.yaxis.label.set_fontsize(8)
        if (legend := axis.get_legend()) is not None:
            for text in legend.get_texts():
                text.set_fontsize(8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return small.getvalue()
