"""What keeps the house in order beyond import directions, which `make lint` checks."""

from __future__ import annotations

from pathlib import Path

import saeborzoi

PACKAGE = Path(saeborzoi.__file__).parent


def test_at_most_ten_files_lie_at_the_top_of_the_package() -> None:
    """A newcomer tells science from plumbing by the rooms; a file belongs into one of them."""
    files = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(files) <= 10, files
