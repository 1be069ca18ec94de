"""The comparison of SAEs as one HTML file that needs nothing else: for readers without Dagster."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from saeborzoi.comparison.table import shown
from saeborzoi.figures import png_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MAX_FACTORS = 200
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
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #8884; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; background: white; border-radius: 4px; }
"""


def comparison_page(
    project: str,
    comparison: pd.DataFrame,
    pairs: pd.DataFrame,
    factors: pd.DataFrame,
    plots: Mapping[str, Figure],
) -> str:
    """The page.

    Parameters
    ----------
    project
        Name of the project.
    comparison, pairs
        Tables `sae_comparison` and `sae_stability`.
    factors
        As `comparison.factors_by_settings` gives them.
    plots
        Name to figure; the page holds them as PNGs.

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
        f"<h1>{html.escape(project)}: {len(comparison)} SAEs compared</h1>",
        f"<p>{_EXPLANATION}</p>",
        _table(shown(comparison)),
    ]
    for name, figure in plots.items():
        heading = _HEADINGS[name]
        data = base64.b64encode(png_of(figure)).decode()
        parts.append(f'<h2>{heading}</h2><img alt="{heading}" src="data:image/png;base64,{data}">')
    parts += [
        "<h2>Pairs of SAEs</h2>",
        _table(
            pairs.sort_values(["layer", "differs_in", "share_a"], ascending=[True, True, False])
        ),
        "<h2>Factors that only some settings found</h2>",
        _table(factors.head(_MAX_FACTORS)),
    ]
    if len(factors) > _MAX_FACTORS:
        parts.append(f"<p>{len(factors) - _MAX_FACTORS} more in the view factor_by_sae.</p>")
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _table(frame: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name)).replace('_', ' ')}</th>" for name in frame.columns)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    ]
    body = "".join(rows) or f'<tr><td colspan="{len(frame.columns)}">none</td></tr>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _cell(value: object) -> str:
    """A value as people read it; empty where there is none.

    >>> _cell(0.123456), _cell(float("nan")), _cell(True)
    ('0.123', '', 'yes')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return {"True": "yes", "False": ""}.get(str(value), str(value))
