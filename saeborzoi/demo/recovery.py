"""What became of the demo's planted motifs: node, name found, right or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.errors import InputError
from saeborzoi.genome.intervals import covered_bp, merge, on_one_axis


def read_planted(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The truth of a demo folder: `planted.tsv` (a row a motif) and `planted.bed` (a row an
    instance: chrom, start_bp, end_bp, motif_id).

    Raises
    ------
    InputError
        Where the folder is no demo.
    """
    folder = Path(folder)
    try:
        planted = pd.read_csv(folder / "planted.tsv", sep="\t", keep_default_na=False)
        instances = pd.read_csv(
            folder / "planted.bed",
            sep="\t",
            header=None,
            usecols=[0, 1, 2, 3],
            names=["chrom", "start_bp", "end_bp", "motif_id"],
        )
    except OSError as error:
        raise InputError(f"{folder}: no demo there ({error}); `saeborzoi demo` makes one") from None
    return planted, instances


def recovery_table(
    planted: pd.DataFrame,
    instances: pd.DataFrame,
    seqlets: pd.DataFrame,
    motifs: pd.DataFrame,
    matches: pd.DataFrame,
) -> pd.DataFrame:
    """For each planted motif: its node, the name that was found for it, and whether it is right.

    A motif's node is decided by place alone: of the nodes with a significant motif, the one with
    most seqlets that hold the middle of one of its instances. The name is the best match
    (smallest p) of the node's first significant motif that has a significant match. It is right
    where it is the planted factor, or a factor of the same JASPAR family; no two planted motifs
    are of one family.

    Parameters
    ----------
    planted, instances
        As `read_planted` gives them.
    seqlets
        node, chrom, start_bp, end_bp.
    motifs
        node, motif, consensus, is_significant.
    matches
        node, motif, database, target_id, target_name, factor_family, p_value, q_value,
        is_significant.

    Returns
    -------
    DataFrame
        One row a planted motif: motif_id, name, family, n_instances, node (Int64, NA where
        none), n_seqlets (Int64, seqlets of the node on instances), consensus, found_id,
        found_name, found_family (None where nothing matched), q_value (float64), is_right
        (bool).
    """
    # not at the top: to import it takes a second, and who makes the data needs none of it
    from saeborzoi.motifs.matching import best_matches

    motifs = motifs[motifs["is_significant"].astype(bool)]
    with_consensus = matches.merge(motifs[["node", "motif", "consensus"]], on=["node", "motif"])
    best = best_matches(with_consensus).set_index("node")
    hits = seqlets_on_instances(planted, instances, seqlets[seqlets["node"].isin(motifs["node"])])
    rows = []
    for motif_id, name, family in planted[["motif_id", "name", "family"]].itertuples(index=False):
        node = hits[motif_id].idxmax() if len(hits) else None
        n_seqlets = hits.loc[node, motif_id] if node is not None else 0
        best_match = best.loc[node] if n_seqlets and node in best.index else None
        rows.append(
            {
                "node": node if n_seqlets else None,
                "n_seqlets": n_seqlets or None,
                "consensus": None if best_match is None else best_match["consensus"],
                "found_id": None if best_match is None else best_match["target_id"],
                "found_name": None if best_match is None else best_match["target_name"],
                "found_family": None if best_match is None else best_match["factor_family"],
                "q_value": np.nan if best_match is None else best_match["q_value"],
                "is_right": best_match is not None and _same(best_match, name, family),
            }
        )
    table = planted[["motif_id", "name", "family", "n_instances"]].reset_index(drop=True)
    table = table.join(pd.DataFrame(rows))
    return table.astype({"node": "Int64", "n_seqlets": "Int64", "is_right": bool})


def recovery_text(table: pd.DataFrame) -> str:
    """The table for a terminal, with a line that sums it up."""
    shown = pd.DataFrame(
        {
            "planted": table["name"],
            "family": table["family"].str.slice(0, 34),
            "node": [_or_dash(node) for node in table["node"]],
            "seqlets": [_or_dash(n) for n in table["n_seqlets"]],
            "found": [_or_dash(name) for name in table["found_name"]],
            "q-value": ["-" if np.isnan(q) else f"{q:.1e}" for q in table["q_value"]],
            "right": ["yes" if right else "NO" for right in table["is_right"]],
        }
    )
    widths = {name: max(len(name), int(shown[name].str.len().max())) for name in shown}
    rule = "  ".join("-" * width for width in widths.values())
    lines = ["  ".join(name.ljust(width) for name, width in widths.items()).rstrip(), rule]
    for row in shown.itertuples(index=False):
        cells = (cell.ljust(width) for cell, width in zip(row, widths.values(), strict=True))
        lines.append("  ".join(cells).rstrip())
    n_right = int(table["is_right"].sum())
    lines.append(rule)
    lines.append(f"{n_right} of {len(table)} planted motifs recovered and named")
    return "\n".join(lines)


def seqlets_on_instances(
    planted: pd.DataFrame, instances: pd.DataFrame, seqlets: pd.DataFrame
) -> pd.DataFrame:
    """Seqlets of each node (index) that hold the middle of an instance of each motif (columns)."""
    middle = (instances["start_bp"] + instances["end_bp"]) // 2
    points = instances.assign(start_bp=middle, end_bp=middle + 1)
    order = pd.Index(planted["motif_id"])
    loci, targets = on_one_axis(seqlets, points)
    group, targets = merge(order.get_indexer(instances["motif_id"]).astype(np.int64), targets)
    held = covered_bp(loci, group, targets, len(order)).toarray() > 0
    return pd.DataFrame(held, columns=order).groupby(seqlets["node"].to_numpy()).sum()


def _same(match: pd.Series, name: str, family: str) -> bool:
    is_factor = str(match["target_name"]).upper() == name.upper()
    return is_factor or family in str(match["factor_family"]).split("::")


def _or_dash(value: object) -> str:
    return "-" if pd.isna(value) else str(value)  # type: ignore[call-overload]
