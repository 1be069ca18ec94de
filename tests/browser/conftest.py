"""A real Chromium, and a made site that its pages are opened from, as files."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from saeborzoi.browser import write_site, write_start_page
from saeborzoi.browser.labels import labels_file, write_labels
from tests.browser.made_tables import KEY, MadeSite, make

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


LABELLED = 12
"""Node that somebody has labelled."""


class Site(NamedTuple):
    """A written site and what it was made from."""

    folder: Path
    made: MadeSite

    @property
    def address(self) -> str:
        return (self.folder / "index.html").as_uri()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site of 300 nodes in every state, beside a start page."""
    root = tmp_path_factory.mktemp("browser")
    made = make(300, n_seqlets=80, folder=root / "sae")
    folder = root / "pages" / KEY
    write_site(
        made.tables,
        made.sae_artifact,
        folder,
        {"project": "made", "code_version": "0.0"},
        made.database,
        assembly="hg38",
        start_page="../index.html",
        labels=labels_file(KEY),
    )
    labelled = {"node": [LABELLED], "label": ["<i>half site</i>"], "author": ["ada"]}
    moment = pd.Timestamp("2026-01-31", tz="UTC")
    write_labels(pd.DataFrame(labelled).assign(labelled_at=moment), root / "pages", KEY)
    row = made.tables["sae"].iloc[0].to_dict()
    other = {**row, "hyperparameters": "conv1d_1_x8_k0.05_lr0.003_s0", "validation_fvu": 0.1}
    write_start_page(
        [{**row, "href": f"{KEY}/index.html", "n_nodes_with_match": 216}, other],
        root / "pages",
        "made",
        comparison="comparison.html",
    )
    return Site(folder, made)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The system's Chromium through Playwright; skips where either is absent.

    Of a module, not of the session: while it is open, an event loop runs in this thread, and other
    tests could not start theirs.
    """
    path = os.environ.get("SAEBORZOI_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not on PATH: apt-get install chromium, or set SAEBORZOI_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


def wait_until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait until an expression holds in the page. Playwright's own way evaluates text in the page,
    which the pages' content security policy forbids, as it should."""
    end = time.monotonic() + 10
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"never came true: {expression}"
        time.sleep(0.02)


def visit(page: Any, state: str) -> None:
    """Go to another state on the same page."""
    page.evaluate("state => { location.hash = state; }", state)
    if state.startswith("node="):
        heading = "Node " + state.removeprefix("node=")
        wait_until(page, "h => document.querySelector('#node h2')?.textContent === h", heading)
    else:
        page.wait_for_selector("#overview:not([hidden])")


class Opened:
    """Opens pages and remembers what went wrong in them and what they asked for."""

    def __init__(self, chromium: Any, site: Site) -> None:
        self._chromium = chromium
        self._site = site
        self._contexts: list[Any] = []
        self.errors: list[str] = []
        self.requests: list[str] = []

    def __call__(
        self,
        state: str = "",
        *,
        address: str | None = None,
        size: tuple[int, int] = (1440, 900),
        theme: str = "light",
        wait: bool = True,
        **options: Any,
    ) -> Any:
        """A page at a state of the address bar, drawn."""
        context = self._chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=theme, **options
        )
        context.set_default_timeout(10_000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto((address or self._site.address) + (f"#{state}" if state else ""))
        if wait:
            wait_until(page, "document.body.dataset.ready")
            if "node=" in state:
                page.wait_for_selector("#node .panel, #node .state-box")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def opened(chromium: Any, site: Site) -> Iterator[Opened]:
    """Opens pages; at the end no page may have met an error or asked a network for anything."""
    pages = Opened(chromium, site)
    yield pages
    pages.close()
    assert pages.errors == []
    outside = [url for url in pages.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == []
