"""The comparison of SAEs as one HTML file that needs nothing else: for readers without Dagster."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from saeborzoi.comparison.baselines import MEASURES
from saeborzoi.comparison.single_file import SCRIPT, STYLE_OF_HEADINGS, sorted_by
from saeborzoi.comparison.table import shown
from saeborzoi.errors import counted
from saeborzoi.figures import svg_of
from saeborzoi.settings.hyperparameters import BASELINES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_ROWS = 200
_HEADINGS = {
    "reconstruction": "Reconstruction against sparsity",
    "fidelity": "What the model keeps",
    "findings": "What the nodes found",
    "stability": "Nodes that recur",
}
_EXPLANATION = (
    "On the front: no other SAE of the layer has a lower FVU at as low an L0. Recurrence: share "
    "of the nodes that fire which another SAE of the layer has too: each other's closest by "
    "decoder direction, with the same top positions."
)
_BASELINES_EXPLAINED = (
    "Each figure beside that of a dictionary of the same shape which was never trained, and of the "
    "layer's raw channels: random directions of a layer that knows motifs have motifs, too. Where "
    'there is no row, add an SAE with recipe = "untrained" (and "channels") to the settings.'
)
_CONCEPTS_EXPLAINED = (
    "F1 of the node of each SAE that detects a class of annotation best: precision over "
    "positions, recall over elements, on windows that its threshold was not chosen on. The pairs "
    "of nodes, and every node's figures, are in the tables concept and concept_score."
)
_STYLE = (
    """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #8884; text-align: right;
  white-space: nowrap; }
