"""What a check before any work tells."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at: what, whether it is usable, and what was seen or is wrong."""

    what: str
    ok: bool
    detail: str
