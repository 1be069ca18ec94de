"""A node's page in a real browser: each panel, each state, keys, notes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from saeborzoi.browser import write_site
from tests.browser.conftest import LABELLED, wait_until
from tests.browser.looking import BY_STATE, a_matched_node, facts, panel
from tests.browser.made_names import FACTORS, HOSTILE_CHROM
from tests.browser.made_tables import KEY

pytestmark = pytest.mark.browser
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def test_motif_is_drawn_in_bits_on_both_strands(opened, site):
    node = a_matched_node(site, "CEBPA")
    page = opened(f"node={node}")
    motif = site.made.tables["motif"].query("node == @node and motif == 1").iloc[0]
    block = panel(page, "motif").locator(".motif").first
    assert block.locator(".consensus").inner_text() == motif["consensus"]
    assert f"{motif['n_sites']} sites" in block.locator(".motif-facts").inner_text()
    assert block.locator("svg.logo").count() == 2
    assert "1 motif that did not count" in panel(page, "motif").inner_text()
    matrix = np.array(
        motif["matrix"].tolist() if hasattr(motif["matrix"], "tolist") else motif["matrix"]
    )
    bits = 2 + (matrix * np.log2(matrix)).sum(axis=1)
    # the tallest column of the drawing is as tall as its information
    box = block.locator("svg.logo").first.evaluate(
        """svg => { const boxes = [...svg.querySelectorAll('path')].map(p => p.getBBox());
        return Math.max(...boxes.map(b => b.y + b.height)) - Math.min(...boxes.map(b => b.y)); }"""
    )
    assert box == pytest.approx(bits.max() / 2 * 96, abs=1.5)


def test_what_the_node_does_to_the_model_stands_beside_what_others_do(opened, site):
    page = opened(f"node={a_matched_node(site)}")
    text = panel(page, "effects").inner_text()
    assert "12 loci where the node is strongest" in text
    rows = panel(page, "effects").locator("tbody tr")
    liver, brain = rows.nth(0).inner_text(), rows.nth(1).inner_text()
    assert "beyond controls" in liver
    assert "-0.75" in liver.replace("−", "-")
    assert "within controls" in brain
    # an unmatched node has none in this catalogue, as a project without a model
    page = opened(f"node={BY_STATE['unmatched']}")
    assert panel(page, "effects").count() == 0


def test_known_motif_stands_under_the_query_with_its_numbers(opened, site):
    node = a_matched_node(site, "GATA1")
    page = opened(f"node={node}")
    rows = site.made.tables["motif_match"].query("node == @node").sort_values("p_value")
    blocks = panel(page, "matches").locator(".match")
    assert blocks.first.locator("b").inner_text() == "GATA1"
    first = blocks.first.inner_text()
    assert f"p\n{rows.iloc[0]['p_value']:.1e}".replace("e-0", "e-") in first
    assert "offset\n0 bp" in first
    assert "r\n0.98" in first
    assert "C4-GATA-related" in first
    drawn = blocks.first.locator("svg.alignment")
    assert "offset 0 bp, strand +" in drawn.get_attribute("aria-label")
    # the same place and width over and under: GATA1 over GATA1
    columns = drawn.evaluate("svg => svg.viewBox.baseVal.width") / 19
    assert columns == 8
    other = rows.iloc[1]
    label = blocks.nth(1).locator("svg").get_attribute("aria-label")
    assert f"offset {other['offset_bp']} bp, strand {other['orientation']}" in label
    width = len(next(f[2] for f in FACTORS if f[1] == other["target_id"]))
    expected = max(8, other["offset_bp"] + width) - min(0, other["offset_bp"])
    assert blocks.nth(1).locator("svg").evaluate("s => s.viewBox.baseVal.width") == 19 * expected


def test_histogram_has_a_bar_for_each_bin_with_positions(opened, site):
    node = a_matched_node(site)
    page = opened(f"node={node}")
    counts = site.made.tables["node"].set_index("node").loc[node, "histogram_counts"]
    bars = panel(page, "activation").locator("rect.bar-fill")
    assert bars.count() == int((np.array(counts) > 0).sum())
    heights = [float(bars.nth(i).get_attribute("height")) for i in range(bars.count())]
    assert np.argmax(heights) == np.argmax(counts)
    assert f"{counts[0]:,} positions" in bars.first.text_content()
    row = site.made.tables["node"].set_index("node").loc[node]
    assert facts(page, "activation")["positions"] == f"{row['n_nonzero']:,} of 2,000,000"


def test_seqlets_stand_in_bands_with_sequence_place_and_link(opened, site):
    node = a_matched_node(site)
    page = opened(f"node={node}")
    rows = site.made.tables["seqlet"].query("node == @node").sort_values("rank")
    bands = panel(page, "seqlets").locator(".band")
    assert bands.count() == 4
    fraction = rows["activation"] / rows["activation"].max()
    for i, (low, high) in enumerate(((0.75, 2), (0.5, 0.75), (0.25, 0.5), (0, 0.25))):
        count = int(((fraction >= low) & (fraction < high)).sum())
        assert f"{count} seqlets" in bands.nth(i).locator("h4").inner_text()
        assert bands.nth(i).locator(".seqlet").count() == min(8, count)
    bands.first.locator("button.link").click()
    shown = bands.first.locator(".seqlet")
    assert shown.count() == int((fraction >= 0.75).sum())
    for i in (0, 1, shown.count() - 1):
        row = rows.iloc[i]
        label = shown.nth(i).locator(".sequence").get_attribute("aria-label")
        sequence, _, along = label.partition("; activation from left to right: ")
        turned = row["sequence"].translate(COMPLEMENT)[::-1]
        assert sequence in (row["sequence"], turned)
        values = along.split(", ")
        values = values if sequence == row["sequence"] else values[::-1]
        assert len(values) == 3
        assert values[2] == "no position"
        assert float(values[1]) == pytest.approx(row["activation"], rel=1e-2)
        where = f"{row['chrom']}:{row['start_bp'] + 1:,}-{row['end_bp']:,}"
        assert shown.nth(i).locator(".where").inner_text() == where
        link = shown.nth(i).locator("a.where").get_attribute("href")
        assert link.startswith("https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38&position=")


def test_activation_stands_under_the_letters_that_its_position_covers(opened, site):
    """18 letters of positions of 7 bp: the middle one covers the letters 6 to 12, from 0."""
    page = opened(f"node={a_matched_node(site, 'JUND')}")
    rows = page.eval_on_selector_all(
        ".seqlet",
        """rows => rows.map(row => {
            const box = part => part.getBoundingClientRect();
            const at = part => [box(part).left, box(part).right];
            const bars = [...row.querySelectorAll(".along rect")];
            const highest = bars.reduce((a, b) =>
box(a).height > box(b).height ? a : b);
            return [row.querySelector(".strand").textContent, at(highest),
                [...row.querySelectorAll(".nt")].map(at), bars.length];
        })""",
    )
    assert {strand for strand, *_ in rows} == {"+", "−"}
    for strand, (left, right), letters, n_bars in rows:
        assert n_bars == 2
        first = 6 if strand == "+" else 18 - 13
        assert left == pytest.approx(letters[first][0], abs=1)
        assert right == pytest.approx(letters[first + 6][1], abs=1)


def test_seqlets_are_lined_up_on_the_motif(opened, site):
    """Every seqlet's highlighted part starts at the same place of the screen."""
    page = opened(f"node={a_matched_node(site, 'JUND')}")
    lefts = page.eval_on_selector_all(
        ".seqlet", "rows => rows.map(r => r.querySelector('.nt.in').getBoundingClientRect().left)"
    )
    assert len(lefts) == 32
    assert np.ptp(lefts) < 1
    planted = page.eval_on_selector_all(
        ".band:first-of-type .seqlet",
        "rows => rows.map(r => [...r.querySelectorAll('.nt.in')].map(n => n.textContent).join(''))",
    )
    assert sum(word in ("TGACTCA", "TGAGTCA") for word in planted) >= len(planted) / 4


