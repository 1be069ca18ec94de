"""Plots of the comparison of SAEs, as in `plots.py`: Matplotlib figures from its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saeborzoi.comparison.table import fvu_column, pareto_front
from saeborzoi.errors import counted
from saeborzoi.figures import INK, PALETTE, Plot, colour_bar, finished, new_figure
from saeborzoi.settings.hyperparameters import BASELINES

if TYPE_CHECKING:
    import pandas as pd

_GREY = "0.65"
"""Of what was not trained."""
_MAX_LABELS = 14
_MAX_BARS = 24
_MAX_LAYERS = 6
_LABEL = 8
"""Size of SAEs' names in points."""


def short_label(key: str, layer: str) -> str:
    """A partition key without its layer.

    >>> short_label("conv1d_1_x4_k0.05_lr0.003_s0", "conv1d_1")
    'x4 k0.05 lr0.003 s0'
    """
    return key.removeprefix(f"{layer}_").replace("_", " ")


def _labels(rows: pd.DataFrame) -> list[str]:
    """What SAEs are called: without their layer where they have one in common."""
    several = rows["layer"].nunique() > 1
    pairs = zip(rows["hyperparameters"], rows["layer"], strict=True)
    return [key if several else short_label(key, layer) for key, layer in pairs]


def reconstruction(comparison: pd.DataFrame) -> Plot:
    """FVU against L0 of each layer's SAEs, coloured by dead share, the Pareto front as a line.

    Parameters
    ----------
    comparison
        Table `sae_comparison`.
    """
    is_baseline = comparison["recipe"].isin(BASELINES)
    # an untrained SAE's FVU would leave no room to tell the others apart
    comparison = comparison if is_baseline.all() else comparison[~is_baseline]
    layers = [rows for _, rows in comparison.groupby("layer")][:_MAX_LAYERS]
    columns = min(len(layers), 3)
    n_rows = -(-len(layers) // columns)
    figure, axes = new_figure(2.6 + 2.3 * columns, 2.9 * n_rows, columns=columns, rows=n_rows)
    most_dead = max(float(comparison["dead_fraction"].max()), 0.01)
    points = None
    for axis in axes[len(layers) :]:
        axis.set_axis_off()
    for axis, rows in zip(axes, layers, strict=False):
        fvu = fvu_column(rows)
        front = rows[rows["is_pareto"]].sort_values(["l0", fvu])
        axis.plot(front["l0"], front[fvu], color=PALETTE[1], lw=1, zorder=1)
        points = axis.scatter(
            rows["l0"], rows[fvu], c=rows["dead_fraction"], cmap="viridis", vmin=0, vmax=most_dead,
            # ink around each, since the scale's ends are as dark and as light as a page's ground
            s=34, zorder=2, lw=[1.4 if best else 0.5 for best in rows["is_pareto"]],
            edgecolors=[PALETTE[1] if best else INK for best in rows["is_pareto"]],
        )  # fmt: skip
        layer = rows["layer"].iloc[0]
        # labels of the front only: SAEs of one L0 lie on top of each other
        for row in front.head(_MAX_LABELS).to_dict("records"):
            axis.annotate(
                short_label(row["hyperparameters"], layer), (row["l0"], row[fvu]),
                xytext=(0, -11), textcoords="offset points", fontsize=8, ha="center",
            )  # fmt: skip
        axis.set(
            xlabel="L0 (nodes a position)",
            ylabel="FVU, validation" if fvu == "validation_fvu" else "FVU, training",
            title=f"{layer}: {counted(len(rows), 'SAE')}, {len(front)} on the front",
        )
        axis.margins(0.25, 0.15)
    if points is not None:
        colour_bar(figure, points, axes, "share of dead nodes")
    return finished(figure)


def fidelity(comparison: pd.DataFrame) -> Plot:
    """Loss recovered against L0 of each layer's SAEs in their model, the Pareto front as a line;
    baselines are grey and on no front.

    Parameters
    ----------
    comparison
        Table `sae_comparison`; SAEs without a fidelity are left out.
    """
    measured = comparison[comparison["recovered_mean"].notna()]
    figure, (axis,) = new_figure(5.2, 2.9)
    is_baseline = measured["recipe"].isin(BASELINES)
    trained, baselines = measured[~is_baseline], measured[is_baseline]
    axis.scatter(baselines["l0"], baselines["recovered_mean"], s=24, color=_GREY)
    for row in baselines.head(_MAX_LABELS).to_dict("records"):
        axis.annotate(
            row["recipe"], (row["l0"], row["recovered_mean"]),
            xytext=(7, -3), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    for (layer, rows), colour in zip(trained.groupby("layer"), PALETTE, strict=False):
        best = rows[pareto_front(rows[["l0"]].assign(lost=-rows["recovered_mean"]))]
        best = best.sort_values("l0")
        axis.plot(best["l0"], best["recovered_mean"], color=colour, lw=1)
        axis.scatter(rows["l0"], rows["recovered_mean"], s=24, color=colour, label=layer)
        for row in best.head(_MAX_LABELS).to_dict("records"):
            axis.annotate(
                short_label(row["hyperparameters"], layer), (row["l0"], row["recovered_mean"]),
                xytext=(0, -11), textcoords="offset points", fontsize=8, ha="center",
            )  # fmt: skip
    axis.set(
        xlabel="L0 (nodes a position)",
        ylabel="loss recovered against mean ablation",
        title=f"{counted(len(trained), 'SAE')} in the model",
    )
    axis.margins(0.25, 0.15)
    if len(trained):
        axis.legend(frameon=False)
    return finished(figure)


def findings(comparison: pd.DataFrame) -> Plot:
    """Nodes with a supported motif and archetypes of each SAE, the most first, with baselines.

    Parameters
    ----------
    comparison
        Table `sae_comparison`; the SAEs with most archetypes are shown.
    """
    rows = comparison.sort_values(["n_archetypes", "n_nodes_with_motif"], ascending=False)
    rows = rows.head(_MAX_BARS)[::-1]
    figure, axes = new_figure(7.2, 1.0 + 0.22 * max(len(rows), 1), columns=2)
    place = np.arange(len(rows))
    for axis, column, title, colour in (
        (axes[0], "n_nodes_with_motif", "nodes with a supported motif", PALETTE[0]),
        (axes[1], "n_archetypes", "families of motifs found", PALETTE[2]),
    ):
        is_baseline = rows["recipe"].isin(BASELINES)
        colours = [_GREY if grey else colour for grey in is_baseline]
        axis.barh(place, rows[column], color=colours, height=0.7)
        axis.set(title=title, xlim=(0, 1.05 * max(rows[column].max(), 1)))
        axis.set_yticks(place, _labels(rows) if axis is axes[0] else [""] * len(rows))
        axis.tick_params(axis="y", labelsize=_LABEL)
    return finished(figure)


def stability(comparison: pd.DataFrame, pairs: pd.DataFrame) -> Plot:
    """Share of the nodes of each SAE (row) that another (column) has too.

    Parameters
    ----------
    comparison
        Table `sae_comparison`: the order of rows and columns.
    pairs
        Table `sae_stability`; SAEs of different layers are not compared and stay empty.
    """
    ordered = comparison.sort_values(["layer", "hyperparameters"])
    keys = ordered["hyperparameters"].tolist()
    place = {key: i for i, key in enumerate(keys)}
    values = np.full((len(keys), len(keys)), np.nan)
    np.fill_diagonal(values, 1.0)
    for row in pairs.to_dict("records"):
        a, b = place[row["hyperparameters_a"]], place[row["hyperparameters_b"]]
        values[a, b], values[b, a] = row["share_a"], row["share_b"]
    figure, (axis,) = new_figure(6.2, 4.6)
    image = axis.imshow(values, cmap="viridis", vmin=0, vmax=1)
    colour_bar(figure, image, axis, "share of the row's nodes found in the column")
    if len(keys) <= _MAX_BARS:
        labels = _labels(ordered)
        axis.set_yticks(range(len(keys)), labels)
        axis.set_xticks(range(len(keys)), labels, rotation=90)
        axis.tick_params(labelsize=_LABEL if len(keys) <= _MAX_BARS // 2 else 6)
    else:
        axis.set_yticks([])
        axis.set_xticks([])
    axis.set(title="nodes that recur")
    return finished(figure)
