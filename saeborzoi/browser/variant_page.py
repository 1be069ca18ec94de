"""The page of an SAE's variants: which nodes explain each, as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.comparison.single_file import SCRIPT, STYLE_OF_HEADINGS, sorted_by
from saeborzoi.effects.variant_motifs import best_place
from saeborzoi.genome.alleles import allele_letters
from saeborzoi.genome.fasta import Genome
from saeborzoi.motifs.properties import consensus

MAX_VARIANTS = 200
_FLANK_BP = 24
_MOTIFS = 3
"""Nodes whose motifs stand under a variant's sequences."""
_WORDS = {
    "all nodes": "all nodes together",
    "background": "background: layer norm's mean and the pre-bias",
    "error": "error: what the SAE leaves",
    "bypass": "bypass: what goes past the layer",
    "alignment": "alignment: what an indel moves and cannot be aligned",
    "gap": "gap: what the integration misses",
}
_STYLE = (
    """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
html { background: Canvas; color: CanvasText; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #8884; text-align: left; }
pre { font: .85rem/1.4 ui-monospace, monospace; overflow-x: auto; }
svg { display: block; } .up { fill: #2a7f9e; } .down { fill: #b4552d; }
b { background: #f5c84266; font-weight: 700; }
"""
    + STYLE_OF_HEADINGS
)
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
"""Of the one script that may run: nothing that came from data can."""


class _Alleles(NamedTuple):
    """Text of both alleles, and where the change is in each: low, high."""

    ref: str
    alt: str
    in_ref: tuple[int, int]
    in_alt: tuple[int, int]


def variant_page(
    project: str,
    key: str,
    explained: pd.DataFrame,
    genome: Genome,
    motifs: Mapping[int, NDArray[np.float64]],
    *,
    both_strands: bool,
    assembly: str | None = None,
) -> str:
    """The page.

    Parameters
    ----------
    explained
        Rows of view `variant_explained` of the SAE.
    motifs
        Node to its motif (width, 4).
    both_strands
        Whether motifs may lie on either strand.
    assembly
        UCSC's name of the genome; None: without links.

    Returns
    -------
    str
        HTML; everything that came from data is escaped.
    """
    explained = explained.sort_values(
        ["variant_set", "variant", "track", "rank"], kind="stable", ignore_index=True
    )
    acting = explained["acts_through"].eq(True) & explained["part"].eq("node")
    size = explained["effect"].abs().fillna(explained["attribution"].abs())
    of_variant = explained[["variant_set", "variant"]].assign(size=size)
    order = (
        of_variant.groupby(["variant_set", "variant"], sort=False)["size"]
        .max()
        .sort_values(ascending=False, kind="stable")
    )
    sections, index = [], []
    groups = dict(list(explained.groupby(["variant_set", "variant"], sort=False)))
    for name in order.index[:MAX_VARIANTS]:
        rows = groups[name]
        anchor = quote(f"{name[0]}/{name[1]}", safe="")
        best = rows[rows["part"].eq("node") & rows["acts_through"].eq(True)].head(1)
        through = _node_name(best.iloc[0]) if len(best) else "none beyond controls"
        first = rows.iloc[0]
        link = f'<a href="#{anchor}">{html.escape(name[1][:60])}</a>'
        words = (str(first["name"] or ""), name[0], str(first["track"]))
        cells = [
            _cell(name[1], link),
            *(_cell(word) for word in words),
            _cell(first["effect"], _number(first["effect"])),
            _cell(through),
        ]
        index.append(f"<tr>{''.join(cells)}</tr>")
        sections.append(_section(name, anchor, rows, genome, motifs, both_strands, assembly))
    n, n_acting = len(order), explained.loc[acting, ["variant_set", "variant"]].drop_duplicates()
    left_out = (
        f" The {MAX_VARIANTS} of the largest effects are here, all are in the view "
        "<code>variant_explained</code>."
        if n > MAX_VARIANTS
        else ""
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            f"style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'\">",
            f"<title>{html.escape(project)}: variants</title><style>{_STYLE}</style></head><body>",
            '<p><a href="index.html">Feature browser</a></p>',
            f"<h1>Variants and the nodes of {html.escape(key)}</h1>",
            f"<p>{n:,} variants; {len(n_acting):,} act through a node that carries more than the "
            f"strongest node of nearly every neutral change does.{left_out}</p>",
            _table(("variant", "name", "set", "track", "effect", "through"), index),
            *sections,
            f"<script>{SCRIPT}</script></body></html>",
        ]
    )


def _section(
    name: tuple[str, str],
    anchor: str,
    rows: pd.DataFrame,
    genome: Genome,
    motifs: Mapping[int, NDArray[np.float64]],
    both_strands: bool,
    assembly: str | None,
) -> str:
    first = rows.iloc[0]
    parts = [f'<h2 id="{anchor}">{html.escape(name[1][:80])}</h2>']
    if isinstance(first["chrom"], str):
        link = ""
        if assembly is not None:
            low, high = max(int(first["start_bp"]) - 50, 0) + 1, int(first["end_bp"]) + 50
            query = urlencode({"db": assembly, "position": f"{first['chrom']}:{low}-{high}"})
            url = f"https://genome.ucsc.edu/cgi-bin/hgTracks?{query}"
            link = f' · <a rel="noreferrer" href="{html.escape(url)}">UCSC Genome Browser</a>'
        parts.append(f"<p>{html.escape(str(first['name'] or ''))}{link}</p>")
        parts.append(_sequences(rows, genome, motifs, both_strands))
    for track, of_track in rows.groupby("track", sort=False):
        what = (
            f"{html.escape(str(track))} moves by {_number(of_track['effect'].iloc[0])}"
            if track
            else "No output model: how far each node's part of the layer moves"
        )
        method = html.escape(str(of_track["method"].iloc[0]))
        parts.append(f"<p>{what} <small>({method})</small></p>")
        parts.append(_bars(of_track))
    return "\n".join(parts)


