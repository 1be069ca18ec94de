"""Text of users' files in the Markdown of Dagster's metadata: shown as it is, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable

import dagster as dg

_MEANS_SOMETHING = re.compile(r"([\\`*_\[\]<>()|!~&:#])")


def plain(text: object) -> str:
    r"""Text whose punctuation means nothing in Markdown, in one line.

    >>> print(plain("[x](javascript:y) <b>\nz"))
    \[x\]\(javascript\:y\) \<b\> z
    """
    return _MEANS_SOMETHING.sub(r"\\\1", " ".join(str(text).splitlines()))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> dg.MarkdownMetadataValue:
    """A table of plain cells."""
    head = [plain(column) for column in columns]
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def verbatim(text: str) -> dg.MarkdownMetadataValue:
    """Text as a block of its own, which nothing in it ends."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return dg.MetadataValue.md(f"{fence}\n{text}\n{fence}")
