"""An SAE as files: what a stranger opens in a genome browser or a notebook."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import saeborzoi
from saeborzoi.project import take_away
from saeborzoi_assets.cli import main
from saeborzoi_assets.commands.tracks import write_bed_rows
from tests.assets.small_project import KEY


def often(project: Path) -> list[int]:
    """The three nodes that fire most often."""
    rows = saeborzoi.open(project).sae(KEY).table("node").nlargest(3, "n_nonzero")
    return [int(node) for node in rows["node"]]


@pytest.fixture(scope="module")
def exported(made_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pybigtools", reason="tracks need the extra saeborzoi[bigwig]")
    output = tmp_path_factory.mktemp("export") / "sae"
    # with one that may never fire, which has no track
    nodes = ",".join(map(str, [*often(made_project), 0]))
    arguments = ["export", KEY, str(output), "--nodes", nodes, "--archive"]
    assert main(["--project", str(made_project), *arguments]) == 0
    return output


def test_seqlets_are_sorted_and_stranded(exported: Path, made_project: Path) -> None:
    bed = pd.read_csv(exported / take_away.BED, sep="\t", header=None)
    assert bed[0].is_monotonic_increasing
    assert all(rows.is_monotonic_increasing for _, rows in bed.groupby(0)[1])
    assert set(bed[5]) <= {"+", "-"}
    assert bed[4].between(0, 1000).all()
    sae = saeborzoi.open(made_project).sae(KEY)
    selected = sae.nodes.query("selected").index
    assert len(bed) == sae.table("seqlet")["node"].isin(selected).sum()


def test_a_label_with_quotes_stands_in_the_bed_as_it_is(tmp_path: Path) -> None:
    name = 'n0003_"half"_<b>_it\'s'
    rows = pd.DataFrame([["chr1", 10, 20, name, 1000, "+"]])
    write_bed_rows(tmp_path / "x.bed", rows)
    assert (tmp_path / "x.bed").read_text() == f"chr1\t10\t20\t{name}\t1000\t+\n"


def test_a_track_holds_the_node_s_activations(exported: Path, made_project: Path) -> None:
    import pybigtools

    sae = saeborzoi.open(made_project).sae(KEY)
    for node in often(made_project):
        statistics = sae.node(node).statistics
        path = exported / "tracks" / f"n{node:04d}.bw"
        with pybigtools.open(str(path)) as track:
            entries = [e for chrom in track.chroms() for e in track.records(chrom)]
        assert len(entries) == statistics["n_nonzero"]
        assert max(value for *_, value in entries) == pytest.approx(statistics["activation_max"])


def test_the_bigbed_holds_what_the_bed_holds(exported: Path) -> None:
    import pybigtools

    bed = pd.read_csv(exported / take_away.BED, sep="\t", header=None, dtype=str)
    with pybigtools.open(str(exported / take_away.BIGBED)) as track:
        rows = [
            [chrom, *map(str, row)]
            for chrom in sorted(track.chroms())
            for row in track.records(chrom)
        ]
    assert sorted(rows) == sorted(bed.to_numpy().tolist())


def test_the_session_and_the_archive_hold_what_there_is(exported: Path) -> None:
    session = ElementTree.parse(exported / take_away.SESSION).getroot()
    files = [str(resource.get("path")) for resource in session.iter("Resource")]
    assert take_away.BED in files
    assert all((exported / file).is_file() for file in files)
    with zipfile.ZipFile(exported.with_suffix(".zip")) as archive:
        names = set(archive.namelist())
    assert {"sae/sae/sae_weights.safetensors", f"sae/{take_away.BED}", "sae/motifs.meme"} <= names


def test_nodes_as_anndata(exported: Path, made_project: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="AnnData needs the package anndata")
    data = anndata.read_h5ad(exported / "nodes.h5ad")
    sae = saeborzoi.open(made_project).sae(KEY)
    np.testing.assert_array_equal(data.X, sae.model.decoder_weight.detach().numpy())
    assert data.obs_names[0] == "n0000"
    assert data.obsm["concept_f1"].shape == (sae.n_nodes, len(data.uns["concepts"]))


def test_a_hub_names_its_tracks(tmp_path: Path) -> None:
    take_away.write_hub(tmp_path, "hg38", "demo", {"seqlets.bb": "seqlets", "tracks/n1.bw": "n1"})
    text = (tmp_path / "hub.txt").read_text()
    assert "genome hg38" in text
    assert "type bigBed 6\nbigDataUrl seqlets.bb" in text
    assert "type bigWig\nbigDataUrl tracks/n1.bw" in text


def test_a_folder_that_is_there_is_left_alone(
    made_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(made_project), "export", KEY, str(tmp_path)]) != 0
    assert "is there already; name a folder that is not" in capsys.readouterr().err
