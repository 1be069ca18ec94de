"""Which motifs of an SAE are more than chance: each against other nodes, the genome, and where an
untrained dictionary fires.

The controls that need more than the node's own seqlets; scores of motifs and the control of
shuffled seqlets are in `evidence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from saeborzoi.motifs.evidence import Scorer, odds_ratio, scannable
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.motifs.sequences import Sequences, encode, letter_frequencies
from saeborzoi.settings.hyperparameters import derived_seed

OTHER_NODES_SAMPLE = 5000
"""Seqlets, drawn from all nodes alike, that stand for the other nodes, or the untrained ones."""
CONTROLS = ("odds_ratio_other_nodes", "odds_ratio_genome", "odds_ratio_untrained")
"""Columns of the controls, in order."""


def across_nodes(
    motifs: pd.DataFrame,
    seqlets: pd.DataFrame,
    key: str,
    both_strands: bool = False,
    placed: Sequence[str] = (),
    untrained: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Evidence that needs every node of the SAE.

    Parameters
    ----------
    motifs
        Columns node, motif, matrix, n_sites, enrichment_p_value of *all* motifs of the SAE.
    seqlets
        Columns node, rank, sequence of all selected nodes.
    key
        Partition key of the SAE, seeds the sample of other nodes' seqlets.
    both_strands
        Whether an occurrence may lie on the reverse complement.
    placed
        Sequences of the seqlets' width from anywhere in the data: the genome as it is, with its
        repeats and composition. May be empty.
    untrained
        As `seqlets`, of an untrained dictionary of the same layer and shape: where random
        directions fire. None where there is no such dictionary.

    Returns
    -------
    node, motif, and the odds ratio of its occurrence in the node's seqlets, one column each of
    `CONTROLS`: odds_ratio_other_nodes (against a sample of the other nodes' seqlets, nan where
    there is no other node), odds_ratio_genome (against `placed`, weighted to the share of G and C
    of the node's seqlets; nan without), odds_ratio_untrained (against a sample of the untrained
    dictionary's seqlets, nan without); fdr (Benjamini-Hochberg over all motifs of the largest of
    the p-values, against shuffled seqlets and these controls: the expected share of motifs, among
    those called, that some control has as often).
    """
    result = motifs[["node", "motif"]].reset_index(drop=True)
    p = motifs["enrichment_p_value"].to_numpy(float)
    if motifs.empty or seqlets.empty:
        counts = np.zeros((len(motifs), len(CONTROLS), 4), np.int64)
    else:
        counts = _counts(motifs, seqlets, key, both_strands, placed, untrained)
    for i, column in enumerate(CONTROLS):
        ratio = np.full((2, len(motifs)), np.nan)
        there = counts[:, i, 3] > 0
        value, _, _, ratio_p = odds_ratio(*counts[there, i].T)
        ratio[:, there] = value, ratio_p
        result[column] = ratio[0]
        p = np.fmax(p, ratio[1])
    result["fdr"] = np.nan
    known = np.isfinite(p)
    if known.any():
        result.loc[known, "fdr"] = stats.false_discovery_control(p[known])
    return result


def _counts(
    motifs: pd.DataFrame,
    seqlets: pd.DataFrame,
    key: str,
    both_strands: bool,
    placed: Sequence[str],
    untrained: pd.DataFrame | None,
) -> NDArray[np.int64]:
    """(n_motifs, n_controls, 4) int64: the node's seqlets that hold the motif, all of its seqlets,
    controls that hold it, all controls of each of `CONTROLS`; no controls where there are none."""
    texts_of_node = _by_node(seqlets)
    sample, of_node = _of_every_node(texts_of_node, derived_seed(key, "other nodes"))
    background = letter_frequencies(sample, both_strands)
    others = scannable(sample, both_strands)
    anywhere = encode(list(placed)) if len(placed) else None
    genome = None if anywhere is None else scannable(anywhere, both_strands)
    share_of_placed = None if anywhere is None else _gc_bins(anywhere)
    random = (
        None
        if untrained is None or untrained.empty
        else scannable(
            _of_every_node(_by_node(untrained), derived_seed(key, "untrained"))[0], both_strands
        )
    )
    counts = np.zeros((len(motifs), len(CONTROLS), 4), np.int64)
    node, mine, weight = None, None, None
    for row, count in zip(motifs.itertuples(), counts, strict=True):
        if row.node not in texts_of_node:
            continue
        if mine is None or row.node != node:
            sequences = encode(texts_of_node[row.node].tolist())
            node, mine = row.node, scannable(sequences, both_strands)
            if share_of_placed is not None:
                weight = _matched_weights(_gc_bins(sequences), share_of_placed)
        scorer = Scorer(as_matrix(row.matrix), background)
        hits = scorer.holds(scorer.own_scores(mine, row.n_sites), mine)
        count[:, :2] = hits.sum(), hits.size
        holds = scorer.holds(scorer.scores(others), others)[of_node != row.node]
        count[0, 2:] = holds.sum(), holds.size
        if genome is not None and weight is not None:
            holds = scorer.holds(scorer.scores(genome), genome)
            count[1, 2:] = round(float(weight @ holds) * holds.size), holds.size
        if random is not None:
            holds = scorer.holds(scorer.scores(random), random)
            count[2, 2:] = holds.sum(), holds.size
    return counts


def _by_node(seqlets: pd.DataFrame) -> dict[int, pd.Series]:
    """Sequences of each node, the strongest first."""
    ordered = seqlets.sort_values(["node", "rank"], kind="stable")
    return dict(iter(ordered.groupby("node", sort=True)["sequence"]))


def _of_every_node(
    texts_of_node: dict[int, pd.Series], seed: int
) -> tuple[Sequences, NDArray[np.int64]]:
    """`OTHER_NODES_SAMPLE` sequences, as many of each node, and the node of each."""
    per_node = max(1, OTHER_NODES_SAMPLE // len(texts_of_node))
    generator = np.random.default_rng(seed)
    nodes: list[int] = []
    texts: list[str] = []
    for node, rows in texts_of_node.items():
        chosen = np.sort(generator.permutation(len(rows))[:per_node])
        texts.extend(rows.iloc[chosen])
        nodes.extend([node] * len(chosen))
    return encode(texts), np.array(nodes)


_GC_BINS = 10


def _gc_bins(sequences: Sequences) -> NDArray[np.int64]:
    """Tenth of the share of G and C that each sequence is in."""
    letters, lengths = sequences  # what is beyond a sequence's end counts as A
    shares = ((letters == 1) | (letters == 2)).sum(axis=1) / np.maximum(lengths, 1)
    return np.minimum((shares * _GC_BINS).astype(np.int64), _GC_BINS - 1)


def _matched_weights(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weight of each control, summing to 1, at which controls have the composition of the seqlets;
    bins that have no control count as their share of all the others.

    >>> _matched_weights(np.array([0, 0, 1]), np.array([0, 1, 1])).round(2)
    array([0.67, 0.17, 0.17])
    """
    seqlet_counts = np.bincount(mine, minlength=_GC_BINS) / len(mine)
    control_counts = np.bincount(theirs, minlength=_GC_BINS)
    weight = (seqlet_counts / np.maximum(control_counts, 1))[theirs]
    total = float(weight.sum())
    return weight / total if total > 0 else np.full(len(theirs), 1 / len(theirs))
