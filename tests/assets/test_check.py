"""`saeborzoi check`: every mistake in the inputs is named before any work starts."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.errors import StoreError
from saeborzoi.files import write_folder
from saeborzoi_assets.commands.cli import main
from tests.assets.small_project import make_small_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_small_project(tmp_path / "project").parent


def _shards_missing(folder: Path) -> None:
    shutil.rmtree(folder / "train")


def _shards_empty(folder: Path) -> None:
    for file in (folder / "train").iterdir():
        file.unlink()


def _other_channels(folder: Path) -> None:
    with h5py.File(folder / "train" / "activations_1.h5", "w") as file:
        file["x"] = np.zeros((15, 520, 5), np.float16)


def _infinite(folder: Path) -> None:
    with h5py.File(folder / "train" / "activations_0.h5", "a") as file:
        file["x"][0, 0:300, 1] = np.inf


def _truncated_shard(folder: Path) -> None:
    path = folder / "train" / "activations_0.h5"
    path.write_bytes(path.read_bytes()[:5000])


def _beyond_the_chromosome(folder: Path) -> None:
    path = folder / "train_seqs.bed"
    lines = path.read_text().splitlines()
    fields = lines[3].split("\t")
    lines[3] = "\t".join([fields[0], "chr1", "59000", "61000", *fields[4:]])
    path.write_text("\n".join(lines) + "\n")


def _unknown_chromosome(folder: Path) -> None:
    path = folder / "train_seqs.bed"
    path.write_text(path.read_text().replace("\tchr1\t3200\t", "\tchr7\t3200\t"))


def _truncated_genome(folder: Path) -> None:
    packed = gzip.compress((folder / "genome.fa").read_bytes())
    (folder / "genome.fa").write_bytes(packed[: len(packed) // 2])


def _annotation_of_another_assembly(folder: Path) -> None:
    (folder / "marks.bed").write_text("1\t100\t200\t.\t.\tmark\n")


def _annotation_with_a_header(folder: Path) -> None:
    path = folder / "marks.bed"
    path.write_text("chrom\tstart\tend\tname\tstrand\tclass\n" + path.read_text())


def _annotation_beyond_the_chromosome(folder: Path) -> None:
    (folder / "marks.bed").write_text("chr1\t100\t70000\t.\t.\tmark\nchr9\t1\t2\t.\t.\tmark\n")


def _no_motif(folder: Path) -> None:
    (folder / "known.meme").write_text("MEME version 4\n\nALPHABET= ACGT\n")


def _store_is_a_file(folder: Path) -> None:
    (folder / "store").write_text("not a folder")


def _no_meme(folder: Path) -> None:
    path = folder / "dagster_project.toml"
    path.write_text(
        path.read_text().replace(
            "[motifs]", '[motifs]\nengine = "meme"\nexecutable = "absent/meme"'
        )
    )


def test_a_good_project_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", str(project), "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "all checks passed"
    assert sum(line.startswith("ok ") for line in lines) >= 8


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_shards_missing, ["train"]),
        (_shards_empty, ["train"]),
        (_other_channels, ["activations_1.h5", "channels"]),
        (_infinite, ["activations_0.h5", "channel 1"]),
        (_truncated_shard, ["activations_0.h5"]),
        (_beyond_the_chromosome, ["line 4", "reaches beyond the chromosome of 60000 bp"]),
        (_unknown_chromosome, ["chromosome 'chr7' is not in the genome, which has chr1"]),
        (_truncated_genome, ["truncated or damaged", "gzip -t"]),
        (_annotation_of_another_assembly, ["marks.bed", "none of its chromosomes (1)"]),
        (_annotation_with_a_header, ["marks.bed, line 1", "header, begin it with #"]),
        (_annotation_beyond_the_chromosome, ["marks.bed, line 1", "chr1", "of 60000 bp"]),
        (_no_motif, ["known.meme", "motif"]),
        (_store_is_a_file, ["cannot be written", "[project] store"]),
        (_no_meme, ["absent/meme", 'engine = "builtin"']),
    ],
)
def test_what_is_wrong_is_named(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    break_it: Callable[[Path], None],
    words: list[str],
) -> None:
    break_it(project)
    assert main(["--project", str(project), "check"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert failed
    for word in words:
        assert word in " ".join(failed)


def test_wrong_settings_are_told_without_a_traceback(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "dagster_project.toml"
    path.write_text(path.read_text().replace("[selection]", "[selection]\nn_topp = 3"))
    assert main(["--project", str(project), "check"]) == 2
    assert "unknown key 'selection.n_topp'; allowed there: min_nonzero" in capsys.readouterr().err


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small filesystem needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_there(full_disk: Path) -> None:
    artifact = full_disk / "artifact"
    with write_folder(artifact) as folder:
        (folder / "data").write_bytes(b"first" * 1000)
    with (
        pytest.raises(StoreError, match="the disk or the quota is full; free room there"),
        write_folder(artifact) as folder,
    ):
        (folder / "data").write_bytes(b"second" * 1_000_000)
    assert (artifact / "data").read_bytes() == b"first" * 1000
    assert [path.name for path in full_disk.iterdir()] == ["artifact"]