th { vertical-align: bottom; }
th:first-child, td:first-child, .words { text-align: left; }
.baseline { opacity: 0.7; font-style: italic; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
.pairs td { vertical-align: middle; } .pairs .name { opacity: 0.8; }
.pairs td:nth-child(2), .pairs td:nth-child(3) { text-align: center; }
.logo { display: block; }
svg[width="0"] { position: absolute; }
"""
    + STYLE_OF_HEADINGS
)
_WORDS = {
    "hyperparameters": "SAE", "is_pareto": "on the front", "fvu": "FVU, training",
    "validation_fvu": "FVU, validation", "l0": "L0", "dead_fraction": "dead",
    "n_nodes": "nodes", "n_selected": "selected", "n_nodes_with_match": "named",
    "named_share": "named, of those with a motif", "n_concepts_found": "concepts found",
    "mean_concept_f1": "mean F1 of concepts", "median_odds_ratio": "median odds ratio",
    "n_nodes_done": "nodes looked at", "n_nodes_with_motif": "with a motif",
    "is_better": "better than untrained", "archetype": "family", "n_saes": "SAEs",
    "n_saes_of_layer": "of SAEs", "annotation_class": "class",
    "n_archetypes": "families", "n_archetypes_only_here": "families only here",
    "mean_log10_q": "mean -log10 q", "recurrence_seeds": "recur, seeds",
    "recurrence_settings": "recur, settings", "training_s": "training, s",
    "recovered_mean": "loss recovered", "fidelity_r_log": "r of outputs, log",
    "hyperparameters_a": "SAE a", "hyperparameters_b": "SAE b",
}  # fmt: skip
"""Headings that are not the column's name with blanks."""
_KEYS = ("hyperparameters", "hyperparameters_a", "hyperparameters_b")


def comparison_page(
    project: str,
    comparison: pd.DataFrame,
    beside: pd.DataFrame,
    pairs: pd.DataFrame,
    archetypes: pd.DataFrame,
    concepts: pd.DataFrame,
    plots: Mapping[str, Figure],
    pages: Mapping[str, str],
    shared_nodes: str = "",
    start_page: str | None = None,
) -> str:
    """The page.

    Parameters
    ----------
    project
        Name of the project.
    comparison, beside, pairs
        Tables `sae_comparison`, `baseline_comparison` and `sae_stability`.
    archetypes
        As `comparison.archetypes_by_settings` gives them.
    concepts
        As `comparison.concepts_found` gives them.
    plots
        Name to figure; the page holds them as SVGs.
    pages
        Partition key of each SAE that has pages to their place, relative to this page.
    shared_nodes
        Nodes of two SAEs beside each other, as `side_by_side` gives them.
    start_page
        The list of SAEs with pages, relative to this page; None: no link.

    Returns
    -------
    str
        HTML; everything that came from data is escaped.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(project)}: comparison of SAEs</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(project)}: {counted(len(comparison), 'SAE')} compared</h1>",
        *(
            [f'<p><a href="{html.escape(start_page)}">Feature browser</a></p>']
            if start_page
            else []
        ),
        f"<p>{_EXPLANATION}</p>",
        _table(shown(comparison), pages),
        "<h2>What training added</h2>",
        f"<p>{_BASELINES_EXPLAINED}</p>",
        _table(beside.drop(columns=["untrained_key", "channels_key"]), pages),
        "<h2>Concepts found</h2>",
        f"<p>{_CONCEPTS_EXPLAINED}</p>",
        _table(concepts.head(_MAX_ROWS), pages),
    ]
    for name, figure in plots.items():
        heading = _HEADINGS[name]
        parts.append(f'<h2>{heading}</h2><div class="wide">{svg_of(figure, heading)}</div>')
    parts += [
        "<h2>Pairs of SAEs</h2>",
        _table(
            pairs.sort_values(["layer", "differs_in", "share_a"], ascending=[True, True, False]),
            pages,
        ),
        *(["<h2>The same nodes in two SAEs</h2>", shared_nodes] if shared_nodes else []),
        "<h2>Families of motifs that only some settings found</h2>",
        _table(archetypes.head(_MAX_ROWS), pages),
    ]
    if len(archetypes) > _MAX_ROWS:
        parts.append(f"<p>{len(archetypes) - _MAX_ROWS} more in the view archetype_by_sae.</p>")
    parts.append(f"<script>{SCRIPT}</script></body></html>")
    return "\n".join(parts) + "\n"


def _table(frame: pd.DataFrame, pages: Mapping[str, str]) -> str:
    head = "".join(
        f'<th scope="col"{_WORDS_CLASS if frame[name].map(_is_text).any() else ""}>'
        f'<button type="button">{_heading(str(name), pages)}</button></th>'
        for name in frame.columns
    )
    rows = []
    for row in frame.itertuples(index=False):
        cells = []
        for name, value in zip(frame.columns, row, strict=True):
            text = html.escape(_cell(value))
            if name in _KEYS and value in pages:
                text = f'<a href="{html.escape(pages[value])}">{text}</a>'
            if name == "measure":
                text = _heading(str(value), pages)
            words = _WORDS_CLASS if _is_text(value) else ""
            cells.append(f'<td{words} data-value="{html.escape(sorted_by(value))}">{text}</td>')
        first = str(row[0])
        kind = ' class="baseline"' if first.rpartition("_")[2] in BASELINES else ""
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    body = "".join(rows) or f'<tr><td colspan="{len(frame.columns)}">none</td></tr>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


_WORDS_CLASS = ' class="words"'


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _heading(name: str, pages: Mapping[str, str]) -> str:
    words = html.escape(_WORDS.get(name, name if name in pages else name.replace("_", " ")))
    meaning = next((m.meaning for m in MEASURES if m.name == name), None)
    return words if meaning is None else f'<span title="{html.escape(meaning)}">{words}</span>'


def _cell(value: object) -> str:
    """A value as people read it; empty where there is none.

    >>> _cell(0.123456), _cell(float("nan")), _cell(pd.NA), _cell(True)
    ('0.123', '', '', 'yes')
    """
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return {"True": "yes", "False": "no"}.get(str(value), str(value))
