"""The letters of both alleles of variants in windows, and changes that mean nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variants import keys_of

_LETTERS = frozenset("ACGT")


class Letters(NamedTuple):
    """Both alleles of variants in windows, (n, n_bp) uint8 ASCII; N beyond the chromosome's ends.

    Attributes
    ----------
    ref
        The genome.
    alt
        With the alternative allele; what follows is moved, the window's start stays.
    alt_right
        The same with what comes before moved, so that the window's end stays; `alt` itself where
        no allele changes the length.
    """

    ref: NDArray[np.uint8]
    alt: NDArray[np.uint8]
    alt_right: NDArray[np.uint8]


def allele_letters(
    genome: Genome, variants: pd.DataFrame, start_bp: NDArray[np.int64], n_bp: int
) -> Letters:
    """Letters of both alleles in windows of `n_bp` that begin at `start_bp` (n,).

    Windows must hold the variant's reference allele.
    """
    refs, alts = variants["ref"].tolist(), variants["alt"].tolist()
    longest = max((abs(len(a) - len(r)) for r, a in zip(refs, alts, strict=True)), default=0)
    wide = genome.padded(variants["chrom"].to_numpy(object), start_bp - longest, n_bp + 2 * longest)
    ref = wide[:, longest : longest + n_bp]
    alt = ref.copy()
    right = ref.copy() if longest else alt
    at = variants["start_bp"].to_numpy(np.int64) - start_bp
    is_single = np.array([len(r) == len(a) == 1 for r, a in zip(refs, alts, strict=True)], bool)
    rows = np.flatnonzero(is_single)
    letters = np.array([ord(alts[i]) for i in rows], np.uint8)
    alt[rows, at[rows]] = letters
    if right is not alt:
        right[rows, at[rows]] = letters
    for i in np.flatnonzero(~is_single):
        low = int(at[i]) + longest
        new = np.frombuffer(alts[i].encode(), np.uint8)
        whole = np.concatenate([wide[i, :low], new, wide[i, low + len(refs[i]) :]])
        alt[i] = whole[longest : longest + n_bp]
        if right is not alt:
            right[i] = whole[len(whole) - longest - n_bp : len(whole) - longest]
    return Letters(ref, alt, right)


def length_changes(variants: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) base pairs that each alternative allele is longer than the reference allele."""
    return (variants["alt"].str.len() - variants["ref"].str.len()).to_numpy(np.int64)


def neutral_changes(
    genome: Genome, variants: pd.DataFrame, n_each: int, near_bp: int, far_bp: int, seed: int
) -> pd.DataFrame:
    """Changes of the same kind at random places near each variant: what any change would do.

    Of an SNP the same letters where the neighbourhood has that letter; of what is longer the same
    number of base pairs, inserted letters in random order. Places hold A, C, G and T alone.

    Parameters
    ----------
    n_each
        Changes a variant.
    near_bp, far_bp
        Least and largest distance from the variant.
    seed
        Together with each variant's key decides its changes: they do not depend on the others.

    Returns
    -------
    DataFrame
        As `Variants.table`, with `control_of`, the variant; fewer rows where a neighbourhood has
        no place.
    """
    rows = []
    for row in variants.itertuples(index=False):
        rng = np.random.default_rng([seed, *row.variant.encode()])
        ref, alt = str(row.ref), str(row.alt)
        first = int(row.start_bp) - far_bp
        letters = genome.padded([row.chrom], np.array([first]), 2 * far_bp + len(ref))[0]
        text = letters.tobytes().decode()
        starts = [
            i
            for i in range(len(text) - len(ref) + 1)
            if near_bp <= abs(i - far_bp) and not set(text[i : i + len(ref)]) - _LETTERS
        ]
        alike = [i for i in starts if text[i : i + len(ref)] == ref]
        chosen = alike if len(ref) == 1 and len(alike) >= n_each else starts
        for i in rng.permutation(len(chosen))[:n_each].tolist():
            genome_letters = text[chosen[i] : chosen[i] + len(ref)]
            changed = _like(genome_letters, ref, alt, rng)
            rows.append(
                (
                    row.chrom,
                    first + chosen[i],
                    genome_letters,
                    changed,
                    row.kind,
                    row.variant,
                    row.line,
                )
            )
    table = pd.DataFrame(
        rows, columns=["chrom", "start_bp", "ref", "alt", "kind", "control_of", "line"]
    )
    table["start_bp"] = table["start_bp"].astype(np.int64)
    table["end_bp"] = table["start_bp"] + table["ref"].str.len().astype(np.int64)
    table["variant"] = keys_of(table["chrom"], table["start_bp"] + 1, table["ref"], table["alt"])
    return table.assign(name="", given="", is_swapped=False)


def _like(letters: str, ref: str, alt: str, rng: np.random.Generator) -> str:
    """A change of `letters` like that of ref to alt."""
    if len(ref) == len(alt):
        if letters == ref:
            return alt
        return "".join(
            a if a != t else rng.choice(sorted(_LETTERS - {t}))
            for t, a in zip(letters, alt, strict=True)
        )
    if len(alt) < len(ref):
        return letters[: len(alt)]
    return letters + "".join(rng.permutation(list(alt[len(ref) :])))
