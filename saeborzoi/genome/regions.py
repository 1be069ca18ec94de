"""Regions of the genome as people write them."""

from __future__ import annotations

import re
from typing import NamedTuple

from saeborzoi.errors import InputError

_REGION = re.compile(r"(?P<chrom>\S+):(?P<first>[0-9,]+)(?:-(?P<last>[0-9,]+))?")


class Region(NamedTuple):
    """One interval of the genome, 0-based and half-open."""

    chrom: str
    start_bp: int
    end_bp: int

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start_bp + 1:,}-{self.end_bp:,}"


def parse_region(text: str | tuple[str, int, int]) -> Region:
    """A region as genome browsers write it: counted from 1, both ends included.

    Parameters
    ----------
    text
        `"chr1:1,000,000-1,030,000"`, with or without commas; `"chr1:1,000,000"` is one base pair.
        A tuple (chrom, start_bp, end_bp) is taken as 0-based and half-open, as in the tables.

    Raises
    ------
    InputError
        Where it is no such region, or holds no base pair.

    Examples
    --------
    >>> parse_region("chr1:1,001-2,000")
    Region(chrom='chr1', start_bp=1000, end_bp=2000)
    >>> str(parse_region(("chr1", 1000, 2000)))
    'chr1:1,001-2,000'
    """
    if isinstance(text, tuple):
        region = Region(str(text[0]), int(text[1]), int(text[2]))
    else:
        match = _REGION.fullmatch(text.strip())
        if match is None:
            raise InputError(
                f"region {text!r}: needed is 'chr1:1,000,000-1,030,000' (counted from 1, both "
                "ends included), or a tuple (chrom, start_bp, end_bp), 0-based and half-open"
            )
        first = int(match["first"].replace(",", ""))
        last = first if match["last"] is None else int(match["last"].replace(",", ""))
        region = Region(match["chrom"], first - 1, last)
    if not 0 <= region.start_bp < region.end_bp:
        raise InputError(f"region {text!r} holds no base pair; fix its ends")
    return region