def _bars(rows: pd.DataFrame) -> str:
    order = {part: i for i, part in enumerate(("node", *_WORDS))}
    ordered = rows.sort_values("part", key=lambda part: part.map(order), kind="stable")
    largest = float(ordered["attribution"].abs().max() or 1) or 1
    lines = []
    for row in ordered.to_dict("records"):
        value = float(row["attribution"])
        length = 60 * abs(value) / largest if math.isfinite(value) else 0
        x = 60 - length if value < 0 else 60
        bar = (
            f'<svg width="120" height="12" role="img" aria-label="{_number(value)}">'
            f'<rect class="{"down" if value < 0 else "up"}" x="{x:.1f}" y="1" '
            f'width="{length:.1f}" height="10"/></svg>'
        )
        is_node = row["part"] == "node"
        words = _WORDS.get(row["part"], row["part"])
        cells = [
            _cell(_node_name(row), _linked_node(row)) if is_node else _cell(words),
            _cell(abs(value), bar),
            _cell(value, _number(value)),
            _cell(row["share"], _percent(row["share"])),
        ]
        if is_node:
            activation = _both(row["activation_ref"], row["activation_alt"])
            bits = _both(row["motif_ref_bits"], row["motif_alt_bits"])
            cells += [
                _cell(row["state"]),
                _cell(*activation),
                _cell(*bits),
                _cell(row["p_value"], _number(row["p_value"])),
            ]
        else:
            cells += [_cell("")] * 4
        lines.append(f"<tr>{''.join(cells)}</tr>")
    headings = ("part", "size", "carries", "share", "state", "activation", "motif, bits", "p")
    return _table(headings, lines)


def _table(headings: Sequence[str], rows: Sequence[str]) -> str:
    """A table that a click on a heading orders."""
    head = "".join(
        f'<th scope="col"><button type="button">{heading}</button></th>' for heading in headings
    )
    body = "\n".join(rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _cell(value: Any, markup: str | None = None) -> str:
    """A cell, ordered by its value; without markup the value is its text."""
    order = html.escape(sorted_by(value))
    return f'<td data-value="{order}">{order if markup is None else markup}</td>'


def _both(ref: Any, alt: Any) -> tuple[Any, str]:
    """How far the alternative allele changes a value, and the value on both alleles."""
    is_known = ref is not None and alt is not None
    return (float(alt) - float(ref) if is_known else None), f"{_number(ref)} → {_number(alt)}"


def _sequences(
    rows: pd.DataFrame,
    genome: Genome,
    motifs: Mapping[int, NDArray[np.float64]],
    both_strands: bool,
) -> str:
    alleles = _alleles(rows.iloc[:1], genome)
    shown = rows[(rows["part"] == "node") & rows["node"].isin(list(motifs))]
    lines = {"ref": [], "alt": []}  # type: dict[str, list[str]]
    for row in shown.drop_duplicates("node").head(_MOTIFS).to_dict("records"):
        matrix = motifs[int(row["node"])]
        places = {
            side: best_place(text, matrix, *span, both_strands)
            for side, text, span in (
                ("ref", alleles.ref, alleles.in_ref),
                ("alt", alleles.alt, alleles.in_alt),
            )
        }
        # it stands under the allele that it fits better
        side = max(places, key=lambda each: places[each][2] if places[each] else -math.inf)  # type: ignore[index]
        place = places[side]
        if place is None or place[2] <= 0:
            continue  # it fits neither allele better than chance
        offset, is_reverse, bits = place
        word = consensus(matrix[::-1, ::-1] if is_reverse else matrix)
        note = f"{_node_name(row)}, {bits:.1f} bits{', reverse strand' if is_reverse else ''}"
        lines[side].append(f"     {' ' * offset}{word}  {html.escape(note)}")
    text = []
    for side, letters, (low, high) in (
        ("ref", alleles.ref, alleles.in_ref),
        ("alt", alleles.alt, alleles.in_alt),
    ):
        marked = f"{letters[:low]}<b>{letters[low:high]}</b>{letters[high:]}"
        text += [f"{side}  {marked}", *lines[side]]
    return "<pre>" + "\n".join(text) + "</pre>"


def _alleles(row: pd.DataFrame, genome: Genome) -> _Alleles:
    ref, alt = str(row["ref"].iloc[0]), str(row["alt"].iloc[0])
    start = row["start_bp"].to_numpy(np.int64) - _FLANK_BP
    letters = allele_letters(genome, row, start, 2 * _FLANK_BP + max(len(ref), len(alt)))
    n_flanking_bp = 2 * _FLANK_BP
    return _Alleles(
        letters.ref[0].tobytes().decode()[: n_flanking_bp + len(ref)],
        letters.alt[0].tobytes().decode()[: n_flanking_bp + len(alt)],
        (_FLANK_BP, _FLANK_BP + len(ref)),
        (_FLANK_BP, _FLANK_BP + len(alt)),
    )


def _node_name(row: Mapping[str, Any] | pd.Series) -> str:
    name = row["target_name"]
    return f"node {int(row['node'])}" + (f" ({name})" if isinstance(name, str) else "")


def _linked_node(row: Mapping[str, Any]) -> str:
    return f'<a href="index.html#node={int(row["node"])}">{html.escape(_node_name(row))}</a>'


def _number(value: Any) -> str:
    return f"{value:.3g}" if value is not None and value == value else ""


def _percent(value: Any) -> str:
    return f"{value:.0%}".replace("-0%", "0%") if value is not None and value == value else ""
