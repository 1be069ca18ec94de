"""What only all motifs of an SAE together say: evidence over nodes, families of redundant nodes,
and the motifs as one database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from saeborzoi.motifs.controls import CONTROLS, across_nodes
from saeborzoi.motifs.families import motif_families
from saeborzoi.motifs.meme_format import MemeMotif, format_meme
from saeborzoi.motifs.properties import as_matrix, core_bits
from saeborzoi.settings.hyperparameters import node_key

MAX_FDR = 0.05
MIN_ODDS_RATIO = 2.0
"""Twofold odds against every control: the search fits each motif to its seqlets, which alone
gives up to 1.7 at random places of the genome."""


def fan_in_evidence(
    motifs: pd.DataFrame,
    seqlets: pd.DataFrame,
    key: str,
    *,
    both_strands: bool = False,
    placed: Sequence[str] = (),
    untrained: pd.DataFrame | None = None,
    threads: int = 1,
) -> pd.DataFrame:
    """Evidence and families of all motifs of an SAE.

    Parameters
    ----------
    motifs
        Table `motif` of the SAE: node, motif, matrix, n_sites, log10_e_value, is_significant,
        odds_ratio, enrichment_p_value.
    seqlets
        Table `seqlet` of the selected nodes: node, rank, sequence.
    key
        Partition key of the SAE.
    both_strands
        Whether a site may lie on either strand.
    placed
        Sequences of the seqlets' width from anywhere in the data, see `across_nodes`.
    untrained
        As `seqlets`, of an untrained dictionary of the layer, see `across_nodes`; None without.
    threads
        Cores to use.

    Returns
    -------
    One row a motif: node, motif, the odds ratios and fdr of `across_nodes`, is_supported
    (significant, and enriched at least twofold over every control at 5 % FDR; a control that is not
    there, as other nodes of an SAE with one, is passed over), core_bits (of the six most telling
    neighbouring columns), motif_family,
    n_family_motifs, n_family_nodes, founder_node, founder_motif, orientation, offset_bp, q_value
    as of `motif_families` for the supported ones, empty for the others.
    """
    evidence = across_nodes(motifs, seqlets, key, both_strands, placed, untrained)
    evidence["core_bits"] = [core_bits(as_matrix(matrix)) for matrix in motifs["matrix"]]
    significant = motifs["is_significant"].astype(bool).to_numpy()
    weaker = motifs["odds_ratio"].to_numpy(float)
    for control in CONTROLS:
        weaker = np.fmin(weaker, evidence[control].to_numpy(float))
    enriched = (evidence["fdr"].to_numpy() < MAX_FDR) & (weaker >= MIN_ODDS_RATIO)
    evidence["is_supported"] = significant & enriched
    supported = motifs[evidence["is_supported"].to_numpy()]
    families = motif_families(supported, threads=threads)
    return evidence.merge(families, on=["node", "motif"], how="left")


def motifs_as_meme(motifs: pd.DataFrame) -> str:
    """MEME-format text of some motifs, `n0003_1` the first motif of node 3.

    Parameters
    ----------
    motifs
        Columns node, motif, consensus, matrix, n_sites, log10_e_value, llr of table `motif`.
    """
    return format_meme(
        MemeMotif(
            f"{node_key(row.node)}_{row.motif}",
            row.consensus,
            as_matrix(row.matrix),
            row.n_sites,
            row.log10_e_value,
            row.llr,
        )
        for row in motifs.itertuples()
    )
