"""The written site: complete, honest about what is missing, and refused where tables disagree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.browser import assembly_of, write_site, write_start_page
from saeborzoi.browser.node_pages import NODES_PER_FILE
from saeborzoi.errors import InputError
from saeborzoi.nodes.bands import BANDS, SEQLETS_PER_BAND
from tests.browser.made_tables import KEY, make, states

LETTER = {
    "matched": "m",
    "dead": "d",
    "unselected": "n",
    "pending": "p",
    "no_motif": "x",
    "suspect": "x",
    "unmatched": "u",
}


def read(path: Path):
    """The document of a script of the site."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text[text.index(",") + 1 : text.rindex(");")])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(230, n_seqlets=300, folder=tmp_path_factory.mktemp("sae"))


@pytest.fixture(scope="module")
def site(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / KEY
    figures = write_site(
        made.tables, made.sae_artifact, folder, {"made_at": pd.Timestamp(0)}, made.database
    )
    return folder, figures


def test_every_node_has_its_state(site):
    overview = read(site[0] / "data/overview.js")
    assert overview["states"] == "".join(LETTER[state] for state in states(230))


def test_figures_are_what_lies_there(site):
    folder, figures = site
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert figures.n_files == len(files)
    assert figures.n_bytes == sum(path.stat().st_size for path in files)
    assert sum(figures.nodes_by_state.values()) == figures.n_nodes == 230
    assert figures.index_html.is_file()
    assert {path.name for path in (folder / "data").iterdir()} == {
        "overview.js", "targets.js", "nodes-0000.js", "nodes-0001.js", "nodes-0002.js",
    }  # fmt: skip


def test_manifest_says_what_and_how(site):
    manifest = json.loads((site[0] / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["hyperparameters"] == KEY
    assert manifest["provenance"] == {"made_at": "1970-01-01 00:00:00"}
    assert manifest["rows"]["node"] == 230


def test_seqlets_of_each_band_are_its_strongest(made, site):
    node = int(next(n for n in made.planted if n > NODES_PER_FILE))
    page_file = read(site[0] / f"data/nodes-{node // NODES_PER_FILE:04d}.js")
    page = page_file["nodes"][node - page_file["first"]]["seqlets"]
    rows = made.tables["seqlet"].query("node == @node").sort_values("rank")
    fraction = rows["activation"] / rows["activation"].max()
    expected = []
    for i, low in enumerate(BANDS):
        high = BANDS[i - 1] if i else np.inf
        band = rows[(fraction >= low) & (fraction < high)]
        assert page["in_band"][i] == len(band)
        expected += band.head(SEQLETS_PER_BAND)[["rank", "start_bp"]].to_numpy().tolist()
    ranks = np.cumsum(page["rank"]).tolist()
    assert [list(pair) for pair in zip(ranks, page["start"], strict=True)] == expected


def test_nothing_but_files_of_its_own_is_referred_to(site):
    for path in site[0].rglob("*"):
        if path.suffix in (".html", ".css"):
            text = path.read_text()
            assert "http:" not in text.replace("http-equiv", "")
            assert "https:" not in text
            assert "@import" not in text


def test_missing_tables_are_not_yet_computed(tmp_path, made):
    tables = {name: made.tables[name] for name in ("sae", "node")}
    write_site(tables, None, tmp_path / "site", {})
    overview = read(tmp_path / "site/data/overview.js")
    assert set(overview["states"]) == {"d", "p"}
    assert overview["manifest"]["computed"]["motif"] is False
    assert overview["manifest"]["computed"]["node"] is True


def test_a_project_without_anything_gets_a_site(tmp_path):
    figures = write_site({}, None, tmp_path / "site", {})
    assert figures.n_nodes == 0
    assert (tmp_path / "site/index.html").is_file()


def test_a_search_that_found_nothing_is_not_pending(tmp_path, made):
    """The motif asset ran for node 1 and made no rows: no motif, not "not yet computed"."""
    tables = dict(made.tables)
    tables["motif"] = tables["motif"].query("node != 1")
    tables["motif_match"] = tables["motif_match"].query("node != 1")
    done = pd.DataFrame({"asset": ["meme_motifs"], "node": [1]})
    tables["materialization"] = done
    write_site(tables, None, tmp_path / "site", {})
    assert read(tmp_path / "site/data/overview.js")["states"][1] == "x"
    page = read(tmp_path / "site/data/nodes-0000.js")["nodes"][1]
    assert page["motifs"] == []


def test_tables_without_the_key_column_serve_too(tmp_path, made):
    tables = {
        name: table.drop(columns="hyperparameters", errors="ignore")
        for name, table in made.tables.items()
    }
    assert write_site(tables, None, tmp_path / "site", {}).n_nodes == 230


def test_a_new_site_replaces_the_old_one_whole(tmp_path):
    write_site(make(230, n_seqlets=4).tables, None, tmp_path / "site", {})
    write_site(make(40, n_seqlets=4).tables, None, tmp_path / "site", {})
    assert [path.name for path in sorted((tmp_path / "site/data").glob("nodes-*"))] == [
        "nodes-0000.js"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "motif": t["motif"].drop(columns="llr")}, "motif has no column 'llr'"),
        (
            lambda t: {**t, "node": t["node"].assign(hyperparameters="other")},
            "hold 2 SAEs.*filter each table",
        ),
        (
            lambda t: {**t, "sae": t["sae"].assign(n_nodes=10)},
            "node 229, but the SAE has 10 nodes.*again",
        ),
        (
            lambda t: {**t, "node": t["node"].assign(node=t["node"]["node"] - 1)},
            "node -1; nodes count from 0",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, made, change, message):
    with pytest.raises(InputError, match=message):
        write_site(change(made.tables), None, tmp_path / "site", {})
    assert not (tmp_path / "site").exists()


def test_assembly_is_told_by_the_file_name_or_not_at_all():
    assert assembly_of(Path("genome/hg38.chr1_10M.fa.gz")) == "hg38"
    assert assembly_of("demo.fa") is None


def test_start_page_carries_every_sae(tmp_path):
    rows = [
        {"hyperparameters": KEY, "n_nodes": 4, "fvu": float("nan"), "href": f"{KEY}/index.html"},
        {"hyperparameters": "</script>", "n_nodes": 8, "fvu": 0.5, "artifact": "/somewhere"},
    ]
    assert write_start_page(rows, tmp_path, "demo").name == "index.html"
    document = read(tmp_path / "start-data.js")
    assert [row["hyperparameters"] for row in document["saes"]] == [KEY, "</script>"]
    assert document["saes"][0]["fvu"] is None
    assert "/somewhere" not in (tmp_path / "start-data.js").read_text()
