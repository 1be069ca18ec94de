"""Nodes through which variants of one set act more often than those of another."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from saeborzoi.genome.enrichment import odds_ratio


def node_enrichment(
    acting: pd.DataFrame, n: int, control_acting: pd.DataFrame, n_control: int
) -> pd.DataFrame:
    """Of each node, how much more often variants act through it than matched controls do.

    Parameters
    ----------
    acting, control_acting
        Rows with variant and node: those that act through it, of the set and of its controls.
    n, n_control
        Variants of either.

    Returns
    -------
    DataFrame
        node, n_variants, n_controls (that act through it), odds_ratio with odds_ratio_low and
        odds_ratio_high (95 %), p_value (Fisher's exact, one-sided) and q_value (Benjamini-Hochberg
        over the nodes of either); the most enriched first.
    """
    hits, control_hits = (
        rows.drop_duplicates(["variant", "node"]).groupby("node").size()
        for rows in (acting, control_acting)
    )
    counts = pd.DataFrame({"n_variants": hits, "n_controls": control_hits}).fillna(0).astype(int)
    ratio = odds_ratio(counts["n_variants"], n, counts["n_controls"], n_control)
    p = stats.hypergeom.sf(
        counts["n_variants"] - 1, n + n_control, counts.sum(axis=1), n
    )  # fmt: skip
    table = counts.assign(
        odds_ratio=ratio.value,
        odds_ratio_low=ratio.low,
        odds_ratio_high=ratio.high,
        p_value=p,
        q_value=stats.false_discovery_control(p) if len(counts) else p,
    )
    table = table.rename_axis("node").reset_index()
    return table.sort_values(["p_value", "node"], ignore_index=True)
