"""The map in a real browser: pointing, selecting, moving, colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import wait_until
from tests.browser.looking import first_nodes, hashed, listed, painted

pytestmark = pytest.mark.browser


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


def _n_of_ink(page, clip) -> int:
    """Pixels as dark as text: no node is."""
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("L")
    return int((np.asarray(picture) < 60).sum())


def test_clusters_are_labelled_at_their_middle(opened, site):
    page = opened("colour=cluster")
    painted(page)
    rows = site.made.tables["embedding_cluster"].set_index("cluster")
    row = rows.loc[rows["n_nodes"].idxmax()]
    label = f"{row['name']} {row['n_named_nodes']}/{row['n_nodes']}"
    assert label in page.locator("#map").get_attribute("aria-label")
    nodes = site.made.tables["node_embedding"].query("cluster == @row.name")["node"]
    x, y = np.median(places_of(page, site, nodes), axis=0)
    clip = {"x": x - 30, "y": y - 10, "width": 60, "height": 20}
    assert _n_of_ink(page, clip) > 50
    page.select_option("#colour", "family")
    painted(page)
    assert _n_of_ink(page, clip) == 0
    page.select_option("#colour", "cluster")
    # the legend says of each how sure it is
    tip = page.locator("#legend button.swatch").first.get_attribute("title")
    assert "of the map’s" in tip
    assert "q = " in tip


def test_a_cluster_shown_alone_says_why_it_has_no_name(opened):
    page = opened("colour=cluster&cluster=2")
    assert "nothing is commoner" in page.inner_text("#map-note")
    page.select_option("#f-cluster", "3")
    assert "q = " in page.inner_text("#map-note")


def test_legend_filters(opened, site):
    page = opened()
    swatch = page.locator("#legend button.swatch").first
    family = swatch.locator(".swatch-text").inner_text()
    swatch.click()
    assert page.locator("#f-family").input_value() == family
    assert listed(page) < 300
    page.locator("#legend button.swatch").first.click()
    assert listed(page) == 300
