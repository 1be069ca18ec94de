"""Which motifs of an SAE are more than chance: each against other nodes, the genome, and where an
untrained dictionary fires.

The controls that need more than the node's own seqlets; scores of motifs and the control of
shuffled seqlets are in `evidence.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from saeborzoi.motifs.evidence import OddsRatio, Scorer, odds_ratio
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.motifs.sequences import Sequences, encode, letter_frequencies
from saeborzoi.settings.hyperparameters import derived_seed

OTHER_NODES_SAMPLE = 5000
"""Seqlets, drawn from all nodes alike, that stand for the other nodes, or the untrained ones."""
CONTROLS = ("odds_ratio_other_nodes", "odds_ratio_genome", "odds_ratio_untrained")
"""Columns of the controls, in order."""
_UNKNOWN = OddsRatio(*[float("nan")] * 4)


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
        ratios = [(_UNKNOWN,) * len(CONTROLS)] * len(motifs)
    else:
        ratios = list(_against_controls(motifs, seqlets, key, both_strands, placed, untrained))
    for i, column in enumerate(CONTROLS):
        result[column] = [ratio[i].value for ratio in ratios]
        p = np.fmax(p, [ratio[i].p_value for ratio in ratios])
    result["fdr"] = np.nan
    known = np.isfinite(p)
    if known.any():
        result.loc[known, "fdr"] = stats.false_discovery_control(p[known])
    return result


def _against_controls(
    motifs: pd.DataFrame,
    seqlets: pd.DataFrame,
    key: str,
    both_strands: bool,
    placed: Sequence[str],
    untrained: pd.DataFrame | None,
) -> Iterator[tuple[OddsRatio, ...]]:
    """Each motif's occurrence in its node's seqlets against each of `CONTROLS`."""
    texts_of_node = _by_node(seqlets)
    sample, of_node = _of_every_node(texts_of_node, derived_seed(key, "other nodes"))
    background = letter_frequencies(sample, both_strands)
    anywhere = encode(list(placed)) if len(placed) else None
    share_of_placed = None if anywhere is None else _gc_bins(anywhere)
    random = (
        None
        if untrained is None or untrained.empty
        else _of_every_node(_by_node(untrained), derived_seed(key, "untrained"))[0]
    )
    for row in motifs.itertuples():
        if row.node not in texts_of_node:
            yield (_UNKNOWN,) * len(CONTROLS)
            continue
        scorer = Scorer(as_matrix(row.matrix), background, both_strands)
        mine = encode(texts_of_node[row.node].tolist())
        hits = scorer.holds(scorer.own_scores(mine, row.n_sites), mine)
        n_hits = int(hits.sum())

        def against(
            holds: NDArray[np.bool_], n_hits: int = n_hits, n: int = hits.size
        ) -> OddsRatio:
            return odds_ratio(n_hits, n, int(holds.sum()), holds.size) if holds.size else _UNKNOWN

        genome = _UNKNOWN
        if anywhere is not None and share_of_placed is not None:
            held = scorer.holds(scorer.scores(anywhere), anywhere)
            weight = _matched_weights(_gc_bins(mine), share_of_placed)
            n = int(held.size)
            genome = odds_ratio(n_hits, hits.size, round(float(weight @ held) * n), n)
        yield (
            against(scorer.holds(scorer.scores(sample), sample)[of_node != row.node]),
            genome,
            _UNKNOWN if random is None else against(scorer.holds(scorer.scores(random), random)),
        )


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
