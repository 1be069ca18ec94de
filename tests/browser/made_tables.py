"""A made catalogue: every table of one SAE, of any size, seeded, in every state a node can have.

Motifs are well-known consensus sequences with noise, seqlets carry them, so that what the browser
shows can be compared with what was planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.browser.tables import REQUIRED

KEY = "conv1d_1_x4_k0.05_lr0.003_s0"
HOSTILE_CHROM = 'chr1<img src=x onerror="window.hacked=1">'
HOSTILE_NAME = "</script><script>window.hacked=1</script>"
HOSTILE_CLASS = "Alu\"'><b>\u2028"

FACTORS = (
    ("CTCF", "MA0139.1", "TGGCCACCAGGGGGCGCTA", "More than 3 adjacent zinc fingers"),
    ("JUND", "MA0491.2", "TGACTCA", "Jun-related"),
    ("MAX", "MA0058.3", "CCACGTGG", "bHLH-ZIP"),
    ("FOXA1", "MA0148.4", "TGTTTACTTA", "FOX"),
    ("GATA1", "MA0035.4", "AGATAAGA", "C4-GATA-related"),
    ("SP1", "MA0079.5", "GGGGCGGGG", "Three-zinc finger Kruppel-related"),
    ("NRF1", "MA0506.2", "GCGCATGCGCA", "NRF"),
    ("YY1", "MA0095.3", "CAAGATGGCGGC", "More than 3 adjacent zinc fingers"),
    ("HNF4A", "MA0114.4", "CAAAGTCCA", "RXR-related receptors (NR2)"),
    ("ELK4", "MA0076.2", "CCGGAAGTG", "Ets-related"),
    ("CEBPA", "MA0102.4", "ATTGCACAAT", "CEBP-related"),
    ("RUNX1", "MA0002.2", "TCTGTGGTTT", "Runt-related"),
    ("TEAD1", "MA0090.3", "ACATTCCA", "TEF-1-related"),
    ("MEF2A", "MA0052.4", "CTAAAAATAG", "Regulators of differentiation"),
    ("POU2F2", "MA0507.2", "ATGCAAATGA", "POU domain"),
    ("SOX2", "MA0143.4", "CATTGTTATG", "SOX-related"),
    ("TP53", "MA0106.3", "ACATGTCCGGACATGT", "p53-related"),
    ("STAT3", "MA0144.2", "TTCCGGGAA", "STAT"),
    ("IRF1", "MA0050.2", "TTTCACTTTC", "Interferon-regulatory"),
    ("REST", "MA0138.2", "TTCAGCACCATGGACAG", "Factors with multiple dispersed zinc fingers"),
)
ANNOTATION_CLASSES = (
    ("ccre_exon_intron", ("PLS", "pELS", "dELS", "CTCF-only", "DNase-H3K4me3", "exon", "intron")),
    ("repeatmasker", ("SINE/Alu", "LINE/L1", "LTR/ERV1", "Simple_repeat", HOSTILE_CLASS)),
)
_BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


class MadeSite(NamedTuple):
    """What `write_site` takes, and what was planted."""

    tables: dict[str, pd.DataFrame]
    sae_artifact: Path | None
    database: dict[tuple[str, str], NDArray[np.float64]]
    planted: dict[int, str]
    """Factor of each node that was given one."""


def _effects(nodes: NDArray[np.int64]) -> pd.DataFrame:
    """Each matched node moves "liver" beyond its controls, and "brain" no more than they do."""
    rows = [
        (node, loci, track, 12, 1.5, size, 0.1, -size, 0.2, -0.05, 0.02, 0.3, z,
         q if loci == "activation" else None, significant and loci == "activation", rank)
        for node in nodes
        for loci in ("activation", "gradient")
        for track, size, z, q, significant, rank in (
            ("liver", -0.75, 5.5, 1e-6, True, 1), ("brain", 0.01, 0.2, 0.9, False, 2),
        )
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(REQUIRED["node_effect"]))
    return table.assign(node_rank=table.groupby(["track", "loci"]).cumcount() + 1)


def motif_matrix(consensus: str, sharpness: float = 0.88) -> NDArray[np.float64]:
    """Position probability matrix of a consensus, (width, 4)."""
    matrix = np.full((len(consensus), 4), (1 - sharpness) / 3)
    matrix[np.arange(len(consensus)), ["ACGT".index(base) for base in consensus]] = sharpness
    return matrix


def states(n_nodes: int) -> NDArray[np.str_]:
    """State of each node: the same pattern in every hundred, so that small sites have all."""
    pattern = np.array(["matched"] * 100, dtype="U12")
    pattern[[3, 23, 43]] = "dead"
    pattern[[5, 15, 25, 35, 45, 55, 65, 75, 85, 95]] = "unselected"
    pattern[[7, 57]] = "pending"
    pattern[[8, 18, 28, 38, 48]] = "no_motif"
    pattern[[9, 39, 69]] = "suspect"
    pattern[[11, 31, 51, 71, 91]] = "unmatched"
    return np.resize(pattern, n_nodes)


def make(
    n_nodes: int,
    n_seqlets: int = 60,
    width: int = 18,
    n_channels: int = 32,
    seed: int = 0,
    folder: Path | None = None,
) -> MadeSite:
    """Tables of an SAE of `n_nodes`, with `n_seqlets` seqlets of `width` bp a node.

    With `folder`, a decoder (n_nodes, n_channels) is written there as `sae.safetensors`.
    """
    rng = np.random.default_rng(seed)
    state = states(n_nodes)
    nodes = np.arange(n_nodes)
    factor = rng.integers(0, len(FACTORS), n_nodes)
    alive = nodes[state != "dead"]
    with_seqlets = nodes[~np.isin(state, ["dead", "unselected", "pending"])]
    with_motif = nodes[np.isin(state, ["matched", "suspect", "unmatched", "no_motif"])]
    matched = nodes[state == "matched"]
    activation_max = rng.gamma(4, 0.5, n_nodes) + 0.2
    activation_max[state == "dead"] = 0

    tables = {
        "sae": _sae(n_nodes, n_channels),
        "training_log": _training_log(rng),
        "node": _node(rng, state, activation_max),
        "node_selection": _selection(nodes[state != "pending"], state, n_seqlets),
        "seqlet": _seqlets(rng, with_seqlets, n_seqlets, width, factor, activation_max),
        "motif": _motifs(rng, with_motif, state, factor, width),
        "motif_match": _matches(rng, matched, factor),
        "node_embedding": _embedding(rng, with_seqlets, factor),
        "annotation_overlap": _overlaps(rng, with_seqlets, n_seqlets),
        "node_jaccard": _jaccard(rng, with_seqlets, factor),
        "node_effect": _effects(matched),
    }
    clusters = tables["node_embedding"].groupby("cluster").size()
    tables["embedding_cluster"] = pd.DataFrame(
        {
            "cluster": clusters.index,
            "n_nodes": clusters.to_numpy(),
            "family": [FACTORS[c % len(FACTORS)][3] for c in clusters.index],
            "n_family_nodes": clusters.to_numpy() // 2,
            "p_value": 1e-9,
        }
    )
    tables["materialization"] = pd.DataFrame(
        {
            "asset": ["trained_sae", "top_activations"],
            "owner": KEY,
            "node": None,
            "run_id": ["r1", "r2"],
            "code_version": "1",
            "data_version": ["a1", "b2"],
            "artifact": ["sae", "top"],
            "n_rows": [1, len(alive)],
            "made_at": pd.Timestamp("2025-01-02T03:04:05Z"),
        }
    )
    for table in tables.values():
        if "hyperparameters" not in table:
            table.insert(0, "hyperparameters", KEY)
    database = {
        ("JASPAR2024", target_id): motif_matrix(consensus, 0.94)
        for _, target_id, consensus, _ in FACTORS
    }
    artifact = None
    if folder is not None:
        artifact = _decoder(rng, folder, factor, n_channels)
    return MadeSite(tables, artifact, database, {int(n): FACTORS[factor[n]][0] for n in matched})


def _sae(n_nodes: int, n_channels: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": ["conv1d_1"],
            "expansion": [4],
            "topk": [0.05],
            "learning_rate": [0.003],
            "seed": [0],
            "variant": ["topk"],
            "recipe": ["default"],
            "n_channels": [n_channels],
            "n_nodes": [n_nodes],
            "k": [30],
            "n_positions": [3_000_000],
            "fvu": [0.171],
            "validation_fvu": [0.183],
            "l0": [30.0],
            "dead_fraction": [0.03],
            "training_s": [412.0],
            "artifact": ["trained_sae"],
        }
    )


def _training_log(rng: np.random.Generator) -> pd.DataFrame:
    frames = []
    for split, every in (("train", 1), ("validation", 10)):
        step = np.arange(1, 301, every)
        fvu = 0.17 + 0.8 * np.exp(-step / 60) + rng.normal(0, 0.004, len(step))
        frames.append(
            pd.DataFrame(
                {
                    "step": step,
                    "split": split,
                    "n_positions": step * 4096,
                    "loss": fvu * 0.4,
                    "fvu": fvu,
                    "l0": 30.0,
                    "dead_fraction": np.clip(0.4 * np.exp(-step / 40), 0.01, 1),
                    "learning_rate": 3e-3,
                    "positions_per_s": 26_000.0,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _node(
    rng: np.random.Generator, state: NDArray[np.str_], activation_max: NDArray[np.float64]
) -> pd.DataFrame:
    n = len(state)
    n_positions = 2_000_000
    n_nonzero = np.where(state == "dead", 0, (10 ** rng.normal(3.6, 0.7, n)).astype(int))
    n_nonzero = np.minimum(n_nonzero, n_positions)
    shape = np.exp(-np.linspace(0, 7, 40))
    counts = np.rint(n_nonzero[:, None] * shape / shape.sum()).astype(np.int64)
    edges = activation_max[:, None] * np.linspace(0, 1, 41)
    return pd.DataFrame(
        {
            "node": np.arange(n),
            "n_positions": n_positions,
            "n_nonzero": n_nonzero,
            "frequency": n_nonzero / n_positions,
            "activation_max": activation_max,
            "activation_mean": activation_max * 0.3,
            "activation_std": activation_max * 0.1,
            "n_above_mean_fraction": n_nonzero // 2,
            "n_above_max_fraction": n_nonzero // 50,
            "histogram_edges": list(edges),
            "histogram_counts": list(counts),
        }
    )


def _selection(nodes: NDArray[np.int64], state: NDArray[np.str_], n_seqlets: int) -> pd.DataFrame:
    dead, unselected = state[nodes] == "dead", state[nodes] == "unselected"
    reason = np.where(dead, "fires nowhere", "180 of 1000 needed non-zero positions")
    selected = ~(dead | unselected)
    return pd.DataFrame(
        {
            "node": nodes,
            "selected": selected,
            "reason": np.where(selected, np.array(None, object), reason),
            "n_seqlets": np.where(dead, 0, np.where(unselected, 180, n_seqlets)),
            "n_strong": np.where(selected, n_seqlets // 2, 0),
            "n_dropped": 0,
        }
    )


def _seqlets(
    rng: np.random.Generator,
    nodes: NDArray[np.int64],
    n_seqlets: int,
    width: int,
    factor: NDArray[np.int64],
    activation_max: NDArray[np.float64],
) -> pd.DataFrame:
    codes = rng.integers(0, 4, (len(nodes), n_seqlets, width), dtype=np.uint8)
    for row, node in enumerate(nodes):
        consensus = FACTORS[factor[node]][2][:width]
        matrix = motif_matrix(consensus)
        planted = (rng.random((n_seqlets, len(consensus), 1)) > matrix.cumsum(axis=1)).sum(axis=2)
        slack = width - len(consensus)
        start = slack // 2
        codes[row, :, start : start + len(consensus)] = np.minimum(planted, 3)
    text = np.ascontiguousarray(_BASES[codes]).reshape(-1, width)
    decay = np.linspace(1, 0.12, n_seqlets) ** 1.3
    activation = (activation_max[nodes][:, None] * decay).astype(np.float32)
    chroms = np.array([f"chr{i}" for i in [*range(1, 23), "X"]] + [HOSTILE_CHROM], dtype=object)
    start_bp = rng.integers(10_000, 200_000_000, activation.size)
    return pd.DataFrame(
        {
            "node": np.repeat(nodes, n_seqlets),
            "rank": np.tile(np.arange(n_seqlets), len(nodes)),
            "chrom": pd.Series(chroms[rng.integers(0, len(chroms), activation.size)], dtype="str"),
            "start_bp": start_bp,
            "end_bp": start_bp + width,
            "activation": activation.ravel(),
            "sequence": pd.Series(text.view(f"S{width}").ravel().astype("U"), dtype="str"),
        }
    )


def _motifs(
    rng: np.random.Generator,
    nodes: NDArray[np.int64],
    state: NDArray[np.str_],
    factor: NDArray[np.int64],
    width: int,
) -> pd.DataFrame:
    rows = []
    for node in nodes:
        for number in (1, 2):
            consensus = FACTORS[factor[node]][2][:width]
            if number == 2 or state[node] == "no_motif":
                consensus = "".join(rng.choice(list("ACGT"), min(8, width)))
            if state[node] == "suspect":
                consensus = "CGCGCGCG"
            matrix = motif_matrix(consensus, rng.uniform(0.7, 0.95))
            matrix += rng.uniform(0, 0.03, matrix.shape)
            matrix /= matrix.sum(axis=1, keepdims=True)
            significant = number == 1 and state[node] in ("matched", "unmatched")
            bits = float((2 + (matrix * np.log2(matrix)).sum(axis=1)).sum())
            rows.append(
                {
                    "node": node,
                    "motif": number,
                    "consensus": consensus,
                    "width_bp": len(consensus),
                    "n_sites": (n_sites := int(rng.integers(50, 1000))),
                    "n_effective_sites": float(n_sites - 7 * (number == 2)),
                    "llr": bits * 100,
                    "log10_e_value": -float(rng.uniform(5, 400)) if significant else 1.3,
                    "is_significant": significant,
                    "matrix": [row.tolist() for row in matrix],
                    "engine": "builtin 0.1.0",
                    "information_content_bits": bits,
                    "is_palindrome": consensus == "CCACGTGG",
                    "suspect": "cpg" if state[node] == "suspect" else None,
                    "odds_ratio": float(rng.lognormal(2, 0.5)) if number == 1 else np.nan,
                    "odds_ratio_low": 2.0,
                    "odds_ratio_high": 30.0,
                    "enrichment_p_value": 1e-6,
                    "odds_ratio_other_nodes": 3.0,
                    "fdr": 1e-4,
                    "activation_spearman": float(rng.uniform(0, 0.6)),
                }
            )
    return pd.DataFrame(rows)


def _matches(
    rng: np.random.Generator, nodes: NDArray[np.int64], factor: NDArray[np.int64]
) -> pd.DataFrame:
    rows = []
    for node in nodes:
        others = rng.choice(len(FACTORS), 3, replace=False)
        for place, which in enumerate([factor[node], *(o for o in others if o != factor[node])]):
            name, target_id, consensus, family = FACTORS[which]
            p = 10 ** -rng.uniform(8, 20) if place == 0 else 10 ** -rng.uniform(3, 5)
            rows.append(
                {
                    "node": node,
                    "motif": 1,
                    "database": "JASPAR2024",
                    "target_id": target_id,
                    "target_name": HOSTILE_NAME if place == 2 and node % 10 == 0 else name,
                    "target_family": family,
                    "target_class": "Zinc finger",
                    "p_value": p,
                    "q_value": p * 50,
                    "e_value": p * 800,
                    "offset_bp": 0 if place == 0 else int(rng.integers(-3, 4)),
                    "overlap_bp": len(consensus),
                    "orientation": "+" if place == 0 or rng.random() < 0.5 else "-",
                    "similarity": 0.98 if place == 0 else 0.8,
                    "is_significant": True,
                }
            )
    return pd.DataFrame(rows)


def _embedding(
    rng: np.random.Generator, nodes: NDArray[np.int64], factor: NDArray[np.int64]
) -> pd.DataFrame:
    angle = factor[nodes] * 2.399963
    radius = 2 * np.sqrt(factor[nodes] + 1)
    return pd.DataFrame(
        {
            "node": nodes,
            "umap_1": radius * np.cos(angle) + rng.normal(0, 0.55, len(nodes)),
            "umap_2": radius * np.sin(angle) + rng.normal(0, 0.55, len(nodes)),
            "cluster": factor[nodes],
        }
    )


def _overlaps(rng: np.random.Generator, nodes: NDArray[np.int64], n_seqlets: int) -> pd.DataFrame:
    frames = []
    for annotation, classes in ANNOTATION_CLASSES:
        for name in classes:
            seen = rng.integers(0, n_seqlets + 1, len(nodes))
            expected = rng.uniform(0.1, 0.5) * n_seqlets * np.ones(len(nodes))
            odds = (seen + 0.5) * (n_seqlets - expected + 0.5)
            odds /= (n_seqlets - seen + 0.5) * (expected + 0.5)
            frames.append(
                pd.DataFrame(
                    {
                        "node": nodes,
                        "annotation": annotation,
                        "annotation_class": name,
                        "n_seqlets": n_seqlets,
                        "n_overlapping": seen,
                        "n_expected": expected,
                        "z_score": rng.normal(0, 1, len(nodes)),
                        "z_shuffled": (seen - expected) / np.sqrt(expected + 1),
                        "odds_ratio": odds,
                        "odds_ratio_low": odds * 0.7,
                        "odds_ratio_high": odds / 0.7,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _jaccard(
    rng: np.random.Generator, nodes: NDArray[np.int64], factor: NDArray[np.int64]
) -> pd.DataFrame:
    pairs = rng.choice(nodes, (len(nodes) * 6, 2))
    same = factor[pairs[:, 0]] == factor[pairs[:, 1]]
    keep = same | (rng.random(len(pairs)) < 0.3)
    pairs = np.sort(pairs[keep & (pairs[:, 0] != pairs[:, 1])], axis=1)
    frame = pd.DataFrame(pairs, columns=["node_a", "node_b"]).drop_duplicates()
    frame["n_overlapping"] = rng.integers(1, 300, len(frame))
    frame["jaccard"] = frame["n_overlapping"] / 1000
    return frame.reset_index(drop=True)


def _decoder(
    rng: np.random.Generator, folder: Path, factor: NDArray[np.int64], n_channels: int
) -> Path:
    from safetensors.numpy import save_file

    centres = rng.normal(size=(len(FACTORS), n_channels))
    decoder = centres[factor] + 0.5 * rng.normal(size=(len(factor), n_channels))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"W_dec": decoder.astype(np.float32)}, folder / "sae.safetensors")
    return folder
