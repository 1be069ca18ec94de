"""Variants of a set that the settings name."""

from __future__ import annotations

from saeborzoi.genome.coordinates import Genome
from saeborzoi.genome.variants import Variants, read_variants
from saeborzoi.settings.variant_sections import VariantSet


def variants_of(section: VariantSet, genome: Genome) -> Variants:
    """See `saeborzoi.genome.variants.read_variants`."""
    return read_variants(
        section.path,
        genome,
        allow_swapped=section.allow_swapped,
        max_allele_bp=section.max_allele_bp,
    )
