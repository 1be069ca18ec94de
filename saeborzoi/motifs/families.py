"""Families: discovered motifs that are alike (redundant nodes)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from saeborzoi.motifs.matching import align, best_matches, with_pseudocount
from saeborzoi.motifs.properties import as_matrix

_AT_ONCE = 512
"""Motifs matched with all others at once: bounds the memory."""


def motif_families(
    motifs: pd.DataFrame, max_q_value: float = 1e-3, threads: int = 1
) -> pd.DataFrame:
    """Discovered motifs matched against one another, and the families that they form.

    A motif joins the family of the earlier, more significant founder that it matches best; where
    it matches none it founds a family (leader clustering: no chains of pairwise likeness).

    Parameters
    ----------
    motifs
        Columns node, motif, matrix, n_sites, log10_e_value; those to be grouped, e.g. the
        significant ones.
    max_q_value
        Largest q-value of a match (over all motifs, for one query) that makes kin.

    Returns
    -------
    node, motif, motif_family (0 is the largest family), n_family_motifs, n_family_nodes,
    founder_node, founder_motif, orientation (+ or -, against the founder), offset_bp (start of
    the motif minus start of the founder) and q_value of the match with the founder.
    """
    columns = [
        "node", "motif", "motif_family", "n_family_motifs", "n_family_nodes", "founder_node",
        "founder_motif", "orientation", "offset_bp", "q_value",
    ]  # fmt: skip
    if motifs.empty:
        return pd.DataFrame({name: [] for name in columns})
    ranked = motifs.sort_values(["log10_e_value", "node", "motif"], ignore_index=True)
    matrices = [
        with_pseudocount(as_matrix(matrix), n_sites)
        for matrix, n_sites in zip(ranked["matrix"], ranked["n_sites"], strict=True)
    ]
    n = len(ranked)
    founder = np.arange(n)
    is_founder = np.zeros(n, bool)
    is_reverse = np.zeros(n, bool)
    offset = np.zeros(n, np.int64)
    q_value = np.zeros(n)
    for first in range(0, n, _AT_ONCE):
        alignments = align(matrices[first : first + _AT_ONCE], matrices, threads)
        q = stats.false_discovery_control(alignments.p_value, axis=-1)
        for row, i in enumerate(range(first, min(first + _AT_ONCE, n))):
            kin = np.flatnonzero(is_founder[:i] & (q[row, :i] < max_q_value))
            if kin.size == 0:
                is_founder[i] = True
                continue
            j = kin[alignments.p_value[row, kin].argmin()]
            founder[i] = j
            is_reverse[i] = alignments.is_reverse[row, j]
            offset[i] = -alignments.offset_bp[row, j]
            q_value[i] = q[row, j]
    result = pd.DataFrame(
        {
            "node": ranked["node"],
            "motif": ranked["motif"],
            "founder": founder,
            "founder_node": ranked["node"].to_numpy()[founder],
            "founder_motif": ranked["motif"].to_numpy()[founder],
            "orientation": np.where(is_reverse, "-", "+"),
            "offset_bp": offset,
            "q_value": q_value,
        }
    )
    groups = result.groupby("founder")
    result["n_family_motifs"] = groups["motif"].transform("size")
    result["n_family_nodes"] = groups["node"].transform("nunique")
    order = result.drop_duplicates("founder").sort_values(
        ["n_family_nodes", "n_family_motifs", "founder"], ascending=[False, False, True]
    )
    rank = pd.Series(np.arange(len(order)), index=order["founder"])
    result["motif_family"] = result["founder"].map(rank)
    return result[columns].sort_values(["motif_family", "node", "motif"], ignore_index=True)


def node_labels(motifs: pd.DataFrame, evidence: pd.DataFrame, matches: pd.DataFrame) -> pd.Series:
    """What each node with a supported motif is, in a word: the archetype of its best match, else
    the consensus of its motif family's founder, without ends that leave three letters or more.

    Parameters
    ----------
    motifs
        Columns node, motif, consensus of table `motif`.
    evidence
        Columns node, motif, motif_family, founder_node, founder_motif of table `motif_evidence`.
    matches
        Columns node, motif, database, target_id, target_name, archetype, p_value, is_significant
        of table `motif_match`.

    Returns
    -------
    Label, indexed by node.
    """
    whole = motifs.set_index(["node", "motif"])["consensus"]
    telling = whole.str.strip("NBDHV")
    consensus = telling.where(telling != "", whole)
    first = evidence.dropna(subset="motif_family").sort_values(["node", "motif"])
    first = first.drop_duplicates("node")
    founders = pd.MultiIndex.from_frame(first[["founder_node", "founder_motif"]].astype(int))
    labels = pd.Series(consensus.reindex(founders).to_numpy(), first["node"].to_numpy(), object)
    best = best_matches(matches).set_index("node")
    named = best["archetype"].fillna(best["target_name"])
    return named.combine_first(labels).dropna().sort_index()
