"""Variants of a project: what they do, through which nodes, and a VCF of it."""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.errors import InputError
from saeborzoi.files import write_file

if TYPE_CHECKING:
    import pandas as pd

    from saeborzoi.settings.variant_sections import VariantSet

INFO = {
    "SAEB_EFFECT": ("1", "Float", "Euclidean norm of the effects on all tracks"),
    "SAEB_P": ("1", "Float", "Share of neutral changes in the same windows with as large a norm"),
    "SAEB_TRACK": ("1", "String", "Track that is moved most"),
    "SAEB_TRACK_EFFECT": ("1", "Float", "What its score is moved by"),
    "SAEB_NODE": (".", "Integer", "Nodes that it acts through, the strongest first"),
    "SAEB_NAME": (".", "String", "What they are called; . where a node has no name"),
    "SAEB_SHARE": (".", "Float", "Share of the effect that each of them carries"),
    "SAEB_STATE": (".", "String", "What becomes of each: on, off, up, down or same"),
}
"""Fields of the VCF: number, type and description of each."""
PARTS_SHOWN = [
    "track", "part", "node", "target_name", "attribution", "share", "state", "motif_ref_bits",
    "motif_alt_bits", "p_value", "q_value", "method",
]  # fmt: skip
"""Columns of `VariantReport.parts` that people are shown."""


class VariantReport:
    """A variant in the eyes of one SAE; made by `Project.variant`.

    Attributes
    ----------
    variant_set, variant
        Its set and its key.
    key
        Partition key of the SAE.
    row
        Its row of table `variant`, a Series; empty where variant_effects is not made.
    tracks
        The tracks that it moves most: rows of `variant_track`.
    parts
        What carries its effect: rows of view `variant_explained`, the strongest nodes first.
    """

    def __init__(
        self, variant_set: str, variant: str, key: str, row: pd.Series, tracks: pd.DataFrame,
        parts: pd.DataFrame,
    ) -> None:  # fmt: skip
        self.variant_set, self.variant, self.key = variant_set, variant, key
        self.row, self.tracks, self.parts = row, tracks, parts

    @property
    def nodes(self) -> pd.DataFrame:
        """The nodes alone, the strongest first."""
        return self.parts[self.parts["part"] == "node"].reset_index(drop=True)

    def __repr__(self) -> str:
        acting = self.nodes[self.nodes["acts_through"]]
        if acting.empty:
            through = "through no node beyond what neutral changes do"
        else:
            best = acting.iloc[0]
            name = best["target_name"] if isinstance(best["target_name"], str) else "no name"
            share = "" if best["share"] != best["share"] else f", {best['share']:.0%} of the effect"
            through = f"through node {best['node']} ({name}, {best['state']}{share})"
        moved = ""
        if len(self.tracks):
            top = self.tracks.iloc[0]
            moved = f"moves {top['track']} by {top['effect']:+.3g}, "
        return f"Variant {self.variant} of {self.variant_set}: {moved}{through}"

    def _repr_html_(self) -> str:
        table = self.parts[PARTS_SHOWN].to_html(index=False, float_format="{:.3g}".format)
        return f"<p>{html.escape(repr(self))}</p>{table}"


def variant_report(
    catalog: Catalog, key: str, variant: str, variant_set: str | None
) -> VariantReport:
    """What the catalogue knows of a variant; see `Project.variant`."""
    parts = catalog.frame(
        "SELECT * FROM variant_explained WHERE hyperparameters = ? AND variant = ? "
        "AND (? IS NULL OR variant_set = ?) "
        "ORDER BY variant_set, track, part <> 'node', rank",
        [key, variant, variant_set, variant_set],
    )
    if parts.empty:
        known = catalog.frame(
            "SELECT DISTINCT variant FROM variant_node WHERE hyperparameters = ?", [key]
        )["variant"].tolist()
        nearest = difflib.get_close_matches(variant, known, n=3, cutoff=0.4)
        raise InputError(
            f"variant {variant} is not among the {len(known):,} that were looked at with {key}"
            + (f"; the nearest are {', '.join(nearest)}" if nearest else "")
            + ". Name its file in [[variants]] and make variant_nodes: `saeborzoi run`"
        )
    of_set = str(parts["variant_set"].iloc[0])
    parts = parts[parts["variant_set"] == of_set].reset_index(drop=True)
    where = "WHERE variant_set = ? AND variant = ?"
    rows = catalog.frame(f"SELECT * FROM variant {where}", [of_set, variant])
    tracks = catalog.frame(f"SELECT * FROM variant_track {where} ORDER BY rank", [of_set, variant])
    row = rows.iloc[0] if len(rows) else rows.reindex([0]).iloc[0]
    return VariantReport(of_set, variant, key, row, tracks, parts)


