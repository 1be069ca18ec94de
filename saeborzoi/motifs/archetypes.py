"""Archetypes: clusters of a database's motifs that look alike, and what they are called.

A discovered motif cannot tell paralogues apart: which of thirty E-box factors fits best is decided
by a hair. What it can tell is the cluster. Vierstra's archetypes (Vierstra et al. 2020, Nature 583:
729) name theirs; motifs of any other database are clustered here by the same kind of rule
(hierarchically, by the correlation of matrices), from the matrices alone, so that the same database
has the same archetypes everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.properties import consensus

if TYPE_CHECKING:
    from saeborzoi.motifs.databases import Target

MIN_CORRELATION = 0.7
"""Mean correlation between the motifs of two clusters at which they are joined: the least at which
AP-1 (TGASTCA) and CRE (TGACGTCA), or the E-boxes CACGTG and CAGCTG, stay apart in JASPAR."""
_AT_ONCE = 512
_SITES = {
    "AP-1": "TGASTCA",
    "CRE": "TGACGTCA",
    "E-box": "CACGTG",
    "E-box CASSTG": "CASSTG",
    "E-box CAKMTG": "CAKMTG",
    "homeobox": "TAATTR",
}
"""Sites that biologists call by a name which is no factor's."""
_LETTERS = dict(
    zip("ACGTRYSWKMBDHVN", (1, 2, 4, 8, 5, 10, 6, 9, 12, 3, 14, 13, 11, 7, 15), strict=True)
)
_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")
_LEAST_STEM = 3
_VAGUE = re.compile(r"zinc finger|factors with|other|unclassified", re.IGNORECASE)


def whole_correlation(matrices: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Pearson correlation about 1/4 of every two matrices, the best over offsets and strands.

    What hangs over counts against it (the columns opposite are taken as even), unlike in
    `matching.aligned_similarity`, so that a long motif is not like each of its pieces.

    Parameters
    ----------
    matrices
        (width, 4) float64 each, rows sum to 1.

    Returns
    -------
    (n, n) float32, symmetric, 1 on the diagonal; 0 for matrices without information.
    """
    n, width = len(matrices), max(map(len, matrices))
    forward = np.zeros((n, width, 4), np.float32)
    for i, motif in enumerate(matrices):
        forward[i, : len(motif)] = np.asarray(motif) - 0.25
    size = np.sqrt((forward**2).sum((1, 2)))
    forward /= np.where(size > 0, size, 1)[:, None, None]
    # the reverse complement stands at the other end, which the offsets make up for
    reverse = np.ascontiguousarray(forward[:, ::-1, ::-1])
    best = np.zeros((n, n), np.float32)
    for first in range(0, n, _AT_ONCE):
        rows = forward[first : first + _AT_ONCE]
        for other in (forward, reverse):
            for shift in range(1 - width, width):
                mine = rows[:, max(0, shift) : width + min(0, shift)].reshape(len(rows), -1)
                theirs = other[:, max(0, -shift) : width - max(0, shift)].reshape(n, -1)
                np.maximum(
                    best[first : first + _AT_ONCE],
                    mine @ theirs.T,
                    out=best[first : first + _AT_ONCE],
                )
    best += best.T.copy()
    best /= 2
    np.fill_diagonal(best, 1)
    return best


def archetypes(targets: Sequence[Target]) -> dict[str, str]:
    """Identifier of each motif of a database to the name of its archetype.

    A motif that brings an archetype (a file of Vierstra's) keeps it; the others are joined
    hierarchically (average linkage) while the mean correlation is at least 0.7.

    An archetype is called by its site where that has a name (AP-1, CRE, E-box), by the stem that
    most of its factors share (FOX, GATA, STAT), else by the factor family of most of them (Ets),
    else by its middle motif (CTCF), the one most like the others. Of two that would be called the
    same the larger keeps the name, and the others have their middle motif behind a slash
    ("FOX/FOXH1").
    """
    named = {t.identifier: t.archetype for t in targets if t.archetype is not None}
    rest = [t for t in targets if t.archetype is None]
    if not rest:
        return named
    alike = whole_correlation([t.matrix for t in rest])
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(_joined(alike)):
        groups.setdefault(int(label), []).append(i)
    taken = set(named.values())
    for members in sorted(groups.values(), key=lambda group: (-len(group), group)):
        middle = members[int(alike[np.ix_(members, members)].sum(axis=1).argmax())]
        name = _name([rest[i] for i in members], rest[middle])
        of_middle = rest[middle].name
        for candidate in (name, f"{name}/{of_middle}", f"{name}/{rest[middle].identifier}"):
            if candidate not in taken:
                break
        taken.add(candidate)
        named.update({rest[i].identifier: candidate for i in members})
    return named


def _joined(alike: NDArray[np.float32]) -> NDArray[np.int32]:
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(alike) == 1:
        return np.zeros(1, np.int32)
    apart = squareform(np.clip(1 - alike.astype(float), 0, None), checks=False)
    tree = hierarchy.linkage(apart, "average")
    return hierarchy.fcluster(tree, 1 - MIN_CORRELATION, "distance")


def _name(members: Sequence[Target], middle: Target) -> str:
    letters = [consensus(member.matrix) for member in members]
    for name, site in _SITES.items():
        if 2 * sum(_holds(text, site) for text in letters) > len(members):
            return name
    return _stem(members) or _common_family(members) or middle.name


def _holds(letters: str, site: str) -> bool:
    """Whether a consensus holds a site on either strand: each of its letters within the site's.

    >>> _holds("NATGACTCAT", "TGASTCA"), _holds("NTGACGTCA", "TGASTCA")
    (True, False)
    """
    site_letters = [_LETTERS[letter] for letter in site]
    for strand in (letters, letters.translate(_COMPLEMENT)[::-1]):
        strand_letters = [_LETTERS[letter] for letter in strand]
        for at in range(len(strand_letters) - len(site_letters) + 1):
            if all(not a & ~b for a, b in zip(strand_letters[at:], site_letters, strict=False)):
                return True
    return False


def _stem(members: Sequence[Target]) -> str | None:
    """Longest start of a name, at least three letters, that most of the factors share."""
    if len(members) < 2:
        return None
    names = [member.name.upper().split("::")[0] for member in members]
    starts = Counter(name[:n] for name in names for n in range(_LEAST_STEM, len(name) + 1))
    shared = [start for start, n in starts.items() if 2 * n > len(names)]
    if not shared:
        return None
    stem = max(shared, key=lambda start: (len(start), start))
    # digits at the end are a member's, unless the stem is a whole name
    return stem if stem in names else stem.rstrip("-0123456789") or stem


def _common_family(members: Sequence[Target]) -> str | None:
    """Factor family of most members, without its filling words; None where it is vague."""
    counts = Counter(member.family for member in members if member.family)
    if not counts:
        return None
    family, n = max(counts.items(), key=lambda item: (item[1], item[0]))
    if 2 * n <= len(members) or len(members) < 2 or _VAGUE.search(family):
        return None
    short = re.search(r"\((\w+)\)", family)  # JASPAR's own, as NR3 of steroid receptors
    if short:
        return short.group(1)
    return re.sub(r"(-related)?( factors?)?( \{.*\})?$", "", family.split("::")[0])
