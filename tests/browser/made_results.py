"""Made rows of motifs, matches, embedding and overlaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.browser.made_names import (
    ANNOTATION_CLASSES,
    FACTORS,
    HOSTILE_NAME,
    motif_matrix,
)


def made_motifs(
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
                    "odds_ratio_genome": 4.0,
                    "odds_ratio_untrained": None if node % 2 else 3.0,
                    "fdr": 1e-4,
                    "activation_spearman": float(rng.uniform(0, 0.6)),
                }
            )
    return pd.DataFrame(rows)


def made_matches(
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
                    "factor_family": family,
                    "archetype": family,
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


def made_embedding(
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


def made_overlaps(
    rng: np.random.Generator, nodes: NDArray[np.int64], n_seqlets: int
) -> pd.DataFrame:
    frames = []
    for annotation, classes in ANNOTATION_CLASSES:
        for name in classes:
            n_overlapping = rng.integers(0, n_seqlets + 1, len(nodes))
            expected = rng.uniform(0.1, 0.5) * n_seqlets * np.ones(len(nodes))
            odds = (n_overlapping + 0.5) * (n_seqlets - expected + 0.5)
            odds /= (n_seqlets - n_overlapping + 0.5) * (expected + 0.5)
            frames.append(
                pd.DataFrame(
                    {
                        "node": nodes,
                        "annotation": annotation,
                        "annotation_class": name,
                        "n_seqlets": n_seqlets,
                        "n_overlapping": n_overlapping,
                        "n_expected": expected,
                        "z_score": rng.normal(0, 1, len(nodes)),
                        "z_shuffled": (n_overlapping - expected) / np.sqrt(expected + 1),
                        "odds_ratio": odds,
                        "odds_ratio_low": odds * 0.7,
                        "odds_ratio_high": odds / 0.7,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def made_jaccard(
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
