"""The page of variants says what stands in the catalogue, and nothing of it runs as code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.browser.variant_page import variant_page
from saeborzoi.genome.fasta import Genome
from tests.browser.test_accessible import SCRIPT

LETTERS = "ACGGTTCAGTACCATTGACCATGACTCATGTTCCAGGATTACCAGGTTACCATTGCACCATTG"
MOTIF = np.array([[0.97 if letter == base else 0.01 for base in "ACGT"] for letter in "TGACTCA"])


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    (tmp_path / "g.fa").write_text(f">chr1\n{LETTERS}\n")
    return Genome(tmp_path / "g.fa")


def explained(**other: object) -> pd.DataFrame:
    at = LETTERS.index("TGACTCA") + 3
    row = {
        "variant_set": "traits", "variant": f"chr1:{at + 1}:C:T", "name": "rs<1>", "chrom": "chr1",
        "start_bp": at, "end_bp": at + 1, "ref": "C", "alt": "T", "track": "JUND", "effect": -2.0,
        "part": "node", "rank": 1, "node": 7, "target_name": "FOS", "attribution": -1.5,
        "share": 0.75, "state": "off", "activation_ref": 3.0, "activation_alt": 0.0,
        "motif_ref_bits": 13.0, "motif_alt_bits": 5.0, "p_value": 0.01, "acts_through": True,
        "method": "exact",
    }  # fmt: skip
    nothing = {"rank": 0, "node": None, "target_name": None, "state": None, "acts_through": False}
    rest = [
        {**row, **nothing, "part": part, "attribution": value, "share": value / -2}
        for part, value in (("all nodes", -1.5), ("background", -0.4), ("error", -0.1))
    ]
    return pd.DataFrame([{**row, **other}, *rest])


def test_both_alleles_with_the_motif_under_the_one_that_it_fits(genome: Genome) -> None:
    page = variant_page(
        "p", "KEY", explained(), genome, {7: MOTIF}, both_strands=True, assembly="hg38"
    )
    lines = page.split("<pre>")[1].split("</pre>")[0].split("\n")
    ref, motif, alt = lines
    assert ref.startswith("ref  ")
    plain = ref.replace("<b>", "").replace("</b>", "")
    word = motif.split()[0]
    assert plain[motif.index(word) : motif.index(word) + len(word)] == word == "TGACTCA"
    assert "<b>C</b>" in ref
    assert "<b>T</b>" in alt
    assert motif.endswith("node 7 (FOS), 13.6 bits")
    for text in (
        "JUND moves by -2", '<a href="index.html#node=7">node 7 (FOS)</a>',
        "background: layer norm", "3 → 0", "13 → 5", "75%",
        "position=chr1%3A", "1 act through a node",
    ):  # fmt: skip
        assert text in page, text


def test_a_motif_that_is_made_stands_under_the_alternative_allele(genome: Genome) -> None:
    rows = explained()
    at = LETTERS.index("TGACTCA") + 3
    lost = LETTERS[:at] + "G" + LETTERS[at + 1 :]
    (genome.path).write_text(f">chr1\n{lost}\n")
    with Genome(genome.path) as other:
        page = variant_page(
            "p", "K", rows.assign(ref="G", alt="C"), other, {7: MOTIF}, both_strands=False
        )
    lines = page.split("<pre>")[1].split("</pre>")[0].split("\n")
    assert [line.split()[0] for line in lines] == ["ref", "alt", "TGACTCA"]


def test_what_came_from_files_is_escaped_and_nothing_is_claimed(genome: Genome) -> None:
    rows = explained(acts_through=False, target_name="<script>x").assign(variant_set="<b>set")
    page = variant_page("<p>", "K<", rows, genome, {}, both_strands=True)
    for text in ("rs<1>", "<script>x", "<b>set", "<p>:", "K<"):
        assert text not in page
    assert "none beyond controls" in page
    assert "ucsc" not in page


def test_a_motif_that_fits_neither_allele_is_not_under_them(genome: Genome) -> None:
    other = np.array([[0.97 if letter == base else 0.01 for base in "ACGT"] for letter in "GGGGGG"])
    page = variant_page("p", "K", explained(), genome, {7: other}, both_strands=False)
    assert page.split("<pre>")[1].split("</pre>")[0].count("\n") == 1


def test_it_opens_in_a_browser_light_and_dark_wide_and_narrow(
    genome: Genome, tmp_path: Path, chromium: Any
) -> None:
    page = variant_page("p", "K_" * 40, explained(), genome, {7: MOTIF}, both_strands=True)
    (tmp_path / "variants.html").write_text(page)
    for theme, width in (("light", 1200), ("dark", 390)):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        opened = context.new_page()
        errors: list[str] = []
        opened.on("console", lambda message, errors=errors: errors.append(message.text))
        opened.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        opened.goto((tmp_path / "variants.html").as_uri())
        assert errors == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(f"{SCRIPT}.weakText()") == []
        assert opened.evaluate(f"{SCRIPT}.nameless()") == []
        # what the nodes carry comes first, then their sum, then what is no node's
        parts = opened.locator("table").last.locator("tbody tr td:first-child").all_inner_texts()
        assert [part.split(":")[0] for part in parts] == [
            "node 7 (FOS)", "all nodes together", "background", "error",
        ]  # fmt: skip
        rows = opened.locator("table").first.locator("tbody a")
        rows.first.click()
        assert opened.locator("h2").first.bounding_box()["y"] < 800
        context.close()


def test_a_click_orders_a_table_and_no_other_script_runs(
    genome: Genome, tmp_path: Path, chromium: Any
) -> None:
    first = explained()
    second = explained().assign(
        variant="chr1:30:G:A", start_bp=29, end_bp=30, ref="G", effect=-30.0
    )
    rows = pd.concat([first.assign(name="<img src=x onerror=fail()>"), second])
    page = variant_page("p", "K", rows, genome, {7: MOTIF}, both_strands=True)
    (tmp_path / "variants.html").write_text(page + "<script>document.title = 'run'</script>")
    opened = chromium.new_page()
    opened.goto((tmp_path / "variants.html").as_uri())
    assert opened.title() == "p: variants"
    table = opened.locator("table").first

    def effects() -> list[str]:
        return list(table.locator("tbody td:nth-child(5)").all_inner_texts())

    assert effects() == ["-30", "-2"]
    heading = table.get_by_role("button", name="effect")
    heading.click()
    assert effects() == ["-2", "-30"]
    assert table.locator("th[aria-sort=descending]").inner_text() == "effect"
    heading.press("Enter")
    assert effects() == ["-30", "-2"]
    # the parts of a variant by what they carry
    parts = opened.locator("table").nth(1)
    parts.get_by_role("button", name="carries").click()
    assert parts.locator("tbody td:nth-child(3)").all_inner_texts() == [
        "-0.1", "-0.4", "-1.5", "-1.5"
    ]  # fmt: skip
    opened.close()
