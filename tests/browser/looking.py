"""What a page shows, for tests that look at it."""

from __future__ import annotations

import numpy as np

from tests.browser.conftest import wait_until
from tests.browser.made_tables import states

BY_STATE = {state: int(np.flatnonzero(states(300) == state)[0]) for state in set(states(300))}


def listed(page) -> int:
    """Rows of the table, in sight or not."""
    return int(page.get_attribute("table.nodes", "aria-rowcount")) - 1


def first_nodes(page, n=5) -> list[int]:
    rows = page.locator("tr[data-node]")
    return [int(rows.nth(i).get_attribute("data-node")) for i in range(min(n, rows.count()))]


def search(page, words: str) -> None:
    page.fill("#q", words)
    wait_until(
        page, "q => new URLSearchParams(location.hash.slice(1)).get('q') === (q || null)", words
    )


def painted(page) -> int:
    """Pixels of the map that are not empty."""
    return page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
            const map = document.getElementById('map');
            const data = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
            let n = 0;
            for (let i = 3; i < data.length; i += 4) n += data[i] > 0;
            done(n);
        })))"""
    )


def hashed(page) -> str:
    return page.evaluate("decodeURIComponent(location.hash)")


def panel(page, name: str):
    return page.locator(f"#panel-{name}")


def facts(page, name: str) -> dict[str, str]:
    rows = panel(page, name).locator(".facts > div")
    texts = [rows.nth(i) for i in range(rows.count())]
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in texts}


def a_matched_node(site, factor: str = "CTCF") -> int:
    return next(node for node, name in site.made.planted.items() if name == factor)
