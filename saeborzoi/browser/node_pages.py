"""What a node's page shows, one document a node, read a hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from saeborzoi.browser.encoding import integer, is_true, number, numbers, pack_sequences, text
from saeborzoi.browser.neighbours import Nearest
from saeborzoi.browser.overview import Dictionaries
from saeborzoi.browser.tables import SaeTables
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.nodes.bands import BANDS, bands_of, shown

if TYPE_CHECKING:
    import pandas as pd

NODES_PER_FILE = 100
MATCHES_PER_MOTIF = 8
CONCEPTS_PER_NODE = 6
"""Classes of annotation that a node detects best."""
VARIANTS_PER_NODE = 8
"""Variants that act through a node."""
EFFECTS_PER_NODE = 8
"""Tracks of a node, for each way of choosing loci."""


def page_files(
    tables: SaeTables, names: Dictionaries, nearest: dict[str, Nearest]
) -> Iterator[dict[str, Any]]:
    """Documents of `NODES_PER_FILE` nodes each, in order of node.

    Parameters
    ----------
    tables
        The SAE's tables.
    names
        Dictionaries that the numbers refer to.
    nearest
        ``jaccard``, ``together``, ``decoder``, ``motif``: the nearest nodes by each; left out where
        not yet computed.
    """
    activation = {int(row["node"]): row for row in tables["node"].to_dict("records")}
    selection = {int(row["node"]): row for row in tables["node_selection"].to_dict("records")}
    repeats = tables["repeat_class"][["node", "motif", "annotation_class", "n_overlapping"]]
    motifs = _grouped(
        tables["motif"].merge(repeats, "left", ["node", "motif"]).sort_values(["node", "motif"])
    )
    matches = _grouped(_strongest_matches(tables["motif_match"]))
    overlaps = _grouped(tables["annotation_overlap"].sort_values(["node", "z_shuffled"]))
    effects = _grouped(_strongest_effects(tables["node_effect"]))
    variants = _grouped(_strongest_variants(tables["node_variant"]))
    concepts = _grouped(
        tables["concept_score"]
        .sort_values(["node", "f1", "annotation_class"], ascending=[True, False, True])
        .groupby("node")
        .head(CONCEPTS_PER_NODE)
    )
    profiles = _grouped(tables["node_profile"].sort_values(["node", "strand"]))
    seqlets = _Seqlets(tables)
    done = {name: tables.computed_nodes(name) for name in ("motif", "seqlet")}
    done["motif_match"] = tables.computed_nodes("motif_match")

    for first in range(0, tables.n_nodes, NODES_PER_FILE):
        chroms: dict[str, int] = {}
        genes: dict[str, int] = {}
        pages = []
        for node in range(first, min(first + NODES_PER_FILE, tables.n_nodes)):
            page = {
                "activation": _activation(activation.get(node)),
                "selection": _selection(selection.get(node)),
                "seqlets": seqlets.page(node, chroms, genes) if node in done["seqlet"] else None,
                "motifs": _motifs(motifs.get(node, [])) if node in done["motif"] else None,
                "matches": _matches(matches.get(node, []), names)
                if node in done["motif_match"]
                else None,
                "overlaps": _overlaps(overlaps[node], names) if node in overlaps else None,
                "effects": _effects(effects[node]) if node in effects else None,
                "variants": _variants(variants[node]) if node in variants else None,
                "concepts": _concepts(concepts[node]) if node in concepts else None,
                "profile": _profile(profiles[node]) if node in profiles else None,
                "near": {
                    kind: [neighbours.node[node], numbers(neighbours.similarity[node], 3)]
                    for kind, neighbours in nearest.items()
                    if node in neighbours.node
                },
            }
            pages.append({name: value for name, value in page.items() if value is not None})
        yield {"first": first, "chroms": list(chroms), "genes": list(genes), "nodes": pages}


def _grouped(frame: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Rows of each node, in their order."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in frame.drop(columns="hyperparameters", errors="ignore").to_dict("records"):
        groups.setdefault(int(row["node"]), []).append(row)
    return groups


def _activation(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    edges, counts = row["histogram_edges"], row["histogram_counts"]
    has_histogram = counts is not None and np.ndim(counts) == 1 and len(counts) > 0
    return {
        "n_positions": integer(row["n_positions"]),
        "n_nonzero": integer(row["n_nonzero"]),
        "frequency": number(row["frequency"]),
        "max": number(row["activation_max"]),
        "mean": number(row["activation_mean"]),
        "std": number(row["activation_std"]),
        "edges": numbers(edges) if has_histogram else [],
        "counts": [int(count) for count in counts] if has_histogram else [],
    }


def _selection(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "selected": bool(row["selected"]),
        "reason": text(row["reason"]),
        "n_seqlets": integer(row["n_seqlets"]),
        "n_strong": integer(row["n_strong"]),
        "n_dropped": integer(row["n_dropped"]),
    }


def _motifs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "motif": int(row["motif"]),
            "consensus": text(row["consensus"]),
            "n_sites": integer(row["n_sites"]),
            "llr": number(row["llr"]),
            "log10_e": number(row["log10_e_value"], 17),
            "significant": bool(row["is_significant"]),
            "matrix": as_matrix(row["matrix"]).ravel().round(6).tolist(),
            "engine": text(row["engine"]),
            "bits": number(row["information_content_bits"]),
            "palindrome": is_true(row["is_palindrome"]),
            "suspect": text(row["suspect"]),
            "n_effective": number(row["n_effective_sites"]),
            "lies_in": text(row["annotation_class"]),
            "n_lie_in": integer(row["n_overlapping"]),
            "odds": numbers(
                row[f"odds_ratio{end}"]
                for end in ("", "_low", "_high", "_other_nodes", "_genome", "_untrained")
            ),
            "enrichment_p": number(row["enrichment_p_value"]),
            "fdr": number(row["fdr"]),
            "spearman": number(row["activation_spearman"]),
        }
        for row in rows
    ]


def _strongest_matches(frame: pd.DataFrame) -> pd.DataFrame:
    """The `MATCHES_PER_MOTIF` best matches of each motif, significant or not."""
    ordered = frame.sort_values(["node", "motif", "p_value", "target_id"], kind="stable")
    return ordered.groupby(["node", "motif"], sort=False).head(MATCHES_PER_MOTIF)


def _matches(rows: list[dict[str, Any]], names: Dictionaries) -> list[list[Any]]:
    """motif, target, p, q, E, offset, overlap, strand, significant, similarity."""
    return [
        [
            int(row["motif"]),
            names.target[row["database"], row["target_id"]],
            number(row["p_value"], 3),
            number(row["q_value"], 3),
            number(row["e_value"], 3),
            integer(row["offset_bp"]),
            integer(row["overlap_bp"]),
            text(row["orientation"]),
            int(bool(row["is_significant"])),
            number(row["similarity"], 3),
        ]
        for row in rows
    ]


def _overlaps(rows: list[dict[str, Any]], names: Dictionaries) -> list[list[Any]]:
    """class, seqlets, overlapping, expected, z over nodes, z shuffled, odds ratio, low, high."""
    return [
        [
            names.annotation[row["annotation"], row["annotation_class"]],
            integer(row["n_seqlets"]),
            integer(row["n_overlapping"]),
            *numbers(
                row[name]
                for name in (
                    "n_expected", "z_score", "z_shuffled",
                    "odds_ratio", "odds_ratio_low", "odds_ratio_high",
                )
            ),
        ]
        for row in reversed(rows)
    ]  # fmt: skip


def _strongest_effects(frame: pd.DataFrame) -> pd.DataFrame:
    """The tracks that each node moves most, for each way of choosing loci."""
    ordered = frame.sort_values(["node", "loci", "track_rank"])
    return ordered.groupby(["node", "loci"], sort=False).head(EFFECTS_PER_NODE)


def _effects(rows: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    """Of each way of choosing loci: track, loci, level, ablated and its spread, doubled and its
    spread, controls and their spread, shuffled, z, q, significant."""
    effects: dict[str, list[list[Any]]] = {}
    for row in rows:
        figures = numbers(
            row[name]
            for name in (
                "level", "ablated", "ablated_std", "doubled", "doubled_std", "control",
                "control_std", "shuffled", "z", "q_value",
            )
        )  # fmt: skip
        effects.setdefault(str(row["loci"]), []).append(
            [text(row["track"]), integer(row["n_loci"]), *figures, int(bool(row["is_significant"]))]
        )
    return effects


def _strongest_variants(frame: pd.DataFrame) -> pd.DataFrame:
    """The variants of each node of whose effect it carries most, each on its one track."""
    carried = (frame["effect"].astype(float) * frame["share"].astype(float)).abs()
    ordered = frame.assign(carried=carried).sort_values(
        ["node", "carried", "variant"], ascending=[True, False, True]
    )
    first = ordered.drop_duplicates(["node", "variant_set", "variant"])
    return first.groupby("node").head(VARIANTS_PER_NODE)


def _variants(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """set, variant, name, track, effect, share, state, q."""
    return [
        [
            *(text(row[name]) for name in ("variant_set", "variant", "name", "track")),
            *(number(row[name], 3) for name in ("effect", "share")),
            text(row["state"]),
            number(row["q_value"], 3),
        ]
        for row in rows
    ]


def _concepts(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """annotation, class, windows, F1, precision, element recall, average precision, lift."""
    columns = ("f1", "precision", "element_recall", "average_precision", "lift")
    return [
        [
            text(row["annotation"]),
            text(row["annotation_class"]),
            text(row["split"]),
            *(number(row[name], 3) for name in columns),
        ]
        for row in rows
    ]


def _profile(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """strand, base pairs a step, loci, mean activation from -R to R in reading direction."""
    return [
        [
            text(row["strand"]),
            integer(row["step_bp"]),
            integer(row["n_loci"]),
            numbers(row["mean_activation"], 3),
        ]
        for row in rows
    ]


class _Seqlets:
    """The strongest seqlets of each node and band, packed."""

    def __init__(self, tables: SaeTables) -> None:
        frame, genes = tables["seqlet"], tables["seqlet_gene"]
        along = tables["seqlet_activation"]
        self._has_genes, self._has_along = len(genes) > 0, len(along) > 0
        self._step_bp = int(along["step_bp"].iloc[0]) if self._has_along else None
        if self._has_along:
            frame = frame.merge(along[["node", "rank", "activations"]], "left", ["node", "rank"])
        if self._has_genes:
            columns = ["node", "rank", "gene", "distance_bp"]
            frame = frame.merge(genes[columns], "left", ["node", "rank"])
        node = frame["node"].to_numpy(np.int64)
        rank = frame["rank"].to_numpy(np.int64)
        order = np.lexsort((rank, node))
        node = node[order]
        activation = frame["activation"].to_numpy(np.float64)[order]
        maximum = np.zeros(tables.n_nodes)
        np.maximum.at(maximum, node, activation)
        of_node = tables["node"]
        np.maximum.at(
            maximum, of_node["node"].to_numpy(np.int64), of_node["activation_max"].to_numpy(float)
        )
        band = bands_of(activation, maximum[node])
        kept = shown(node, band)
        self.totals = np.zeros((tables.n_nodes, len(BANDS)), dtype=np.int64)
        np.add.at(self.totals, (node, band), 1)
        chosen = frame.iloc[order[kept]]
        self._starts = np.searchsorted(node[kept], np.arange(tables.n_nodes + 1))
        self._start_bp = chosen["start_bp"].tolist()
        self._rank = chosen["rank"].tolist()
        self._activation = numbers(activation[kept])
        self._chrom = chosen["chrom"].tolist()
        if self._has_genes:
            self._gene = [text(value) for value in chosen["gene"]]
            self._distance = [integer(value) for value in chosen["distance_bp"]]
        if self._has_along:
            self._along = [
                numbers(values, 3) if np.ndim(values) else None for values in chosen["activations"]
            ]
        sequences = chosen["sequence"].tolist()
        self._width = (chosen["end_bp"] - chosen["start_bp"]).tolist()
        self._sequence = pack_sequences(sequences)

    def page(self, node: int, chroms: dict[str, int], genes: dict[str, int]) -> dict[str, Any]:
        """Columns of a node's seqlets; `chroms` and `genes` collect the names that they refer to.

        Ranks are differences to the one before, and sequences of one width stand joined, as both
        make up most of a site.
        """
        here = slice(*self._starts[node : node + 2])
        width = self._width[here]
        rank = self._rank[here]
        sequences = self._sequence[here]
        is_plain = len(set(width)) == 1 and not any(line.startswith("!") for line in sequences)
        named: dict[str, Any] = {}
        if self._has_genes:
            named["gene"] = [
                -1 if gene is None else genes.setdefault(gene, len(genes))
                for gene in self._gene[here]
            ]
            named["distance"] = self._distance[here]
        if self._has_along:
            named |= {"step": self._step_bp, "along": self._along[here]}
        return named | {
            "in_band": self.totals[node].tolist(),
            "width": width[0] if len(set(width)) == 1 else width,
            "rank": [rank[i] - (rank[i - 1] if i else 0) for i in range(len(rank))],
            "chrom": [chroms.setdefault(str(c), len(chroms)) for c in self._chrom[here]],
            "start": self._start_bp[here],
            "activation": self._activation[here],
            "sequence": "".join(sequences) if is_plain else sequences,
        }
