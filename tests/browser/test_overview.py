"""The overview in a real browser: search, filters, order, map, selection, address."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.conftest import wait_until
from tests.browser.looking import first_nodes, hashed, listed, painted, search
from tests.browser.made_names import ANNOTATION_CLASSES, FACTORS

pytestmark = pytest.mark.browser


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
    ctcf = matches[matches["target_id"] == "MA0139.1"]
    best = matches.sort_values("p_value").drop_duplicates("node")
    kin = best.loc[best["archetype"].isin(ctcf["archetype"]), "node"]
    assert set(kin) - set(ctcf["node"]), "its family has other nodes, which are found with it"
    assert listed(page) == len({*kin, *ctcf["node"]})
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
    row = site.made.tables["embedding_cluster"].set_index("cluster").loc[3]
    words = f"3: {row['name']}, {row['n_named_nodes']} of {row['n_nodes']}"
    assert page.locator("#f-cluster option[value='3']").inner_text() == words
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
