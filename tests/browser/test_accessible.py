"""Everyone can use the pages: contrast, names, focus, phone, themes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.browser.conftest import visit, wait_until

pytestmark = pytest.mark.browser

SCRIPT = (Path(__file__).parent / "accessible.js").read_text().rstrip().removesuffix(";")
VIEWS = ("colour=annotation&selected=1-5", "node=20", *(f"node={n}" for n in (3, 5, 7, 8, 9)))


def asked(page, function: str):
    return page.evaluate(f"{SCRIPT}.{function}()")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_aa(opened, theme):
    page = opened(theme=theme)
    for view in VIEWS:
        visit(page, view)
        assert asked(page, "weakText") == []
    page.click("#about-button")
    assert asked(page, "weakText") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_of_logos_can_be_told_from_the_paper(opened, theme):
    """WCAG 1.4.11: 3 to 1 for what carries meaning in a drawing."""
    ratios = asked(opened("node=20", theme=theme), "letterContrast")
    assert len(ratios) > 10
    assert min(ratios) >= 3


def test_everything_that_acts_has_a_name(opened):
    page = opened()
    for view in VIEWS:
        visit(page, view)
        assert asked(page, "nameless") == []
    page.click("#about-button")
    assert asked(page, "nameless") == []


def test_ids_are_unique_and_headings_in_order(opened):
    page = opened()
    for view in VIEWS:
        visit(page, view)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        levels = page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4')].filter(e => e.checkVisibility())"
            ".map(e => Number(e.tagName[1]))"
        )
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_nothing_runs_over_the_side(opened):
    page = opened()
    for view in VIEWS:
        visit(page, view)
        for width in (320, 390, 768, 1024, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_a_phone_can_open_a_node(opened):
    page = opened(size=(390, 844), has_touch=True, is_mobile=True)
    row = page.locator("tr[data-node]").first
    row.scroll_into_view_if_needed()
    row.locator(".c-match").tap()
    page.wait_for_selector("#node .panel")


def test_theme_follows_the_system_until_chosen(opened):
    page = opened(theme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme-button")
    assert page.evaluate(background) != dark
    page.reload()
    wait_until(page, "document.body.dataset.ready")
    assert page.evaluate(background) != dark
    assert "light" in page.inner_text("#theme-button")
    page.click("#theme-button")
    assert page.evaluate(background) == dark


def test_focus_moves_with_the_view(opened):
    page = opened()
    page.locator("tr[data-node] a").first.click()
    page.wait_for_selector("#node .panel")
    assert page.evaluate("document.activeElement.id") == "node-title"
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert page.evaluate("document.activeElement.hasAttribute('data-node')")


def test_everything_can_be_reached_with_tab(opened):
    page = opened()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"q", "f-state", "colour", "lasso", "map", "table-box", "about-button", "TR"} <= reached


def test_start_page_compares_and_links(opened, site):
    page = opened(address=(site.folder.parent / "index.html").as_uri(), wait=False)
    page.wait_for_selector("table.saes")
    rows = page.locator("table.saes tbody tr")
    assert rows.count() == 2
    assert "pages not yet computed" in rows.nth(1).inner_text()
    page.click("table.saes button:has-text('FVU, validation')")
    assert rows.first.locator("th").inner_text().startswith("conv1d_1_x8")
    assert page.locator("table.saes td b").first.inner_text() == "0.1"
    assert asked(page, "weakText") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    assert page.locator("#comparison-link").get_attribute("href") == "comparison.html"
    assert page.locator("#comparison-link").is_visible()
    page.click("table.saes a")
    wait_until(page, "document.body.dataset.ready")
    page.click("#start-link")
    page.wait_for_selector("table.saes")
