"""What can be taken away, read back by other programs' readers."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from saeborzoi.browser import write_site
from saeborzoi.motifs.meme_format import MemeMotif, format_meme, read_meme
from tests.browser.made_names import HOSTILE_CHROM
from tests.browser.made_tables import KEY

pytestmark = pytest.mark.browser


def taken(page, kind: str, menu: str = "#take-away") -> str:
    page.click(f"{menu} summary")
    with page.expect_download() as download:
        page.click(f'{menu} [data-export="{kind}"]')
    assert download.value.suggested_filename.endswith(f".{kind}")
    assert download.value.suggested_filename.startswith(KEY)
    return Path(download.value.path()).read_text(encoding="utf-8")


def node_and_rank(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"node(\d+)_rank(\d+)", name)
    return int(match[1]), int(match[2])


@pytest.fixture
def nodes(site):
    """Three nodes with a matched motif, from two page files."""
    planted = sorted(site.made.planted)
    return [planted[0], planted[1], next(n for n in planted if n > 100)]


def state(nodes) -> str:
    return "selected=" + ".".join(map(str, nodes))


def test_csv_of_the_selection(opened, site, nodes):
    rows = list(csv.DictReader(io.StringIO(taken(opened(state(nodes)), "csv"))))
    assert [int(row["node"]) for row in rows] == nodes
    assert rows[0]["hyperparameters"] == KEY
    assert rows[0]["state"] == "matched"
    frequency = site.made.tables["node"].set_index("node")["frequency"]
    assert float(rows[0]["frequency"]) == pytest.approx(frequency[nodes[0]], rel=1e-3)


def test_csv_without_a_selection_is_of_the_nodes_listed(opened):
    rows = list(csv.DictReader(io.StringIO(taken(opened("state=n"), "csv"))))
    assert len(rows) == 30
    assert {row["reason"] for row in rows} == {"180 of 1000 needed non-zero positions"}


def test_bed_and_fasta_carry_the_seqlets(opened, site, nodes):
    page = opened(state(nodes))
    seqlets = site.made.tables["seqlet"].set_index(["node", "rank"])
    lines = [line.split("\t") for line in taken(page, "bed").splitlines()]
    assert len(lines) == 3 * 80
    for chrom, start, end, name, score, strand in lines:
        row = seqlets.loc[node_and_rank(name)]
        assert chrom == row["chrom"].replace(" ", "_")
        assert (int(start), int(end)) == (row["start_bp"], row["end_bp"])
        assert 0 <= int(score) <= 1000
        assert strand == "."
    assert any(line[0] == HOSTILE_CHROM.replace(" ", "_") for line in lines)
    fasta = taken(page, "fasta").splitlines()
    assert len(fasta) == 2 * 240
    for head, sequence in zip(fasta[::2], fasta[1::2], strict=True):
        assert head.startswith(">")
        name = head[1:].split()[0]
        assert sequence == seqlets.loc[node_and_rank(name), "sequence"]


def test_csv_of_seqlets(opened, site, nodes):
    rows = list(csv.DictReader(io.StringIO(taken(opened(state(nodes)), "seqlets.csv"))))
    expected = site.made.tables["seqlet"].query("node in @nodes")
    assert len(rows) == len(expected)
    assert {row["chrom"] for row in rows} == set(expected["chrom"])


def _motifs_of(tables, nodes) -> list[MemeMotif]:
    rows = tables["motif"].query("node in @nodes and is_significant")
    return [
        MemeMotif(
            f"node{row.node}_motif{row.motif}",
            row.consensus,
            np.array(list(row.matrix)),
            row.n_sites,
            row.log10_e_value,
            row.llr,
        )
        for row in rows.itertuples()
    ]


def test_meme_is_the_text_that_the_pipeline_writes_byte_for_byte(opened, site, nodes, tmp_path):
    """Strand as given, background of the site's seqlets."""
    text = taken(opened(state(nodes)), "meme")
    letters = "".join(site.made.tables["seqlet"]["sequence"])
    counts = [letters.count(letter) for letter in "ACGT"]
    background = [n / sum(counts) for n in counts]
    assert max(background) > 0.26
    expected = _motifs_of(site.made.tables, nodes)
    assert text == format_meme(expected, background, both_strands=False)
    path = tmp_path / "motifs.meme"
    path.write_text(text)
    assert [m.identifier for m in read_meme(path)] == [m.identifier for m in expected]


def test_meme_of_both_strands_and_e_values_that_no_double_holds(opened, site, nodes, tmp_path):
    e_values = itertools.cycle([-1833.698970004336, -4.3010299956639813, -0.0222763947])
    motif = site.made.tables["motif"].copy()
    motif["log10_e_value"] = [next(e_values) for _ in range(len(motif))]
    tables = {**site.made.tables, "motif": motif}
    background = (0.291, 0.2090001, 0.209, 0.2909999)
    folder = tmp_path / "site"
    write_site(tables, None, folder, {}, background=background, both_strands=True)
    chosen = sorted(site.made.planted)[:8]
    text = taken(opened(state(chosen), address=(folder / "index.html").as_uri()), "meme")
    assert text == format_meme(_motifs_of(tables, chosen), background)
    assert all(number in text for number in ("E= 2.0e-1834\n", "E= 5.0e-005\n", "strands: + -\n"))


def test_svg_stands_alone(opened, nodes):
    root = ET.fromstring(taken(opened(state(nodes)), "svg"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    paths = root.findall(".//{http://www.w3.org/2000/svg}path")
    assert len(paths) >= 6
    assert all(path.get("fill", "").startswith("#") for path in paths)
    assert not any("class" in element.attrib for element in root.iter())
    words = "".join(root.itertext())
    assert all(f"node {node}" in words for node in nodes)


def test_a_node_can_be_taken_from_its_page(opened, nodes):
    page = opened(f"node={nodes[2]}")
    text = taken(page, "bed", ".node-actions .menu")
    assert {line.split("\t")[3].split("_")[0] for line in text.splitlines()} == {f"node{nodes[2]}"}


def test_cells_that_look_like_formulas_are_text(opened, nodes):
    page = opened(f"node={nodes[0]}")
    page.fill("#note", '=HYPERLINK("x")')
    rows = list(csv.DictReader(io.StringIO(taken(page, "csv", ".node-actions .menu"))))
    assert rows[0]["note"] == '\'=HYPERLINK("x")'


def test_a_page_file_that_cannot_be_read_is_told_and_nothing_saved(opened, site, tmp_path):
    folder = shutil.copytree(site.folder, tmp_path / "site")
    (folder / "data/nodes-0000.js").unlink()
    page = opened("selected=1", address=(folder / "index.html").as_uri())
    page.click("#take-away summary")
    page.click('#take-away [data-export="bed"]')
    page.wait_for_selector("#trouble:not([hidden])")
    assert "Nothing was saved: data/nodes-0000.js could not be read" in page.inner_text("#trouble")
    opened.errors.clear()
