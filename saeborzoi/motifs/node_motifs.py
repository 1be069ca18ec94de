"""Motifs of one node, from its seqlets to the rows of table `motif`.

How nodes are shared out to processes is in `discovery.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs import properties
from saeborzoi.motifs.engine.builtin import find_motifs
from saeborzoi.motifs.engine.copies import copy_weights
from saeborzoi.motifs.evidence import (
    NodeEvidence,
    independent_sites,
    node_evidence,
    scannable,
    shuffled_copies,
)
from saeborzoi.motifs.meme import run_program
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.sequences import Found, Sequences, encode, letter_frequencies

MIN_ODDS_RATIO_LOW = 1.5
"""Odds against shuffled seqlets, lower end of the interval, that clear a motif of few letters."""
MAX_WIDTH = 50
"""Widest motif where nothing else is asked for, MEME's default."""


def motifs_of_node(
    node: int,
    texts: Sequence[str],
    activation: NDArray[np.float64],
    options: DiscoveryOptions,
    background: NDArray[np.float64] | None,
    engine: str,
) -> list[dict[str, Any]]:
    """One node from its seqlets to the rows of its motifs.

    Parameters
    ----------
    texts, activation
        Sequences of its seqlets, and (n_seqlets,) its activation there; strongest first.
    background
        (4,) probability of A C G T; None takes that of the seqlets.
    engine
        What column `engine` says.

    Returns
    -------
    list of dict
        One a motif, keys of `discovery.MOTIF_COLUMNS`.
    """
    sequences = encode(texts)
    both = options.both_strands
    if background is None:
        background = letter_frequencies(sequences, both)
    weights = np.ones(sequences.lengths.size)
    if options.near_identical == "once":
        weights = copy_weights(sequences, both)
    if options.engine == "builtin":
        motifs = _builtin(sequences, options, background, weights)
    else:
        motifs = run_program(texts, options, background)
    if not motifs:
        return []
    own, shuffled = (scannable(each, both) for each in (sequences, shuffled_copies(sequences)))
    result = []
    for number, motif in enumerate(motifs, 1):
        n_effective = motif.n_effective_sites
        if n_effective is None:
            n_effective = independent_sites(motif.matrix, motif.n_sites, own, background, weights)
        counted = weights if n_effective < motif.n_sites else np.ones_like(weights)
        evidence = node_evidence(
            motif.matrix, motif.n_sites, own, shuffled, activation, background, counted
        )
        suspect = motif.suspect or _suspect(
            motif, n_effective, sequences, options, number, evidence
        )
        result.append(
            {
                "node": node,
                "motif": number,
                "consensus": properties.consensus(motif.matrix),
                "width_bp": len(motif.matrix),
                "n_sites": motif.n_sites,
                "n_effective_sites": n_effective,
                "llr": motif.llr,
                "log10_e_value": motif.log10_e_value,
                "is_significant": bool(
                    suspect is None and motif.log10_e_value < np.log10(options.max_e_value)
                ),
                "matrix": motif.matrix.tolist(),
                "engine": engine,
                "information_content_bits": properties.information_content(motif.matrix),
                "is_palindrome": properties.is_palindrome(motif.matrix),
                "suspect": suspect,
                **evidence._asdict(),
            }
        )
    return result


def _builtin(
    sequences: Sequences,
    options: DiscoveryOptions,
    background: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> list[Found]:
    longest = int(sequences.lengths.max())
    widest = min(options.max_width or MAX_WIDTH, longest)
    if longest < options.min_width or sequences.lengths.size < 2:
        return []
    motifs = find_motifs(
        sequences,
        background,
        n_motifs=options.n_motifs,
        min_width=options.min_width,
        max_width=max(widest, options.min_width),
        both_strands=options.strands == "both",
        max_e_value=options.max_e_value,
        min_sites=options.min_sites,
        weights=weights,
        keep_table=options.background == "genome",
    )
    return [
        Found(
            m.counts / m.n_sites, m.n_sites, m.llr, m.log_e_value / np.log(10),
            m.n_effective_sites, m.suspect,
        )
        for m in motifs
    ]  # fmt: skip


def _suspect(
    motif: Found,
    n_effective_sites: float,
    sequences: Sequences,
    options: DiscoveryOptions,
    number: int,
    evidence: NodeEvidence,
) -> str | None:
    """Why a motif is suspect although its engine did not say so.

    A motif as wide as its sequences with all of them as sites is MEME's known artefact where it
    is not the first: its sites are erased ones. Low complexity is no fault where the motif is
    clearly more frequent than in shuffled seqlets, which are as rich in its letters.
    """
    if motif.log10_e_value >= np.log10(options.max_e_value):
        return None
    lengths = sequences.lengths
    if number > 1 and properties.is_full_width(motif.matrix, motif.n_sites, lengths):
        return "composition"
    least = options.min_sites or properties.least_sites(lengths.size)
    suspect = properties.suspect(
        motif.matrix, motif.n_sites, n_effective_sites, lengths, least
    )  # fmt: skip
    if suspect is None and evidence.odds_ratio_low < MIN_ODDS_RATIO_LOW:
        return properties.simple_composition(motif.matrix)
    return suspect
