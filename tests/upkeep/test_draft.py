"""`saeborzoi init`: a settings file from the files that are there."""

from __future__ import annotations

import gzip
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.errors import InputError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.cli import main
from saeborzoi_resources.upkeep.draft import draft_settings
from tests.assets.small_project import make_small_project
from tests.genome.test_public_files import GTF, RMSK


def _shards(folder: Path, n_positions: int, n_channels: int, width: int) -> None:
    folder.mkdir(parents=True)
    with h5py.File(folder / "activations_0.h5", "w") as file:
        file["x"] = np.zeros((2, n_positions, n_channels), np.float16)
    rows = [f"{row}\tchr1\t{row * width}\t{(row + 1) * width}\t0\t{row}" for row in range(2)]
    (folder / "train_seqs.bed").write_text("\t0\t1\t2\tchunk_ind\tinner_ind\n" + "\n".join(rows))


def test_borzoi_shards_need_nothing_filled_in(tmp_path: Path) -> None:
    """Widths of windows and numbers of positions tell the geometry of Borzoi's layers."""
    _shards(tmp_path / "activations" / "conv1d_4", 32768, 5, 196608)
    _shards(tmp_path / "activations_val" / "conv1d_4", 32768, 5, 196608)
    (tmp_path / "genome.fa").write_text(">chr1\nACGT\n")
    draft = draft_settings(tmp_path)
    (tmp_path / "dagster_project.toml").write_text(draft.text)
    settings = load_settings(tmp_path / "dagster_project.toml")
    layer = settings.layer[0]
    assert (layer.name, layer.n_channels, layer.bp_per_position) == ("conv1d_4", 5, 16)
    assert layer.pad_bp == 163840
    assert layer.train.windows == tmp_path / "activations" / "conv1d_4" / "train_seqs.bed"
    assert not [line for line in draft.missing if "shards" in line or "geometry" in line]


def test_the_files_of_a_project_are_told_by_their_content(tmp_path: Path) -> None:
    """Genome, annotation with its class column, motif database and both sets of shards."""
    folder = make_small_project(tmp_path / "mine").parent
    (folder / "dagster_project.toml").unlink()
    (folder / "peaks.bed").write_text("chr1\t1\t9\tp1\t800\t+\nchr1\t20\t30\tp2\t900\t+\n")
    text = draft_settings(folder).text
    document = tomllib.loads(text)
    assert document["data"]["genome"] == "genome.fa"
    assert [entry["path"] for entry in document["data"]["annotation"]] == ["marks.bed"]
    assert [entry["source"] for entry in document["data"]["motif_database"]] == ["known.meme"]
    assert document["layer"][0]["train"]["shards"] == "train"


def test_links_to_folders_are_followed_and_the_store_is_not_read(tmp_path: Path) -> None:
    """Shards lie elsewhere on a cluster; `check` unpacks the genome before there is a catalogue."""
    folder = tmp_path / "project"
    folder.mkdir()
    _shards(tmp_path / "scratch" / "conv1d_4", 32768, 5, 196608)
    (folder / "activations").symlink_to(tmp_path / "scratch")
    (folder / "again").symlink_to(folder)
    (folder / "genome.fa").write_text(">chr1\nACGT\n")
    (folder / "store" / "genome").mkdir(parents=True)
    (folder / "store" / "genome" / "unpacked.fa").write_text(">chr1\nACGTACGT\n")
    document = tomllib.loads(draft_settings(folder).text)
    assert document["data"]["genome"] == "genome.fa"
    assert [layer["train"]["shards"] for layer in document["layer"]] == ["activations/conv1d_4"]


def test_an_empty_folder_gets_lines_to_fill_in_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The draft is valid settings, so that `check` can name what is not there."""
    assert main(["init", str(tmp_path)]) == 0
    assert "missing  a genome" in capsys.readouterr().out
    load_settings(tmp_path / "dagster_project.toml")
    assert main(["init", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such folder"):
        draft_settings(tmp_path / "nowhere")


def test_what_must_be_made_ready_is_told_and_what_cannot_be_read_is_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "rmsk.txt").write_text(RMSK)
    (tmp_path / "genes.gtf").write_text(GTF)
    (tmp_path / "cut.bed.gz").write_bytes(gzip.compress(b"chr1\t1\t9\n" * 999)[:-20])
    (tmp_path / "notes.txt").write_text("chr1 looks odd\n")
    (tmp_path / "dangling.bed").symlink_to("nowhere")
    (tmp_path / "dangling.fa").symlink_to("nowhere")
    (tmp_path / "folder.bed").mkdir()
    draft = draft_settings(tmp_path)
    assert draft.unready == [
        f"{tmp_path}/cut.bed.gz: the gzip is truncated or damaged (Compressed file ended before "
        "the end-of-stream marker was reached); bring it whole (`gzip -t` tests it)",
        f"{tmp_path}/dangling.bed: cannot be read (No such file or directory); fix the path or its "
        "rights",
        *(
            f"{tmp_path}/{name}: {kind} as it is distributed; make it ready: "
            f"saeborzoi data prepare {kind} {tmp_path}/{name}"
            for name, kind in (("genes.gtf", "gencode"), ("rmsk.txt", "rmsk"))
        ),
    ]
    assert "[[data.annotation]]" not in draft.text