def sets_table(catalog: Catalog, key: str, sets: Sequence[VariantSet]) -> pd.DataFrame:
    """One row a set of the settings; see `Sae.variant_sets`."""
    import pandas as pd

    # one set that failed leaves the others to be shown
    with_nodes = [made.variant_set for made in catalog.partitions_made("variant_nodes", key)]
    if sets and not with_nodes:
        catalog.require_made("variant_nodes", key, variant_set=sets[0].name)
    counts = catalog.frame(
        """
        SELECT variant_set, count(*) AS n_variants,
               count(*) FILTER (q_value <= 0.05) AS n_beyond_controls,
               count(*) FILTER (acts) AS n_acting
        FROM variant LEFT JOIN (
            SELECT DISTINCT variant_set, variant, true AS acts FROM node_variant
            WHERE hyperparameters = ?
        ) USING (variant_set, variant)
        GROUP BY variant_set
        """,
        [key],
    ).set_index("variant_set")
    n_skipped = catalog.frame(
        "SELECT variant_set, count(*) AS n FROM variant_skipped GROUP BY variant_set"
    ).set_index("variant_set")["n"]
    names = [each.name for each in sets]
    table = counts.reindex(names, fill_value=0)
    return pd.DataFrame(
        {
            "variant_set": names,
            "path": [str(each.path) for each in sets],
            "controls": [each.controls for each in sets],
            "n_variants": table["n_variants"].to_numpy(),
            "n_skipped": n_skipped.reindex(names, fill_value=0).to_numpy(),
            "n_beyond_controls": table["n_beyond_controls"].to_numpy(),
            "n_acting": table["n_acting"].astype("Int64").where(table.index.isin(with_nodes)),
        }
    )


def set_table(catalog: Catalog, key: str, variant_set: str) -> pd.DataFrame:
    """A set's variants with the node that each acts through; see `Sae.variants`."""
    table = catalog.frame(
        """
        SELECT v.variant, v.name, v.kind, t.track, t.effect, v.effect_norm, v.p_value, v.q_value,
               n.node, n.target_name, n.share, n.state
        FROM variant v
        LEFT JOIN variant_track t ON t.variant_set = v.variant_set AND t.variant = v.variant
             AND t.rank = 1
        LEFT JOIN (
            SELECT * FROM node_variant WHERE hyperparameters = ?
            QUALIFY row_number() OVER (
                PARTITION BY variant_set, variant ORDER BY abs(attribution) DESC, track, node) = 1
        ) n ON n.variant_set = v.variant_set AND n.variant = v.variant
        WHERE v.variant_set = ?
        ORDER BY v.effect_norm DESC NULLS LAST, abs(n.attribution) DESC NULLS LAST, v.variant
        """,
        [key, variant_set],
    )
    if table.empty:
        raise _no_variant(variant_set)
    catalog.require_made("variant_nodes", key, variant_set=variant_set)
    return table.astype({"node": "Int64"})


def _no_variant(variant_set: str) -> InputError:
    return InputError(
        f"no variant of {variant_set!r} is in the catalogue; name it in [[variants]] and make "
        "variant_effects: `saeborzoi run`"
    )


