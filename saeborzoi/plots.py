"""The main plots: each takes a table of the catalogue and returns a Matplotlib figure.

Tables are as `saeborzoi.catalog.schema` describes them, with or without `hyperparameters`. How a
figure becomes a PNG is in `figures.py`; interactive views belong to `saeborzoi.browser`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saeborzoi.figures import (
    BASE_COLOURS,
    GREY,
    INK,
    PALETTE,
    Plot,
    colour_bar,
    finished,
    new_figure,
)
from saeborzoi.motifs.matching import best_matches
from saeborzoi.motifs.properties import as_matrix, column_bits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def training_curves(training_log: pd.DataFrame) -> Plot:
    """FVU and dead share over positions, train and validation."""
    figure, (left, right) = new_figure(7.2, 2.7, columns=2)
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
    return finished(figure)


def activation_frequency(node: pd.DataFrame) -> Plot:
    """Histogram of how often nodes fire, log axis, dead nodes counted in words."""
    figure, (axis,) = new_figure(5.2, 2.7)
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
    return finished(figure)


def recovered_by_track(fidelity_track: pd.DataFrame, n: int = 24) -> Plot:
    """r on the log scale and loss recovered of the tracks that the SAE keeps worst.

    Parameters
    ----------
    fidelity_track
        Table `fidelity_track`.
    """
    rows = fidelity_track[fidelity_track["splice"] == "sae"]
    rows = rows.sort_values("recovered_mean", na_position="last").head(n)[::-1]
    figure, axes = new_figure(7.2, 1.0 + 0.22 * max(len(rows), 1), columns=2)
    place = np.arange(len(rows))
    for axis, column, title, colour in (
        (axes[0], "recovered_mean", "loss recovered against mean ablation", PALETTE[0]),
        (axes[1], "r_log", "r, log scale", PALETTE[2]),
    ):
        axis.barh(place, rows[column], color=colour, height=0.7)
        axis.set(title=title)
        axis.set_yticks(place, rows["track"] if axis is axes[0] else [""] * len(rows))
        axis.tick_params(axis="y", labelsize=6)
    return finished(figure)


def effects_on_tracks(node_effect: pd.DataFrame, n: int = 24) -> Plot:
    """Of each track the node whose ablation moves it most, and what the controls there do.

    Parameters
    ----------
    node_effect
        Table `node_effect`; the tracks of the largest effects are shown.
    """
    rows = node_effect[(node_effect["loci"] == "activation") & (node_effect["node_rank"] == 1)]
    rows = rows.reindex(rows["ablated"].abs().sort_values(ascending=False).index).head(n)[::-1]
    figure, (axis,) = new_figure(6.2, 1.0 + 0.22 * max(len(rows), 1))
    place = np.arange(len(rows))
    beyond = rows["is_significant"].astype(bool).to_numpy()
    axis.barh(
        place, rows["ablated"], height=0.7,
        color=[PALETTE[0] if significant else GREY for significant in beyond],
    )  # fmt: skip
    axis.errorbar(
        rows["control"], place, xerr=rows["control_std"].fillna(0), fmt="o", color=INK, ms=3, lw=1,
        label="other nodes there, standard deviation",
    )  # fmt: skip
    axis.set_yticks(
        place, [f"{t}, node {m}" for t, m in zip(rows["track"], rows["node"], strict=True)]
    )
    axis.tick_params(axis="y", labelsize=6)
    axis.set(title="change with the node ablated, log scale; grey: within controls")
    axis.legend(frameon=False, fontsize=6)
    return finished(figure)


def umap_by_family(node_embedding: pd.DataFrame, matches: pd.DataFrame) -> Plot:
    """UMAP of the nodes, coloured by the archetype of their best significant match.

    Parameters
    ----------
    node_embedding
        Table `node_embedding`.
    matches
        Table `motif_match`; the eight archetypes with most nodes get a colour.
    """
    figure, (axis,) = new_figure(7.2, 4.4)
    families = best_matches(matches).set_index("node")["archetype"]
    family = node_embedding["node"].map(families).fillna("")
    named = family[family != ""].value_counts().index[: len(PALETTE)]
    x, y = node_embedding["umap_1"].to_numpy(), node_embedding["umap_2"].to_numpy()
    rest = ~family.isin(named).to_numpy()
    size = float(np.clip(3000 / max(len(x), 1), 2, 16))
    axis.scatter(x[rest], y[rest], s=size, color=GREY, alpha=0.5, linewidths=0, label="other")
    for name, colour in zip(named, PALETTE, strict=False):
        here = (family == name).to_numpy()
        label = name if len(name) <= 34 else name[:33] + "…"
        axis.scatter(x[here], y[here], s=size * 1.3, color=colour, linewidths=0, label=label)
    axis.set(title="nodes by family of motifs", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2)
    return finished(figure)


def motif_logos(motif: pd.DataFrame, n: int = 8) -> Plot:
    """Logos of the `n` most significant motifs, two a row, in bits."""
    rows = motif[motif["is_significant"].astype(bool)].sort_values(["log10_e_value", "node"])
    rows = rows.head(n)
    if rows.empty:
        figure, (axis,) = new_figure(5.2, 1.0)
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no significant motif", ha="center", va="center", color=INK)
        return finished(figure)
    n_rows = (len(rows) + 1) // 2
    figure, axes = new_figure(7.2, 1.15 * n_rows + 0.2, columns=2, rows=n_rows)
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes, rows.to_dict("records"), strict=False):
        draw_logo(axis, row["matrix"])
        axis.set_title(
            f"node {row['node']}, motif {row['motif']}: E = 1e{row['log10_e_value']:.0f}, "
            f"{row['n_sites']} sites",
            fontsize=8,
            loc="left",
        )
    return finished(figure)


def annotation_heatmap(annotation_overlap: pd.DataFrame, n_per_class: int = 4) -> Plot:
    """Log2 odds ratio of each class for the nodes most enriched in each class."""
    frame = annotation_overlap.assign(
        label=annotation_overlap["annotation_class"].astype(str).str.slice(0, 24)
    )
    tables = frame.groupby("label", sort=False)[["node", "z_shuffled"]]
    top = tables.apply(lambda rows: rows.nlargest(n_per_class, "z_shuffled")["node"].tolist())
    nodes = list(dict.fromkeys(node for chosen in top for node in chosen))
    wide = frame[frame["node"].isin(nodes)].pivot_table(
        index="label", columns="node", values="odds_ratio", sort=False
    )
    wide = wide[[node for node in nodes if node in wide.columns]]
    values = np.log2(wide.clip(lower=1 / 64, upper=64)).to_numpy()
    figure, (axis,) = new_figure(7.2, 1.2 + 0.2 * len(wide))
    if values.size:
        image = axis.imshow(values, cmap="PuOr_r", vmin=-4, vmax=4, aspect="auto")
        colour_bar(figure, image, axis, "log2 odds ratio")
        axis.set_yticks(range(len(wide)), [_plain(name) for name in wide.index])
        step = max(1, len(nodes) // 24)
        axis.set_xticks(range(0, len(nodes), step), nodes[::step], rotation=90)
    axis.set(xlabel="node", title="annotation of the most enriched nodes")
    return finished(figure)


def jaccard_heatmap(node_jaccard: pd.DataFrame, n_nodes: int = 60) -> Plot:
    """Jaccard index among the `n_nodes` nodes that share most, ordered by it."""
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
    figure, (axis,) = new_figure(5.2, 4.6)
    if len(nodes):
        image = axis.imshow(values[np.ix_(order, order)], cmap="viridis", vmin=0, vmax=1)
        colour_bar(figure, image, axis, "Jaccard index")
        ticks = range(0, len(nodes), max(1, len(nodes) // 20))
        axis.set_xticks(ticks, nodes[order][list(ticks)], rotation=90)
        axis.set_yticks(ticks, nodes[order][list(ticks)])
    axis.set(title=f"the {len(nodes)} nodes that share most seqlets")
    return finished(figure)


def motif_logo(matrix: Iterable[Iterable[float]], title: str = "") -> Plot:
    """Logo of one motif, in bits.

    Parameters
    ----------
    matrix
        (width, 4), rows sum to 1, order A C G T; column `matrix` of table `motif` as it is.
    """
    letters = as_matrix(matrix)
    figure, (axis,) = new_figure(0.9 + 0.22 * len(letters), 1.4)
    draw_logo(axis, letters)
    axis.set_title(title, fontsize=9, loc="left")
    return finished(figure)


def activation_tracks(
    start_bp: NDArray[np.int64], activation: Mapping[int, NDArray[np.float32]], chrom: str
) -> Plot:
    """Activation of some nodes along the genome, a row each.

    Parameters
    ----------
    start_bp
        (n_positions,) int64, start of each position, 0-based, ascending.
    activation
        Node to (n_positions,) float32.
    """
    figure, axes = new_figure(7.2, 0.5 + 0.75 * max(len(activation), 1), rows=len(activation) or 1)
    for place, (axis, node) in enumerate(zip(axes, activation, strict=False)):
        axis.fill_between(
            start_bp, activation[node], step="post", lw=0.6,
            color=PALETTE[place % len(PALETTE)],
        )  # fmt: skip
        axis.set(ylabel=f"node {node}", ylim=(0, None))
        axis.margins(x=0)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        if place < len(activation) - 1:
            axis.set_xticklabels([])
    axes[-1].set_xlabel(f"{chrom}, bp")
    return finished(figure)


def draw_logo(axis: Axes, matrix: Iterable[Iterable[float]]) -> None:
    """Draw a (width, 4) matrix as a logo, letter heights in bits, the largest on top."""
    from matplotlib.collections import PathCollection
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    letters = {base: TextPath((0, 0), base, size=1) for base in BASE_COLOURS}
    boxes = {base: path.get_extents() for base, path in letters.items()}
    matrix = as_matrix(matrix)
    heights = matrix * column_bits(matrix)[:, None]
    paths, colours = [], []
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
            paths.append(place.transform_path(letters[base]))
            colours.append(BASE_COLOURS[base])
            bottom += height
    axis.add_collection(PathCollection(paths, facecolors=colours, linewidths=0), autolim=False)
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