def test_annotation_is_shown_against_the_shuffled_control(opened, site):
    node = a_matched_node(site)
    page = opened(f"node={node}")
    rows = site.made.tables["annotation_overlap"].query("node == @node")
    rows = rows.sort_values("z_shuffled", ascending=False)
    table = panel(page, "overlaps").locator("table.overlaps").first.locator("tbody tr")
    assert table.count() == 8
    first, best = table.first.inner_text(), rows.iloc[0]
    assert f"{best['n_overlapping']} / " in first
    assert table.first.locator("svg.forest").count() == 1
    up = (rows["odds_ratio_low"] > 1).sum()
    assert panel(page, "overlaps").locator(".forest.up").count() == up
    assert "4 more classes" in panel(page, "overlaps").inner_text()


def test_nearest_nodes_by_three_measures_lead_there(opened, site):
    node = a_matched_node(site, "SP1")
    page = opened(f"node={node}")
    lists = panel(page, "near").locator("ol")
    assert lists.count() == 3
    jaccard = site.made.tables["node_jaccard"].query("node_a == @node or node_b == @node")
    best = jaccard.sort_values("jaccard", ascending=False).iloc[0]
    other = int(best["node_a"] + best["node_b"] - node)
    assert lists.first.locator(".near-node").first.inner_text() == str(other)
    by_motif = lists.nth(2).locator(".near-name").all_inner_texts()
    assert sum(name.endswith(": SP1") for name in by_motif) >= len(by_motif) / 2
    lists.nth(2).locator("a").first.click()
    wait_until(page, "n => document.querySelector('#node h2').textContent !== `Node ${n}`", node)