def enrichment(catalog: Catalog, key: str, variant_set: str, controls: str) -> pd.DataFrame:
    """Nodes enriched among the variants of a set; see `Sae.variant_enrichment`."""
    from saeborzoi.effects.variant_enrichment import node_enrichment

    sets = {}
    for name in (variant_set, controls):
        n = catalog.frame(
            "SELECT count(DISTINCT variant) AS n FROM variant_node "
            "WHERE hyperparameters = ? AND variant_set = ?",
            [key, name],
        )["n"].iloc[0]
        if not n:
            raise InputError(
                f"no variant of {name!r} was looked at with {key}; name it in [[variants]] and "
                "make variant_nodes: `saeborzoi run`"
            )
        acting = catalog.frame(
            "SELECT DISTINCT variant, node FROM node_variant "
            "WHERE hyperparameters = ? AND variant_set = ?",
            [key, name],
        )
        sets[name] = (acting, int(n))
    return node_enrichment(*sets[variant_set], *sets[controls])


def write_vcf(catalog: Catalog, key: str, variant_set: str, path: Path) -> int:
    """Write a set's variants as VCF with what they do as INFO; returns their number.

    Raises
    ------
    InputError
        Where the set has no variant in the catalogue.
    """
    rows = catalog.frame(
        """
        SELECT v.*, t.track, t.effect, n.nodes, n.names, n.shares, n.states
        FROM variant v
        LEFT JOIN variant_track t ON t.variant_set = v.variant_set AND t.variant = v.variant
             AND t.rank = 1
        LEFT JOIN (
            SELECT variant_set, variant, list(node ORDER BY rank) AS nodes,
                   list(coalesce(target_name, '.') ORDER BY rank) AS names,
                   list(coalesce(share, 'nan'::DOUBLE) ORDER BY rank) AS shares,
                   list(state ORDER BY rank) AS states
            FROM variant_explained e
            WHERE hyperparameters = ? AND part = 'node' AND acts_through
              AND track IS NOT DISTINCT FROM coalesce((
                  SELECT track FROM variant_track k WHERE k.variant_set = e.variant_set
                     AND k.variant = e.variant AND k.rank = 1), '')
            GROUP BY ALL
        ) n ON n.variant_set = v.variant_set AND n.variant = v.variant
        WHERE v.variant_set = ? ORDER BY v.chrom, v.start_bp, v.variant
        """,
        [key, variant_set],
    )
    if rows.empty:
        raise _no_variant(variant_set)
    lines = ["##fileformat=VCFv4.2", f"##source=saeborzoi {key}"]
    lines += [f"##contig=<ID={chrom}>" for chrom in rows["chrom"].unique()]
    lines += [
        f'##INFO=<ID={name},Number={number},Type={kind},Description="{text}">'
        for name, (number, kind, text) in INFO.items()
    ]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    for row in rows.itertuples():
        lines.append(
            f"{row.chrom}\t{row.start_bp + 1}\t{row.name or '.'}\t{row.ref}\t{row.alt}\t.\t.\t"
            f"{_info(row)}"
        )
    with write_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return len(rows)


def _info(row: object) -> str:
    fields = [
        ("SAEB_EFFECT", _listed([getattr(row, "effect_norm", None)])),
        ("SAEB_P", _listed([getattr(row, "p_value", None)])),
        ("SAEB_TRACK", _listed([getattr(row, "track", None)])),
        ("SAEB_TRACK_EFFECT", _listed([getattr(row, "effect", None)])),
        ("SAEB_NODE", _listed(getattr(row, "nodes", None))),
        ("SAEB_NAME", _listed(getattr(row, "names", None))),
        ("SAEB_SHARE", _listed(getattr(row, "shares", None))),
        ("SAEB_STATE", _listed(getattr(row, "states", None))),
    ]
    return ";".join(f"{name}={text}" for name, text in fields if text) or "."


def _listed(values: object) -> str:
    """Values as VCF has them; "" where there is none."""
    if values is None or isinstance(values, float):
        return ""
    texts = []
    for value in values:  # type: ignore[attr-defined]
        if value is None or (isinstance(value, float) and value != value):
            texts.append(".")
        elif isinstance(value, float):
            texts.append(f"{value:.6g}")
        else:
            # what separates fields of VCF may not stand in one
            texts.append("".join("_" if c in " ;,=\t" else c for c in str(value)))
    return "" if set(texts) <= {"."} else ",".join(texts)
