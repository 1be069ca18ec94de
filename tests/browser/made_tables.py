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
from tests.browser.made_names import (
    BASES,
    FACTORS,
    HOSTILE_CHROM,
    motif_matrix,
)
from tests.browser.made_results import (
    made_embedding,
    made_jaccard,
    made_matches,
    made_motifs,
    made_overlaps,
)

KEY = "conv1d_1_x4_k0.05_lr0.003_s0"


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


def _profiles(nodes: NDArray[np.int64]) -> pd.DataFrame:
    """What nodes do around their strongest positions: a peak, that no window covers to its left."""
    mean = [np.nan, 0.5, 2.0, 0.25, 0.0]
    columns = list(REQUIRED["node_profile"])
    return pd.DataFrame([(n, s, 250, 40, mean) for n in nodes for s in "+-"], columns=columns)


def _variants(nodes: NDArray[np.int64]) -> pd.DataFrame:
    """Two variants that act through every matched node, one of them on two tracks."""
    rows = [
        (node, "mine", variant, name, track, effect, 0.25, "weaker", 0.01)
        for node in nodes
        for variant, name, track, effect in (
            ("chr1:5:A:G", "rs<1>", "liver", 1.0), ("chr1:5:A:G", "rs<1>", "brain", 2.0),
            ("chr1:9:C:T", None, "liver", -4.0),
        )
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(REQUIRED["node_variant"]))


def _concepts(nodes: NDArray[np.int64]) -> pd.DataFrame:
    """Two classes that every matched node meets."""
    rows = [
        (node, "genes", name, "validation", f1, f1, f1, f1 / 2, 3.0)
        for node in nodes
        for name, f1 in (("intron", 0.25), ("exon", 0.75))
    ]
    return pd.DataFrame(rows, columns=list(REQUIRED["concept_score"]))


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
        "motif": made_motifs(rng, with_motif, state, factor, width),
        "motif_match": made_matches(rng, matched, factor),
        "node_embedding": made_embedding(rng, with_seqlets, factor),
        "annotation_overlap": made_overlaps(rng, with_seqlets, n_seqlets),
        "node_jaccard": made_jaccard(rng, with_seqlets, factor),
        "node_effect": _effects(matched),
        "node_profile": _profiles(with_seqlets),
        "concept_score": _concepts(matched),
        "node_variant": _variants(matched),
    }
    tables["seqlet_gene"] = tables["seqlet"][["node", "rank"]].assign(
        gene="SOX<2>", distance_bp=np.where(tables["seqlet"]["rank"] == 0, -1234, 250)
    )
    # strongest at its own position, weaker to the left of it, and none there to the right
    tables["seqlet_activation"] = tables["seqlet"][["node", "rank"]].assign(
        step_bp=7,
        activations=[[0.0, 0.5 * a, a, np.nan, 0.0] for a in tables["seqlet"]["activation"]],
    )
    clusters = tables["node_embedding"].groupby("cluster").size()
    tables["embedding_cluster"] = pd.DataFrame(
        {
            "cluster": clusters.index,
            "n_nodes": clusters.to_numpy(),
            "name": [FACTORS[c % len(FACTORS)][3] for c in clusters.index],
            "n_named_nodes": clusters.to_numpy() // 2,
            "q_value": 1e-9,
            "kind": "family of motifs",
            "n_on_map": clusters.to_numpy(),
            "unnamed_because": None,
        }
    )
    is_second = tables["embedding_cluster"]["cluster"] == 2
    tables["embedding_cluster"].loc[is_second, ["name", "kind", "q_value"]] = None
    tables["embedding_cluster"].loc[is_second, "unnamed_because"] = "nothing is commoner in it"
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
    text = np.ascontiguousarray(BASES[codes]).reshape(-1, width)
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
