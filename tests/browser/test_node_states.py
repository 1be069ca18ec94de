"""A node's page in every state of node and site: a failure never looks like a result."""

from __future__ import annotations

import shutil

import pytest

from saeborzoi.browser import write_site
from tests.browser.conftest import visit
from tests.browser.looking import BY_STATE, panel

pytestmark = pytest.mark.browser


def test_dead(opened):
    page = opened(f"node={BY_STATE['dead']}")
    assert "fires at none of the 2,000,000 positions" in page.inner_text(".state-box.dead")
    assert panel(page, "motif").count() == 0
    assert panel(page, "seqlets").count() == 0


def test_not_selected_with_its_reason(opened):
    page = opened(f"node={BY_STATE['unselected']}")
    assert "180 of 1000 needed" in page.inner_text(".state-box.unselected")
    assert panel(page, "motif").count() == 0
    assert panel(page, "activation").locator("svg").count() == 1


def test_not_yet_computed_names_the_asset(opened):
    page = opened(f"node={BY_STATE['pending']}")
    assert "not been materialized yet" in page.inner_text(".state-box.pending >> nth=0")
    assert "meme_motifs" in panel(page, "motif").inner_text()
    assert "annotation_overlaps" not in panel(page, "motif").inner_text()


def test_no_significant_motif(opened):
    page = opened(f"node={BY_STATE['no_motif']}")
    assert "none below the E-value" in page.inner_text(".state-box.nomotif")
    assert panel(page, "motif").locator(".motif .flag").first.inner_text() == "not significant"
    assert panel(page, "matches").count() == 0


def test_suspect_is_flagged(opened):
    page = opened(f"node={BY_STATE['suspect']}")
    assert "suspect: cpg" in panel(page, "motif").inner_text()
    assert "a run of CG" in panel(page, "evidence").inner_text()


def test_motif_without_a_match(opened):
    page = opened(f"node={BY_STATE['unmatched']}")
    assert page.locator(".node-title .badge").inner_text() == "motif, no match"
    assert "nothing in them is like it" in panel(page, "matches").inner_text()


def test_states_look_different(opened):
    """Each state's badge differs in colour or border from all others."""
    looks = set()
    page = opened()
    for state in ("matched", "unmatched", "no_motif", "pending", "unselected", "dead"):
        visit(page, f"node={BY_STATE[state]}")
        looks.add(
            page.eval_on_selector(
                ".node-title .badge",
                "b => { const s = getComputedStyle(b); "
                "return [s.color, s.backgroundColor, s.borderStyle].join(); }",
            )
        )
    assert len(looks) == 6


@pytest.fixture
def damaged(site, tmp_path):
    """A copy of the site, to be damaged."""
    return shutil.copytree(site.folder, tmp_path / "site")


def test_a_missing_page_file_is_a_failure_not_a_dead_node(opened, damaged):
    (damaged / "data/nodes-0001.js").rename(damaged / "data/away.js")
    page = opened("node=120", address=(damaged / "index.html").as_uri())
    words = page.inner_text(".state-box.failed")
    assert "data/nodes-0001.js could not be read" in words
    assert "says nothing about the node" in words
    (damaged / "data/away.js").rename(damaged / "data/nodes-0001.js")
    page.click(".state-box.failed button")
    page.wait_for_selector("#panel-activation")
    opened.errors.clear()  # the browser itself reports a file that is not there


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("overview.js", None, "data/overview.js could not be read"),
        ("overview.js", "", "is damaged; write the site again"),
        ("overview.js", 'saeborzoi("overview",{"manifest":{"format_version":99}});', "format 99"),
    ],
)
def test_an_unusable_overview_is_told(opened, damaged, name, content, words):
    if content is None:
        (damaged / "data" / name).unlink()
    else:
        (damaged / "data" / name).write_text(content)
    page = opened(address=(damaged / "index.html").as_uri(), wait=False)
    page.wait_for_selector("#loading .failed")
    assert words in page.inner_text("#loading")
    opened.errors.clear()


def test_a_site_without_anything_computed(opened, tmp_path):
    write_site({}, None, tmp_path / "site", {})
    page = opened(address=(tmp_path / "site/index.html").as_uri())
    assert "materialize umap_embedding" in page.inner_text("#map-empty")
    page.click("#about-button")
    assert "materialize trained_sae" in page.inner_text("#about")


def test_a_site_of_statistics_only(opened, site, tmp_path):
    tables = {name: site.made.tables[name] for name in ("sae", "node")}
    write_site(tables, None, tmp_path / "site", {})
    page = opened("node=0", address=(tmp_path / "site/index.html").as_uri())
    assert "meme_motifs" in panel(page, "motif").inner_text()
    assert "seqlets" in panel(page, "seqlets").inner_text()
    assert "annotation_overlaps" in panel(page, "overlaps").inner_text()
    for asset in ("jaccard_matrix", "trained_sae", "meme_motifs"):
        assert f"Not yet computed: {asset}" in panel(page, "near").inner_text()


def test_a_node_that_does_not_exist(opened):
    for node in ("300", "x"):
        page = opened(f"node={node}")
        assert "has nodes 0 to 299" in page.inner_text(".state-box.failed")
    page.click(".state-box.failed button")
    page.wait_for_selector("#overview:not([hidden])")