def test_evidence(opened, site):
    node = a_matched_node(site)
    page = opened(f"node={node}")
    motif = site.made.tables["motif"].query("node == @node and motif == 1").iloc[0]
    shown = facts(page, "evidence")
    assert shown["selection"] == "passed"
    assert shown["seqlets"] == "80, 40 strong, 0 dropped"
    assert shown["odds against shuffled seqlets"].startswith(f"{motif['odds_ratio']:.3g}")
    assert shown["activation ~ motif score"].startswith("ρ = 0")


def test_arrows_walk_through_the_list_as_it_is_sorted(opened):
    page = opened("q=family%3Aets&sort=-frequency")
    nodes = page.eval_on_selector_all("tr[data-node]", "rows => rows.map(r => r.dataset.node)")
    count = int(page.get_attribute("table.nodes", "aria-rowcount")) - 1
    page.locator("tr[data-node] .name").first.click()
    page.wait_for_selector("#node .panel")
    for node in nodes[1:4]:
        page.keyboard.press("ArrowRight")
        wait_until(
            page, "n => document.querySelector('#node h2').textContent === `Node ${n}`", node
        )
    page.keyboard.press("ArrowLeft")
    wait_until(
        page, "n => document.querySelector('#node h2').textContent === `Node ${n}`", nodes[2]
    )
    assert f"3 of {count} listed" in page.inner_text(".node-actions")
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert page.input_value("#q") == "family:ets"
    page.go_back()
    page.wait_for_selector("#node:not([hidden])")
    assert page.inner_text("#node h2") == f"Node {nodes[2]}"


def test_a_link_shows_the_same_node_and_list(opened):
    page = opened("q=CTCF&node=20")
    wait_until(page, "document.querySelector('#node h2')?.textContent === 'Node 20'")
    page.click("text=← Overview")
    assert page.input_value("#q") == "CTCF"


def test_favourites_and_notes_stay_and_travel(opened, tmp_path):
    page = opened("node=20")
    page.click(".node-title .star")
    page.fill("#note", "looks like </textarea><b>SP1")
    page.reload()
    page.wait_for_selector("#note")
    assert page.input_value("#note") == "looks like </textarea><b>SP1"
    assert page.get_attribute(".node-title .star", "aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.select_option("#f-show", "favourites")
    assert page.get_attribute("table.nodes", "aria-rowcount") == "2"
    page.click("#about-button")
    with page.expect_download() as download:
        page.click("#notes-export")
    download.value.save_as(tmp_path / "notes.json")
    document = json.loads((tmp_path / "notes.json").read_text())
    assert document["hyperparameters"] == KEY
    assert document["nodes"]["20"]["favourite"] is True

    elsewhere = opened()  # another context keeps nothing of the first
    elsewhere.click("#about-button")
    elsewhere.set_input_files("#notes-file", tmp_path / "notes.json")
    wait_until(elsewhere, "document.getElementById('about').innerText.includes('notes of 1 node')")
    elsewhere.keyboard.press("Escape")
    elsewhere.select_option("#f-show", "notes")
    assert elsewhere.get_attribute("table.nodes", "aria-rowcount") == "2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ('{"format":"other"}', "holds no notes"),
        ('{"format":"saeborzoi-notes","hyperparameters":"x","nodes":{}}', "are of the SAE x"),
    ],
)
def test_a_file_that_holds_no_notes_of_this_sae_is_refused(opened, tmp_path, content, words):
    (tmp_path / "notes.json").write_text(content)
    page = opened()
    page.click("#about-button")
    page.set_input_files("#notes-file", tmp_path / "notes.json")
    wait_until(page, "w => document.getElementById('about').innerText.includes(w)", words)


def test_markup_in_names_does_nothing(opened, site):
    rows = site.made.tables["seqlet"]
    node = int(rows[(rows["chrom"] == HOSTILE_CHROM) & (rows["rank"] < 5)]["node"].iloc[0])
    page = opened(f"node={node}")
    assert HOSTILE_CHROM in panel(page, "seqlets").inner_text()
    hostile = site.made.tables["motif_match"]
    named = hostile[hostile["target_name"].str.contains("script")]["node"].iloc[0]
    other = opened(f"node={named}")
    for each in (page, other, opened("q=%3C%2Fscript%3E&class=&colour=annotation")):
        assert each.evaluate("window.hacked === undefined")
        assert each.locator("main img, main script, main b > b").count() == 0


