"""The overview in a real browser: search, filters, order, map, selection, address."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.conftest import wait_until
from tests.browser.made_tables import ANNOTATION_CLASSES, FACTORS

pytestmark = pytest.mark.browser


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


def places_of(page, site, nodes) -> np.ndarray:
    """Where the map shows nodes before it is moved, (n, 2) in pixels of the page."""
    embedding = site.made.tables["node_embedding"].set_index("node")[["umap_1", "umap_2"]]
    box = page.locator("#map").bounding_box()
    low, high = embedding.min().to_numpy(), embedding.max().to_numpy()
    size = np.array([box["width"], box["height"]])
    scale = 0.92 * (size / (high - low)).min()
    from_centre = (embedding.loc[nodes].to_numpy() - (low + high) / 2) * scale * [1, -1]
    return from_centre + [box["x"], box["y"]] + size / 2


def place_of(page, site, node: int) -> list[float]:
    return places_of(page, site, [node])[0].tolist()


def lonely_node(site) -> int:
    """A placed node far from the others, which no other hides."""
    embedding = site.made.tables["node_embedding"]
    points = embedding[["umap_1", "umap_2"]].to_numpy()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return int(embedding["node"].iloc[distance.min(axis=1).argmax()])


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


def test_first_view_has_every_node_on_map_and_table(opened, site):
    page = opened()
    assert listed(page) == 300
    assert painted(page) > 1000
    assert page.locator("#legend .swatch").count() == 9
    figures = dict(
        zip(
            page.locator("#figures dt").all_inner_texts(),
            page.locator("#figures dd").all_inner_texts(),
            strict=True,
        )
    )
    assert figures["nodes"] == "300"
    assert figures["matched"] == str(len(site.made.planted))
    assert "45 of 300 nodes have no place here" in page.inner_text("#map-note")


def test_searching_a_factor_finds_its_nodes_and_ranks_best_matches_first(opened, site):
    page = opened()
    search(page, "jund")
    matches = site.made.tables["motif_match"]
    expected = set(matches.loc[matches["target_id"] == "MA0491.2", "node"])
    best = {node for node, name in site.made.planted.items() if name == "JUND"}
    assert listed(page) == len(expected)
    assert set(first_nodes(page, len(best))) == best
    assert page.locator("tr[data-node] .family", has_text="also JUND").count() > 0


def test_searching_family_class_node_and_identifier(opened, site):
    page = opened()
    matches = site.made.tables["motif_match"]
    overlaps = site.made.tables["annotation_overlap"]
    search(page, "family:ets")
    ets = matches["factor_family"].str.lower().str.contains("ets")
    assert listed(page) == matches.loc[ets, "node"].nunique()
    search(page, "class:SINE")
    enriched = overlaps[(overlaps["annotation_class"] == "SINE/Alu")]
    enriched = enriched[(enriched["odds_ratio_low"] > 1) & (enriched["n_overlapping"] > 0)]
    assert listed(page) == len(enriched)
    search(page, "node:17")
    assert first_nodes(page) == [17]
    search(page, "MA0139")
    assert listed(page) == matches.loc[matches["target_id"] == "MA0139.1", "node"].nunique()
    search(page, '"C4-GATA-related" node:99999')
    assert listed(page) == 0
    assert "No node fits" in page.inner_text("table.nodes")
    page.click("table.nodes button.link")
    assert listed(page) == 300


def test_iupac_patterns_are_found_on_both_strands(opened, site):
    page = opened()
    nodes: dict[str, set[int]] = {name: set() for name in ("GATA1", "MAX")}
    motif = site.made.tables["motif"].query("is_significant")
    for node, consensus in zip(motif["node"], motif["consensus"], strict=True):
        if consensus == "AGATAAGA":
            nodes["GATA1"].add(node)
        if consensus == "CCACGTGG":
            nodes["MAX"].add(node)
    search(page, "motif:TTATCW")  # reverse complement of WGATAA
    assert set(first_nodes(page, 99)) == nodes["GATA1"]
    search(page, "motif:CAYGTG")
    assert set(first_nodes(page, 99)) == nodes["MAX"]


def test_every_state_can_be_filtered(opened, site):
    page = opened()
    for letter, word, count in (
        ("d", "dead", 9), ("n", "not selected", 30), ("p", "not yet computed", 6),
        ("x", "no motif", 24), ("u", "motif, no match", 15), ("m", "matched", 216),
    ):  # fmt: skip
        page.select_option("#f-state", letter)
        assert listed(page) == count
        assert page.locator("tr[data-node] .badge").first.inner_text() == word
    page.select_option("#f-state", "n")
    assert "180 of 1000 needed" in page.locator("tr[data-node] .badge").first.get_attribute("title")


def test_filters_join_and_reset(opened, site):
    page = opened()
    family = next(f[3] for f in FACTORS if f[0] == "STAT3")
    page.select_option("#f-family", family)
    by_family = listed(page)
    assert by_family == sum(name == "STAT3" for name in site.made.planted.values())
    page.select_option("#f-class", f"{ANNOTATION_CLASSES[0][0]}/exon")
    assert 0 < listed(page) < by_family
    page.select_option("#f-flag", "cpg")
    assert listed(page) == 0
    page.click("#reset")
    assert listed(page) == 300
    page.select_option("#f-flag", "cpg")
    assert listed(page) == 9
    page.click("#reset")
    page.select_option("#f-cluster", "3")
    assert listed(page) == (site.made.tables["node_embedding"]["cluster"] == 3).sum()


@pytest.mark.parametrize("column", ["frequency", "seqlets", "node", "motif", "q"])
def test_columns_sort_both_ways_with_missing_last(opened, site, column):
    page = opened()
    tables = site.made.tables
    best = tables["motif_match"].sort_values(["node", "p_value"]).drop_duplicates("node")
    significant = tables["motif"].query("is_significant")
    values = {
        "frequency": tables["node"].set_index("node")["frequency"],
        "seqlets": tables["node_selection"].set_index("node")["n_seqlets"],
        "node": tables["node"].set_index("node").index.to_series(),
        "motif": significant.set_index("node")["log10_e_value"],
        "q": best.set_index("node")["q_value"],
    }[column]
    button = page.locator(f'button[data-sort="{column}"]')
    if column != "q":  # the order at the start
        button.click()
    assert (
        page.locator('th[aria-sort="ascending"]')
        .inner_text()
        .strip()
        .startswith(button.inner_text().strip()[:3])
    )
    up = values[first_nodes(page, 12)].to_numpy()
    np.testing.assert_allclose(up, np.sort(values.to_numpy())[:12], rtol=1e-2)
    button.click()
    down = values[first_nodes(page, 12)].to_numpy()
    np.testing.assert_allclose(down, np.sort(values.to_numpy())[::-1][:12], rtol=1e-2)
    page.evaluate("document.getElementById('table-box').scrollTop = 1e6")
    wait_until(page, "document.querySelector('tr[aria-rowindex=\"301\"]') !== null")
    if len(values) < 300:
        last = int(page.locator('tr[aria-rowindex="301"]').get_attribute("data-node"))
        assert last not in values.index


def test_only_rows_in_sight_exist(opened):
    page = opened()
    assert page.locator("tr[data-node]").count() < 60
    page.evaluate("document.getElementById('table-box').scrollTop = 6000")
    wait_until(page, "document.querySelectorAll('tr[aria-rowindex=\"140\"]').length === 1")
    assert page.locator("tr[data-node]").count() < 60


def test_hover_on_the_map_tells_and_a_click_opens(opened, site):
    page = opened()
    node = lonely_node(site)
    page.mouse.move(*place_of(page, site, node))
    page.wait_for_selector("#tooltip:not([hidden])")
    assert f"Node {node}" in page.inner_text("#tooltip")
    page.mouse.click(*place_of(page, site, node))
    page.wait_for_selector("#node .panel")
    assert page.inner_text("#node h2") == f"Node {node}"


def test_ctrl_click_on_the_map_selects(opened, site):
    page = opened()
    node = lonely_node(site)
    page.keyboard.down("Control")
    page.mouse.click(*place_of(page, site, node))
    page.keyboard.up("Control")
    assert f"selected={node}" in hashed(page)
    assert "1 selected" in page.inner_text("#selection-bar")


@pytest.mark.parametrize("way", ["button", "shift"])
def test_lasso_selects_what_it_encloses(opened, site, way):
    page = opened()
    embedding = site.made.tables["node_embedding"]
    cluster = embedding[embedding["cluster"] == 7]["node"].tolist()
    places = places_of(page, site, cluster)
    (x0, y0), (x1, y1) = places.min(axis=0) - 6, places.max(axis=0) + 6
    everything = places_of(page, site, embedding["node"])
    inside = embedding["node"][
        (everything > [x0, y0]).all(axis=1) & (everything < [x1, y1]).all(axis=1)
    ]
    if way == "button":
        page.click("#lasso")
    else:
        page.keyboard.down("Shift")
    page.mouse.move(x0, y0)
    page.mouse.down()
    for x, y in ((x1, y0), (x1, y1), (x0, y1)):
        page.mouse.move(x, y, steps=5)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert f"{len(inside)} selected" in page.inner_text("#selection-bar")
    page.click("#selection-bar >> text=Show only these")
    assert set(first_nodes(page, 99)) == set(inside)
    assert page.locator("tr.picked").count() == len(inside)
    page.click("#selection-bar >> text=Clear")
    assert page.locator("#selection-bar").is_hidden()


def test_selecting_in_the_table_rings_the_node_on_the_map(opened):
    page = opened()
    before = page.locator("#map").screenshot()
    page.locator("tr[data-node] input").first.check()
    assert "1 selected" in page.inner_text("#selection-bar")
    page.mouse.move(5, 5)
    painted(page)
    assert page.locator("#map").screenshot() != before


def test_pointing_at_a_row_marks_the_node_on_the_map(opened):
    page = opened()
    painted(page)
    before = page.locator("#map").screenshot()
    page.locator("tr[data-node] .name").nth(3).hover()
    painted(page)
    assert page.locator("#map").screenshot() != before


def test_map_pans_zooms_and_keeps_its_view_in_the_address(opened):
    page = opened()
    page.hover("#map")
    page.mouse.wheel(0, -600)
    wait_until(page, "location.hash.includes('map=')")
    zoomed = hashed(page)
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 90, steps=4)
    page.mouse.up()
    wait_until(page, "h => decodeURIComponent(location.hash) !== h", zoomed)
    moved = hashed(page)
    again = opened(moved.removeprefix("#"))
    assert hashed(again) == moved
    page.focus("#map")
    page.keyboard.press("0")
    wait_until(page, "!location.hash.includes('map=')")
    page.keyboard.press("+")
    wait_until(page, "location.hash.includes('map=')")


@pytest.mark.parametrize("colour", ["family", "q", "frequency", "annotation", "cluster"])
def test_every_colouring_paints_and_explains(opened, colour):
    page = opened()
    painted(page)
    before = page.locator("#map").screenshot()
    page.select_option("#colour", colour)
    painted(page)
    legend = page.inner_text("#legend")
    if colour == "family":
        assert "POU domain" in legend or "STAT" in legend
    else:
        assert page.locator("#map").screenshot() != before
    words = {"q": "−log10 q", "frequency": "fires", "annotation": "odds ratio", "cluster": ":"}
    assert words.get(colour, "") in legend
    if colour == "annotation":
        page.select_option("#colour-class", "ccre_exon_intron/intron")
        assert "intron" in page.inner_text("#legend")


def test_legend_filters(opened, site):
    page = opened()
    swatch = page.locator("#legend button.swatch").first
    family = swatch.locator(".swatch-text").inner_text()
    swatch.click()
    assert page.locator("#f-family").input_value() == family
    assert listed(page) < 300
    page.locator("#legend button.swatch").first.click()
    assert listed(page) == 300


def test_the_address_shows_the_same_view(opened):
    state = "q=CTCF&state=m&sort=-frequency&colour=cluster&selected=4-6.12"
    page = opened(state)
    assert page.input_value("#q") == "CTCF"
    assert page.locator("#f-state").input_value() == "m"
    assert page.locator("#colour").input_value() == "cluster"
    assert "4 selected" in page.inner_text("#selection-bar")
    assert page.locator('th[aria-sort="descending"]').inner_text().startswith("Fires at")


def test_nonsense_in_the_address_does_no_harm(opened):
    page = opened("state=zz&sort=-nope&colour=<b>&selected=9999999.x-3&map=a,b&cluster=q&flag=none")
    assert listed(page) == 0
    page.click("#reset")
    assert listed(page) == 300


def test_table_by_keyboard(opened):
    page = opened("sort=node")
    page.focus("#table-box")
    page.keyboard.press("ArrowDown")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    focused = "document.activeElement.dataset.node"
    assert page.evaluate(focused) == "3"
    page.keyboard.press("Space")
    assert "selected=3" in hashed(page)
    assert page.evaluate(focused) == "3"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "299"
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert int(page.evaluate(focused)) > 5
    page.keyboard.press("Enter")
    page.wait_for_selector("#node .panel, #node .state-box")
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert int(page.evaluate(focused)) > 5


def test_keys_for_search_and_help(opened):
    page = opened()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("?")
    assert not page.evaluate("document.getElementById('about').open")
    page.locator("h1").click()
    page.keyboard.press("?")
    about = page.inner_text("#about")
    for words in ("Provenance", "not yet computed", "CACGTG", "FVU, validation", "made"):
        assert words in about
    assert page.locator("#about svg polyline").count() == 4
    page.keyboard.press("Escape")
    assert not page.evaluate("document.getElementById('about').open")


def test_a_search_is_suggested(opened):
    page = opened()
    words = page.evaluate("[...document.querySelectorAll('#suggestions option')].map(o => o.value)")
    assert "CTCF" in words
    assert '"POU domain"' in words


def test_every_listed_node_can_be_selected_at_once(opened):
    page = opened("state=d&selected=20")
    everyone = page.locator("thead input")
    everyone.check()
    assert "10 selected" in page.inner_text("#selection-bar")
    page.click("#reset")
    assert everyone.evaluate("box => box.indeterminate")
    page.select_option("#f-state", "d")
    assert everyone.is_checked()
    everyone.uncheck()
    assert hashed(page) == "#state=d&selected=20"
