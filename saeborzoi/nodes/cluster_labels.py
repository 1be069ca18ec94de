"""What the nodes of a cluster on the map have in common: families of motifs, classes of annotation,
composition, or what kind of nodes they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

MAX_Q = 0.05
"""A label is enriched in a cluster at most at this false discovery rate."""
_MIN_CARRIERS = 2
_MOST = 0.5
"""Share of a cluster's nodes that makes a label one of most of them."""
_LETTERS = ("A", "C", "G", "T", "AT", "GC", "AG", "CT")
COMPOSITION = "composition"
_KIND_OF_NODE = {
    "repeat or composition": "repeat or composition",
    "mixed": "mixed motifs",
    "unknown": "unknown motif",
}


class _Candidate(NamedTuple):
    """A label in a cluster."""

    kind: str
    label: str
    n_carriers: int
    n_on_map: int
    p_value: float
    q_value: float


def composition(seqlets: pd.DataFrame) -> pd.DataFrame:
    """Of what letters each node's seqlets are.

    Parameters
    ----------
    seqlets
        node, sequence.

    Returns
    -------
    DataFrame
        A row a node, the index; a column a label, as "GC-rich": share of these letters among A, C,
        G and T of all its seqlets, and for "CpG-rich" CG a letter. NaN where there is none of them.
    """
    rows = {}
    for node, sequences in seqlets.groupby("node", sort=True)["sequence"]:
        text = "-".join(sequences.tolist())
        n_of = {letter: text.count(letter) for letter in "ACGT"}
        total = sum(n_of.values()) or np.nan
        rows[node] = {
            **{
                f"{letters}-rich": sum(n_of[letter] for letter in letters) / total
                for letters in _LETTERS
            },
            "CpG-rich": text.count("CG") / total,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def traits_of(
    nodes: pd.Series,
    families: pd.Series,
    archetypes: pd.Series,
    unmatched: pd.Series,
    overlaps: pd.DataFrame,
) -> pd.DataFrame:
    """What may be said of single nodes, by kind.

    Parameters
    ----------
    nodes
        The nodes, as a column.
    families
        Family of each node that has a supported motif, as `motifs.families.node_labels` gives it.
    archetypes
        Archetype of each node that has a name; the index is the node.
    unmatched
        Column `kind` of view `unmatched_node`; the index is the node.
    overlaps
        Table `annotation_overlap`: a node is of the classes whose odds are above 1 with 95 %
        confidence, as where the pages say "enriched in".

    Returns
    -------
    DataFrame
        kind, node, label, each node and label of a kind once.
    """
    enriched = overlaps[(overlaps["odds_ratio_low"] > 1) & (overlaps["n_overlapping"] > 0)]
    kind_of_node = pd.Series("no motif", nodes.to_numpy())
    kind_of_node.update(unmatched.map(_KIND_OF_NODE))
    kind_of_node.update(pd.Series("known motif", archetypes.index))
    kinds = {
        "family of motifs": families,
        "annotation": enriched.set_index("node")["annotation_class"],
        "kind of node": kind_of_node,
    }
    rows = [
        pd.DataFrame({"kind": kind, "node": labels.index, "label": labels.astype(str).to_numpy()})
        for kind, labels in kinds.items()
    ]
    return pd.concat(rows).drop_duplicates(ignore_index=True)


def cluster_labels(
    embedding: pd.DataFrame, traits: pd.DataFrame, shares: pd.DataFrame
) -> pd.DataFrame:
    """Label each cluster of an embedding by what its nodes have in common.

    A label is *enriched* where more of the cluster's nodes carry it than a draw of as many from the
    map would: hypergeometric p, or for a composition the one-sided Mann-Whitney test of its share
    against the other nodes (the nodes that carry it are those above the map's median), at a false
    discovery rate (Benjamini and Hochberg, over the labels of its kind and the clusters) of at most
    `MAX_Q`. A cluster's label is the enriched one of the smallest rate. Where none is enriched, it
    is the one that most of its nodes carry, if half of them do and no smaller share than of the
    map; a composition, which half of the map has by its definition, is none then.

    Parameters
    ----------
    embedding
        node, cluster.
    traits
        As `traits_of` gives them; of two labels that are as good the kind that comes first counts.
    shares
        As `composition` gives them.

    Returns
    -------
    DataFrame
        Columns of table `embedding_cluster` but the key of the SAE.
    """
    nodes = embedding.set_index("node")["cluster"]
    sizes = nodes.value_counts().sort_index()
    parts = [
        _by_count(nodes, sizes, carriers).assign(kind=kind)
        for kind, carriers in traits.groupby("kind", sort=False)
    ]
    parts.append(_by_share(nodes, sizes, shares.reindex(nodes.index)).assign(kind=COMPOSITION))
    every = pd.concat(parts)
    rows = []
    for cluster, n in sizes.items():
        candidates = _candidates(every[every["cluster"] == cluster])
        chosen = _chosen(candidates, n, len(nodes))
        rows.append(
            {
                "cluster": int(cluster),
                "n_nodes": int(n),
                "name": chosen.label if chosen else None,
                "n_named_nodes": chosen.n_carriers if chosen else 0,
                "p_value": chosen.p_value if chosen else np.nan,
                "q_value": chosen.q_value if chosen else np.nan,
                "kind": chosen.kind if chosen else None,
                "n_on_map": chosen.n_on_map if chosen else 0,
                "unnamed_because": None if chosen else _why(candidates, n),
            }
        )
    texts = dict.fromkeys(("name", "kind", "unnamed_because"), "str")
    return pd.DataFrame(rows).astype(texts)


def _by_count(nodes: pd.Series, sizes: pd.Series, carriers: pd.DataFrame) -> pd.DataFrame:
    """Labels of a kind in the clusters where any node carries them."""
    carriers = carriers[carriers["node"].isin(nodes.index)]
    on_map = carriers["label"].value_counts()
    counts = carriers.groupby([carriers["node"].map(nodes).rename("cluster"), "label"]).size()
    rows = counts.rename("n_carriers").reset_index()
    rows["n_on_map"] = rows["label"].map(on_map)
    rows["p_value"] = stats.hypergeom.sf(
        rows["n_carriers"] - 1, len(nodes), rows["n_on_map"], rows["cluster"].map(sizes)
    )
    # a label that one node has is enriched nowhere
    is_tested = rows["n_on_map"] >= _MIN_CARRIERS
    n_tested = int((on_map >= _MIN_CARRIERS).sum()) * len(sizes)
    rows["q_value"] = np.nan
    rows.loc[is_tested, "q_value"] = _false_discovery(rows.loc[is_tested, "p_value"], n_tested)
    return rows.fillna({"q_value": 1.0})


def _by_share(nodes: pd.Series, sizes: pd.Series, shares: pd.DataFrame) -> pd.DataFrame:
    """Compositions of the clusters that have nodes beside them."""
    is_above = shares > shares.median()
    parts = []
    for cluster in sizes.index:
        inside = (nodes == cluster).to_numpy()
        if inside.all():
            continue
        test = stats.mannwhitneyu(
            shares[inside], shares[~inside], alternative="greater", nan_policy="omit"
        )
        parts.append(
            pd.DataFrame(
                {
                    "cluster": cluster,
                    "label": shares.columns,
                    "n_carriers": is_above[inside].sum().to_numpy(),
                    "n_on_map": is_above.sum().to_numpy(),
                    "p_value": test.pvalue,
                }
            )
        )
    if not parts:
        return pd.DataFrame(columns=["cluster", *_Candidate._fields])
    rows = pd.concat(parts, ignore_index=True)
    rows["q_value"] = _false_discovery(rows["p_value"], len(rows))
    return rows


def _false_discovery(p_values: pd.Series, n_tested: int) -> NDArray[np.float64]:
    """Benjamini and Hochberg's rates; what was tested and is not there has a p of 1."""
    padded = np.ones(n_tested)
    padded[: len(p_values)] = p_values.fillna(1)
    return stats.false_discovery_control(padded)[: len(p_values)]


def _candidates(rows: pd.DataFrame) -> list[_Candidate]:
    columns = [rows[name] for name in _Candidate._fields]
    return [_Candidate(*values) for values in zip(*columns, strict=True)]


def _chosen(candidates: list[_Candidate], n_nodes: int, n_on_map: int) -> _Candidate | None:
    """The label of a cluster; None where none is enriched and none that of most of its nodes."""
    enriched = [c for c in candidates if c.q_value <= MAX_Q and c.n_carriers >= _MIN_CARRIERS]
    if enriched:
        return min(enriched, key=lambda c: c.q_value)
    most = [
        c
        for c in candidates
        if c.kind != COMPOSITION
        and c.n_carriers >= _MOST * n_nodes
        and c.n_carriers / n_nodes >= c.n_on_map / n_on_map
    ]
    return max(most, key=lambda c: c.n_carriers, default=None)


def _why(candidates: list[_Candidate], n_nodes: int) -> str:
    """Why a cluster has no label."""
    words = "nothing is commoner in it than elsewhere on the map, or that of half of its nodes"
    nearest = min(candidates, key=lambda c: c.p_value, default=None)
    if nearest is None:
        return words
    n, q = nearest.n_carriers, nearest.q_value
    return f"{words}; nearest: {nearest.label}, {n} of {n_nodes}, q = {q:.2g}"
