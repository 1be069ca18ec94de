"""How the motifs of a node are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple


class DiscoveryOptions(NamedTuple):
    """Engine of motif discovery and what it is told.

    Attributes
    ----------
    engine
        ``builtin``, or the program ``meme`` or ``streme``.
    executable
        The program; None looks for it on the PATH.
    n_motifs
        Motifs of a node, at most.
    min_width, max_width
        Width of a motif in bp; without `max_width` the seqlet's length, at most 50.
    strands
        Whether a site lies on the given strand or on both.
    background
        Letter frequencies of the ``seqlets`` or of the ``genome``.
    max_e_value
        Motifs below it are significant.
    min_sites
        A motif with fewer sites is suspect; None: 2 % of the node's seqlets, at least 3.
    near_identical
        Whether near-identical seqlets count ``once``, together, or ``each``.
    """

    engine: Literal["builtin", "meme", "streme"] = "builtin"
    executable: Path | None = None
    n_motifs: int = 2
    min_width: int = 8
    max_width: int | None = None
    strands: Literal["given", "both"] = "given"
    background: Literal["seqlets", "genome"] = "seqlets"
    max_e_value: float = 0.05
    min_sites: int | None = None
    near_identical: Literal["once", "each"] = "once"

    @property
    def both_strands(self) -> bool:
        """Whether a site may lie on either strand; STREME always scans both."""
        return self.strands == "both" or self.engine == "streme"
