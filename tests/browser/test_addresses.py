"""No key of an address, and no word of a search, breaks the page: in a real Chromium."""

from __future__ import annotations

import pytest

from tests.browser.conftest import wait_until

pytestmark = pytest.mark.browser

# what every object of JavaScript has, and what is no number, or too much of one
INHERITED = (
    "__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable",
    "toString", "toLocaleString", "valueOf", "__defineGetter__", "__lookupSetter__",
)  # fmt: skip
ODD = (
    "-__proto__", "-", "--q", "NaN", "1e999", "0-99999999999999999999", "%", "%ff", "%00", "'\"<b>",
)  # fmt: skip
NAMES = (
    "node", "q", "state", "family", "class", "cluster", "flag", "show", "sort", "colour",
    "colour-class", "selected", "map",
)  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "__proto__"])
def test_any_value_of_a_key_leaves_the_page_usable(opened, name):
    page = opened()
    for value in (*INHERITED, *ODD):
        page.evaluate("hash => { location.hash = hash; }", f"{name}={value}")
        page.evaluate("() => new Promise(done => setTimeout(done, 0))")
        shown = [page.locator(f"#{part}").is_visible() for part in ("node", "overview")]
        assert sorted(shown) == [False, True], value
        assert page.locator("#trouble").is_hidden(), value
    page.evaluate("() => { location.hash = ''; }")
    wait_until(page, "document.getElementById('result-count').textContent === '300 nodes'")
    assert page.locator("tr[data-node]").count() > 5
    assert not opened.errors
    page.close()


@pytest.mark.parametrize(
    "state",
    [
        "sort=__proto__", "colour=constructor", "sort=-toString", "map=0,0,0", "map=,,",
        "map=0,0,1e300", "map=1,2,-5", "q=constructor:x", "__proto__=1", "selected=__proto__.0-2",
    ],
)  # fmt: skip
def test_an_odd_address_opens_the_page(opened, state):
    page = opened(state)
    assert page.locator("#trouble").is_hidden()
    page.click("[data-sort=node]")
    # the map still answers: home is reached from wherever the address led
    page.focus("canvas")
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert page.locator("#trouble").is_hidden()
    assert not opened.errors
    page.close()


@pytest.mark.parametrize("word", ["constructor", "valueOf", "toString", "nonsense"])
def test_a_field_that_is_none_is_searched_for_as_written(opened, word):
    page = opened()
    # field:word of an unknown field are letters like others: they stand in no name
    page.fill("#q", f"{word}:Alu")
    wait_until(page, "document.getElementById('result-count').textContent === '0 of 300 nodes'")
    page.fill("#q", "class:Alu")
    wait_until(page, "document.getElementById('result-count').textContent !== '0 of 300 nodes'")
    assert not opened.errors
    page.close()
