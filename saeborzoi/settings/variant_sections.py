"""The sections about variants: which files of them, and how their effects are explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from saeborzoi.settings.section import Name, PositiveFraction, PositiveInt, Section, UserPath


class VariantSet(Section):
    """`[[variants]]`: one set of variants whose effects the model is asked for."""

    name: Name
    path: UserPath
    """VCF (plain, gzipped or bgzipped), or a table whose header names chrom, pos, ref, alt and,
    where there is one, rsid."""
    allow_swapped: bool = False
    """true: a variant whose alternative allele is the genome's is turned; else it is refused."""
    max_allele_bp: PositiveInt = 1000
    """A variant with a longer allele is skipped, and listed."""
    controls: Name | None = None
    """Name of the set that holds matched controls of these: which nodes are met more often here."""


class Attribution(Section):
    """`[attribution]`: through which nodes a variant's effect goes."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    span_bp: PositiveInt = 2048
    """Bins that reach into so many base pairs around the variant count for a track's score; at
    least the one that holds it."""
    step_bp: PositiveInt = 1
    """Variants within a step share the model's window, and with it the gradient of the first pass;
    1: each variant is in the middle of its own."""
    n_tracks: PositiveInt = 10
    """The most moved tracks that are kept of each variant."""
    n_explained: PositiveInt = 1
    """Of those, the strongest whose effect is explained by nodes."""
    n_exact: Annotated[int, Field(ge=0, le=10**9)] = 1000
    """Variants of the largest effects of a set that are integrated between the alleles; the others
    get one gradient at the reference allele."""
    n_nodes: PositiveInt = 10
    """The strongest nodes of each variant and track that get a row."""
    n_controls: Annotated[int, Field(ge=1, le=100)] = 1
    """Neutral changes beside each variant: what any change would do."""
    control_bp: PositiveInt = 500
    """Neutral changes lie within so many base pairs, and beyond what a position sees."""
    max_gap: PositiveFraction = 0.02
    """Points of the integration are doubled while the gap is wider, as a share of the effect."""
    max_points: Annotated[int, Field(ge=8, le=4096)] = 64
    """Points at most."""
    batch_size: PositiveInt = 16
    """Sequences that the model takes at once, with gradients: bounds the memory."""
    max_p_value: PositiveFraction = 0.05
    """A variant acts through a node where so small a share of neutral changes has a node that
    carries as much."""


def require_sets(sets: Sequence[VariantSet], *, has_model: bool) -> None:
    """Refuse sets that do not go together.

    Raises
    ------
    ValueError
        Where two share a name, controls are no other set, or there is no model.
    """
    names = [each.name for each in sets]
    for each in sets:
        if names.count(each.name) > 1:
            raise ValueError(f"two [[variants]] share the name {each.name!r}; give each its own")
        if each.controls is not None and (each.controls not in names or each.controls == each.name):
            raise ValueError(
                f"variants {each.name!r}: controls = {each.controls!r} is no other set; there "
                f"are {', '.join(names)}; add a [[variants]] of that name, or remove controls"
            )
    if sets and not has_model:
        raise ValueError(
            "there are [[variants]] and no [model] that would say what they do; add a [model], "
            "or remove them"
        )
