"""What the first view needs of every node, in columns: one script for the whole SAE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saeborzoi.browser.encoding import integer, is_true, number, numbers, pack_matrix, text
from saeborzoi.browser.tables import SaeTables, log10_or_none
from saeborzoi.catalog.views import FITS_AS_WELL
from saeborzoi.motifs.matching import best_matches
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.nodes.cluster_labels import MAX_Q
from saeborzoi.settings.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import pandas as pd

Target = tuple[str, str]
"""Database and identifier of a known motif."""

_MAX_LOG_POINTS = 400
_MAX_LOG2_ODDS = 10.0
_DENSE = 0.1


class Dictionaries(NamedTuple):
    """What nodes refer to by number, so that each name is written once."""

    target: dict[Target, int]
    annotation: dict[tuple[str, str], int]
    targets: dict[str, list[Any]]
    """Columns of the known motifs: database, id, name, family, class, archetype."""


def dictionaries(tables: SaeTables) -> Dictionaries:
    """Known motifs and annotation classes that any node refers to, in order of name."""
    match = tables["motif_match"].drop_duplicates(["database", "target_id"])
    match = match.sort_values(["database", "target_id"])
    columns: dict[str, list[Any]] = {
        "database": match["database"].tolist(),
        "id": match["target_id"].tolist(),
        "name": [text(value) for value in match["target_name"]],
        "family": [text(value) for value in match["factor_family"]],
        "class": [text(value) for value in match["target_class"]],
        "archetype": [text(value) for value in match["archetype"]],
    }
    target = {key: i for i, key in enumerate(zip(columns["database"], columns["id"], strict=True))}
    overlap = tables["annotation_overlap"][["annotation", "annotation_class"]].drop_duplicates()
    classes = sorted(zip(overlap["annotation"], overlap["annotation_class"], strict=True))
    return Dictionaries(target, {key: i for i, key in enumerate(classes)}, columns)


def overview(
    tables: SaeTables, states: list[str], motif_of: dict[int, int], names: Dictionaries
) -> dict[str, Any]:
    """Columns of the overview, one entry a node in each.

    Parameters
    ----------
    tables, states
        The SAE's tables and the state of each node.
    motif_of
        Node to the motif that stands for it, as `tables.best_motifs` gives it.
    names
        Dictionaries that the numbers refer to.
    """
    n = tables.n_nodes
    node = tables["node"].set_index("node")
    selection = tables["node_selection"].set_index("node")
    embedding = tables["node_embedding"].set_index("node")
    reasons, reason_of = _dictionary(selection["reason"].reindex(range(n)))
    return {
        "states": "".join(states),
        "frequency": numbers(_column(node, "frequency", n)),
        "activation_max": numbers(_column(node, "activation_max", n)),
        "n_seqlets": [integer(value) for value in _column(selection, "n_seqlets", n)],
        "reasons": reasons,
        "reason": reason_of,
        "x": numbers(_column(embedding, "umap_1", n)),
        "y": numbers(_column(embedding, "umap_2", n)),
        "cluster": [integer(value) for value in _column(embedding, "cluster", n)],
        **_motif_columns(tables, motif_of),
        **_match_columns(tables, names),
        "targets": names.targets,
        "annotations": _annotation_columns(tables, names),
        "clusters": [
            {
                "cluster": integer(row["cluster"]),
                "n_nodes": integer(row["n_nodes"]),
                "name": text(row["name"]),
                "n_named_nodes": integer(row["n_named_nodes"]),
                "q_value": number(row["q_value"]),
                "is_enriched": bool(row["q_value"] <= MAX_Q),
                "kind": text(row["kind"]),
                "n_on_map": integer(row["n_on_map"]),
                "unnamed_because": text(row["unnamed_because"]),
            }
            for row in tables["embedding_cluster"].sort_values("cluster").to_dict("records")
        ],
        "sae": _sae(tables["sae"]),
        "training": _training(tables["training_log"]),
    }


def _column(frame: pd.DataFrame, name: str, n: int) -> Any:
    """A column at every node, NaN where the table has no row."""
    return frame[name].reindex(range(n)).astype(float).to_numpy()


def _dictionary(values: pd.Series) -> tuple[list[str], list[int]]:
    """Distinct strings and the place of each value among them, -1 where there is none."""
    place: dict[str, int] = {}
    of = []
    for value in values:
        named = text(value)
        of.append(-1 if named is None else place.setdefault(named, len(place)))
    return list(place), of


def _motif_columns(tables: SaeTables, motif_of: dict[int, int]) -> dict[str, Any]:
    """Consensus, packed matrix and E of the motif that stands for each node, and its flags."""
    n = tables.n_nodes
    consensus: list[str | None] = [None] * n
    matrix: list[str] = [""] * n
    log10_e: list[Any] = [None] * n
    flags: list[list[str]] = [[] for _ in range(n)]
    for row in tables["motif"].to_dict("records"):
        node = int(row["node"])
        suspect = text(row["suspect"])
        # beside a motif that counts, a suspect one says nothing about the node
        if suspect and node not in motif_of and suspect not in flags[node]:
            flags[node].append(suspect)
        if motif_of.get(node) != row["motif"]:
            continue
        consensus[node] = text(row["consensus"])
        matrix[node] = pack_matrix(as_matrix(row["matrix"]))
        log10_e[node] = number(row["log10_e_value"])
        if is_true(row["is_palindrome"]):
            flags[node].append("palindrome")
        low = number(row["odds_ratio_low"])
        if low is not None and low <= 1:
            flags[node].append("not enriched")
    for node, kind in zip(
        tables["unmatched_node"]["node"], tables["unmatched_node"]["kind"], strict=True
    ):
        flags[int(node)].append(str(kind))
    for node, frequency in zip(tables["node"]["node"], tables["node"]["frequency"], strict=True):
        if frequency > _DENSE:
            flags[int(node)].append("dense")
    order: dict[str, int] = {}
    for named in sorted({flag for of_node in flags for flag in of_node}):
        order[named] = len(order)
    return {
        "consensus": consensus,
        "matrix": matrix,
        "log10_e": log10_e,
        "flags": list(order),
        "flag": [sum(1 << order[flag] for flag in of_node) for of_node in flags],
    }


def _match_columns(tables: SaeTables, names: Dictionaries) -> dict[str, Any]:
    """Best match of each node, its log10 q, those of its archetype that fit as well (the view
    `node_name`), and every significant match, best first."""
    n = tables.n_nodes
    match: list[int] = [-1] * n
    log10_q: list[Any] = [None] * n
    every: list[list[int]] = [[] for _ in range(n)]
    best = best_matches(tables["motif_match"])
    for node, database, target, q in zip(
        best["node"], best["database"], best["target_id"],
        log10_or_none(best["q_value"]), strict=True,
    ):  # fmt: skip
        match[int(node)] = names.target[database, target]
        log10_q[int(node)] = number(q, 5)
    fits: list[list[int]] = [[] for _ in range(n)]
    rows = tables["motif_match"]
    named = rows[rows["is_significant"].astype(bool)].merge(
        best, on=["node", "motif", "database", "archetype"], suffixes=("", "_of_best")
    )
    as_well = named["similarity"] >= named["similarity_of_best"] - FITS_AS_WELL
    named = named[as_well | (named["target_id"] == named["target_id_of_best"])]
    for row in named.sort_values(["node", "p_value", "target_id"]).itertuples():
        fits[int(row.node)].append(names.target[row.database, row.target_id])
    rows = rows[rows["is_significant"].astype(bool)].sort_values(
        ["node", "motif", "p_value", "target_id"]
    )
    for node, database, target in zip(
        rows["node"], rows["database"], rows["target_id"], strict=True
    ):
        place = names.target[database, target]
        if place not in every[int(node)]:
            every[int(node)].append(place)
    return {"match": match, "log10_q": log10_q, "fits": fits, "matches": every}


def _annotation_columns(tables: SaeTables, names: Dictionaries) -> list[dict[str, Any]]:
    """For each class: tenths of the log2 odds ratio of each node, and the nodes enriched in it.

    Enriched: the 95 % interval of the odds ratio lies above 1.
    """
    columns = []
    groups = dict(
        list(tables["annotation_overlap"].groupby(["annotation", "annotation_class"], sort=False))
    )
    for annotation, name in names.annotation:
        rows = groups[annotation, name]
        odds = rows["odds_ratio"].astype(float).fillna(1).clip(lower=2**-_MAX_LOG2_ODDS)
        tenths = np.rint(10 * np.log2(np.minimum(odds, 2**_MAX_LOG2_ODDS))).astype(int)
        of_node: list[int | None] = [None] * tables.n_nodes
        for node, value in zip(rows["node"], tenths, strict=True):
            of_node[int(node)] = int(value)
        enriched = rows.loc[(rows["odds_ratio_low"] > 1) & (rows["n_overlapping"] > 0), "node"]
        columns.append(
            {
                "annotation": str(annotation),
                "class": str(name),
                "log2_odds_tenths": of_node,
                "enriched": sorted(int(node) for node in enriched),
            }
        )
    return columns


def _sae(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The SAE's row with plain values; None where it was not trained yet."""
    if frame.empty:
        return None
    row = frame.drop(columns="artifact", errors="ignore").iloc[0].to_dict()
    plain = {
        str(name): value if isinstance(value, str) else number(value, 6)
        for name, value in row.items()
    }
    setting_names = [
        name for name in Hyperparameters.model_fields if name != "layer" and name in plain
    ]
    return {**plain, "settings": [[name.replace("_", " "), plain[name]] for name in setting_names]}


def _training(log: pd.DataFrame) -> dict[str, list[list[Any]]]:
    """Positions, FVU and dead share of each split, thinned to at most `_MAX_LOG_POINTS`."""
    curves: dict[str, list[list[Any]]] = {}
    for split, rows in log.sort_values("n_positions").groupby("split"):
        thinned = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, _MAX_LOG_POINTS).astype(int))]
        curves[str(split)] = [
            [int(value) for value in thinned["n_positions"]],
            numbers(thinned["fvu"]),
            numbers(thinned["dead_fraction"]),
        ]
    return curves
