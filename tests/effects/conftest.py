"""One core: these networks are too small to share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saeborzoi.demo.network import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