def test_without_an_assembly_there_is_no_link(opened, site, tmp_path):
    write_site(site.made.tables, None, tmp_path / "site", {})
    node = a_matched_node(site)
    page = opened(f"node={node}", address=(tmp_path / "site/index.html").as_uri())
    assert page.locator("a.where").count() == 0
    assert page.locator("span.where").count() > 0
    assert "assembly is not known" in panel(page, "seqlets").inner_text()
    assert "not in the site; the motif stands alone" in panel(page, "matches").inner_text()


def test_bins_that_grow_with_the_activation_stand_on_a_log_axis(opened, site, tmp_path):
    node = a_matched_node(site)
    statistics = site.made.tables["node"].copy()
    edges = 0.5 * 2.0 ** np.arange(7)
    statistics["histogram_edges"] = [edges] * len(statistics)
    statistics["histogram_counts"] = [np.array([1, 10, 100, 1000, 10, 1])] * len(statistics)
    write_site({**site.made.tables, "node": statistics}, None, tmp_path / "site", {})
    page = opened(f"node={node}", address=(tmp_path / "site/index.html").as_uri())
    bars = panel(page, "activation").locator("rect.bar-fill")
    widths = [float(bars.nth(i).get_attribute("width")) for i in range(6)]
    assert np.ptp(widths) < 0.01
    heights = [float(bars.nth(i).get_attribute("height")) for i in range(6)]
    np.testing.assert_allclose(np.diff(heights[:4]), heights[1] - heights[0])
    assert "both axes log" in panel(page, "activation").locator("svg").text_content()


def test_a_node_that_failed_the_selection_shows_the_seqlets_it_has(opened, site, tmp_path):
    node, other = BY_STATE["unselected"], a_matched_node(site)
    seqlets = site.made.tables["seqlet"]
    few = seqlets[(seqlets["node"] == other) & (seqlets["rank"] < 5)].assign(node=node)
    tables = {**site.made.tables, "seqlet": pd.concat([seqlets, few])}
    write_site(tables, None, tmp_path / "site", {})
    page = opened(f"node={node}", address=(tmp_path / "site/index.html").as_uri())
    assert panel(page, "seqlets").locator(".seqlet").count() == 5
    assert "not lined up: there is no motif" in panel(page, "seqlets").inner_text()
    assert panel(page, "motif").count() == 0


def test_a_label_stands_in_title_and_table_and_is_found(opened, site):
    page = opened(f"node={LABELLED}")
    assert page.title().startswith(f"Node {LABELLED} · <i>half site</i> · ")
    label = page.locator(".node-label")
    assert label.inner_text() == "<i>half site</i> label by ada, 2026-01-31"
    page = opened("q=label:HALF")
    assert page.locator("#result-count").inner_text().startswith("1 of ")
    assert "half site" in page.locator(f"tr[data-node='{LABELLED}'] .c-match").inner_text()


def test_what_lies_around_the_seqlets(opened, site):
    page = opened(f"node={a_matched_node(site)}")
    profile = panel(page, "profile")
    assert "40 loci read on + and 40 loci read on − (dashed)" in profile.inner_text()
    paths = [each.get_attribute("d") for each in profile.locator("path").all()]
    # what no window covers is not drawn
    assert [path.count("L") for path in paths] == [3, 3]
    lines = panel(page, "seqlets").locator(".seqlet .gene")
    assert lines.first.inner_text() == "SOX<2> −1.23 kb"
    assert lines.nth(1).inner_text() == "SOX<2> +250 bp"
    rows = panel(page, "concepts").locator("tbody tr")
    assert rows.first.inner_text().split()[:3] == ["exon", "genes", "0.75"]


def test_variants_that_act_through_the_node(opened, site):
    page = opened(f"node={a_matched_node(site)}")
    rows = panel(page, "variants").locator("tbody tr")
    # the one of which it carries most first, each once
    assert rows.count() == 2
    assert rows.first.inner_text().split()[:1] == ["chr1:9:C:T"]
    assert "-4" in rows.first.inner_text().replace("−", "-")
    assert rows.nth(1).inner_text().startswith("rs<1>")
    assert "brain" in rows.nth(1).inner_text()
    assert "25 %" in rows.nth(1).inner_text()
