"""The demo: the same every time, what it says of itself is true, and the table that judges."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.demo import (
    DATA,
    judge,
    make_demo,
    precision_text,
    read_planted,
    recovery_table,
    recovery_text,
)
from saeborzoi.demo.motifs import planted_motifs
from saeborzoi.demo.network import N_CHANNELS
from saeborzoi.demo.precision import VERDICTS
from saeborzoi.errors import InputError, SettingsError
from saeborzoi.genome.coordinates import (
    Genome,
    kept_positions,
    position_intervals,
    read_bed,
    read_windows,
    require_inside,
)
from saeborzoi.jobs.job import silent
from saeborzoi.settings.load import Settings


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_the_same_every_time_over_an_older_one(demo: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    again = tmp_path / "again"
    (again / DATA).mkdir(parents=True)
    (again / DATA / "planted.tsv").write_text("of an older version")
    make_demo(again, lambda what, done, total, note="": steps.append((what, done, total)))
    assert checksums(again) == checksums(demo)
    assert {what for what, done, total in steps if done == total} == {
        "demo: genome",
        "demo: train activations",
        "demo: validation activations",
    }


def test_settings_of_another_project_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dagster_project.toml").write_text('[project]\nname = "mine"\n')
    with pytest.raises(SettingsError, match="give the demo a folder of its own"):
        make_demo(tmp_path, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["dagster_project.toml"]


def test_files_are_what_the_pipeline_reads(settings: Settings) -> None:
    layer = settings.layer[0]
    assert [h.key for h in settings.wanted()] == ["demo_conv_x8_k0.2_lr0.003_s0"]
    assert layer.seqlet_width == 26
    assert layer.validation is not None
    with Genome(settings.data.genome) as genome:
        sizes = genome.chrom_sizes
    for annotation in settings.data.annotation:
        bed = read_bed(annotation.path, annotation.class_column)
        require_inside(
            annotation.path, bed["chrom"], bed["start_bp"], bed["end_bp"], bed.index, sizes
        )
        assert bed["annotation_class"].nunique() == 3
    for shard_set in (layer.train, layer.validation):
        windows = read_windows(shard_set.windows)
        folder = ShardFolder.open(shard_set.shards, layer.n_channels)  # type: ignore[arg-type]
        assert sum(shard.n_sequences for shard in folder.shards) == len(windows)
        require_inside(
            windows.path, windows.chrom, windows.start_bp, windows.end_bp, windows.line, sizes
        )
        kept = kept_positions(windows, folder.n_positions, layer.bp_per_position, layer.pad_bp)
        n_kept = int((kept[:, 2] - kept[:, 1]).sum())
        scanned_bp = sum(sizes[chrom] for chrom in set(windows.chrom))
        assert n_kept * layer.bp_per_position == scanned_bp, "every locus once"
        assert n_kept < len(windows) * folder.n_positions * 0.75, "padding and overlaps matter"


def test_the_last_shard_is_shorter_and_numeric_order_is_not_lexical(settings: Settings) -> None:
    folder = ShardFolder.open(settings.layer[0].train.shards, None)  # type: ignore[arg-type]
    rows = [shard.n_sequences for shard in folder.shards]
    assert len(rows) > 10
    assert rows[-1] < rows[0] == max(rows)


def test_genome_is_partly_soft_masked(settings: Settings) -> None:
    letters = gzip.decompress(settings.data.genome.read_bytes())
    lower = sum(letters.count(base) for base in b"acgt")
    upper = sum(letters.count(base) for base in b"ACGT")
    assert 0.05 < lower / upper < 0.3


def test_instances_have_the_planted_motif(demo: Path, settings: Settings) -> None:
    """Letters at the instances, counted, give each matrix back."""
    planted, instances = read_planted(demo / DATA)
    assert len(planted) == 32 > N_CHANNELS, "superposition: more motifs than channels"
    matrices = {motif.target.identifier: motif.matrix for motif in planted_motifs()}
    scanned = instances[instances["chrom"] != "chr3"]
    counts = scanned["motif_id"].value_counts()
    assert counts[planted["motif_id"]].tolist() == planted["n_instances"].tolist()
    assert (counts >= 1000).all(), "or no node could pass the published selection"
    with Genome(settings.data.genome) as genome:
        for motif_id, rows in scanned.groupby("motif_id"):
            width = len(matrices[motif_id])
            letters = genome.fetch_bytes(rows["chrom"], rows["start_bp"], width)
            frequencies = np.stack([(letters == base).mean(axis=0) for base in b"ACGT"], axis=1)
            assert np.abs(frequencies - matrices[motif_id]).max() < 0.08


def test_a_taste_for_a_class_is_there(demo: Path, settings: Settings) -> None:
    planted, instances = read_planted(demo / DATA)
    beds = {a.name: read_bed(a.path, 6) for a in settings.data.annotation}
    for row in planted[planted["annotation"] != ""].itertuples():
        bed = beds[row.annotation]
        bed = bed[bed["annotation_class"] == row.annotation_class]
        own = instances[instances["motif_id"] == row.motif_id]
        inside = 0
        for chrom, part in own.groupby("chrom"):
            here = bed[bed["chrom"] == chrom].sort_values("start_bp")
            i = np.searchsorted(here["start_bp"], part["start_bp"], "right") - 1
            inside += int((part["start_bp"].to_numpy() < here["end_bp"].to_numpy()[i]).sum())
        assert 0.25 < inside / len(own) < 0.35


def test_no_two_planted_motifs_share_a_family(demo: Path) -> None:
    planted, _ = read_planted(demo / DATA)
    assert planted["family"].is_unique
    assert (planted["family"] != "").all()
    assert planted["width_bp"].between(8, 16).all()


def test_activations_answer_to_the_sequence_where_it_is_planted(
    demo: Path, settings: Settings
) -> None:
    """Shards, windows and geometry belong together: channels along a motif's mean direction are
    stronger at its instances than anywhere else."""
    layer = settings.layer[0]
    windows = read_windows(layer.train.windows)
    _, instances = read_planted(demo / DATA)
    in_third = np.flatnonzero(windows.shard == 2)  # lexical order would take shard 10 for it
    with h5py.File(layer.train.shards / "activations_2.h5") as file:
        data = np.asarray(file["activations"]).astype(np.float32)
    ranges = kept_positions(windows, data.shape[1], layer.bp_per_position, layer.pad_bp)
    ranges = ranges[np.isin(ranges[:, 0], in_third)]
    sequence = np.repeat(ranges[:, 0], ranges[:, 2] - ranges[:, 1])
    position = np.concatenate([np.arange(first, last) for _, first, last in ranges])
    x = data[windows.row[sequence], position]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    chrom, start, end = position_intervals(windows, sequence, position, 8, 8, layer.pad_bp)
    for motif_id in ("MA0139.2", "MA0113.4", "MA0083.3"):
        own = instances[(instances["motif_id"] == motif_id) & (instances["chrom"] == chrom[0])]
        middle = ((own["start_bp"] + own["end_bp"]) // 2).to_numpy()
        order = np.argsort(start)
        i = np.searchsorted(start[order], middle, "right") - 1
        inside = (i >= 0) & (middle < end[order][i])
        at = order[i[inside]]
        assert len(at) > 30
        direction = x[at[::2]].mean(axis=0)
        score = x @ direction
        assert np.median(score[at[1::2]]) > np.quantile(score, 0.97)


def test_missing_demo_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no demo there"):
        read_planted(tmp_path)


# the judge, on a table small enough to judge by eye

PLANTED = pd.DataFrame(
    {
        "motif_id": ["M1", "M2", "M3", "M4"],
        "name": ["CTCF", "GATA1", "TP53", "MYC"],
        "family": ["zinc fingers", "GATA", "p53", "bHLH"],
        "n_instances": [3, 2, 2, 2],
    }
)
INSTANCES = pd.DataFrame(
    {
        "chrom": ["chr1"] * 8,
        "start_bp": [100, 200, 300, 400, 500, 600, 700, 800],
        "end_bp": [110, 210, 310, 410, 510, 610, 710, 810],
        "motif_id": ["M1", "M1", "M1", "M2", "M2", "M3", "M3", "M4"],
    }
)


def seqlets(node: int, *starts: int) -> pd.DataFrame:
    start = np.array(starts)
    return pd.DataFrame({"node": node, "chrom": "chr1", "start_bp": start, "end_bp": start + 26})


def match(node: int, motif: int, name: str, family: str, p: float, ok: bool = True) -> dict:
    return {
        "node": node,
        "motif": motif,
        "database": "known",
        "target_id": f"id.{name}",
        "target_name": name,
        "factor_family": family,
        "p_value": p,
        "q_value": p * 10,
        "is_significant": ok,
    }


@pytest.fixture
def judged() -> pd.DataFrame:
    motifs = pd.DataFrame(
        [
            (0, 1, "CCCTC", True),
            (1, 1, "GATAA", True),
            (1, 2, "AAAAA", True),
            (2, 1, "CATG", True),
            (3, 1, "NNN", False),
        ],
        columns=["node", "motif", "consensus", "is_significant"],
    )
    matches = pd.DataFrame(
        [
            match(0, 1, "Ctcf", "other", 1e-9),
            match(1, 1, "GATA4", "GATA::bHLH", 1e-5),
            match(1, 2, "SRF", "MADS", 1e-9),
            match(2, 1, "SRF", "MADS", 1e-6),
            match(3, 1, "MYC", "bHLH", 1e-9),
        ]
    )
    all_seqlets = pd.concat(
        [
            seqlets(0, 95, 195, 395),  # mostly M1
            seqlets(1, 92, 390, 490),  # mostly M2
            seqlets(2, 595, 695, 106),  # M3; 106 misses the middle of the instance at 100
            seqlets(3, 795, 795, 795),  # M4, but no significant motif
        ],
        ignore_index=True,
    )
    return recovery_table(PLANTED, INSTANCES, all_seqlets, motifs, matches).set_index("name")


def test_node_is_chosen_by_place_and_named_by_its_first_motif(judged: pd.DataFrame) -> None:
    assert judged["node"].tolist()[:3] == [0, 1, 2]
    assert judged["n_seqlets"].tolist()[:3] == [2, 2, 2]
    assert judged["found_name"].tolist()[:3] == ["Ctcf", "GATA4", "SRF"]
    assert judged["is_right"].tolist() == [True, True, False, False]
    assert judged.loc["GATA1", "q_value"] == pytest.approx(1e-4)


def test_motif_without_a_node_is_not_recovered(judged: pd.DataFrame) -> None:
    assert judged["node"].isna()["MYC"]
    assert judged["found_name"].isna()["MYC"]
    assert np.isnan(judged["q_value"]["MYC"])


def test_text_sums_up(judged: pd.DataFrame) -> None:
    text = recovery_text(judged.reset_index())
    assert text.splitlines()[-1] == "2 of 4 planted motifs recovered and named"
    rows = {line.split()[0]: line.split() for line in text.splitlines()[2:6]}
    assert rows["GATA1"][-1] == "yes"
    assert rows["TP53"][-3:] == ["SRF", "1.0e-05", "NO"]
    assert rows["MYC"][-5:] == ["-", "-", "-", "-", "NO"]


def test_nothing_found_is_nothing_recovered() -> None:
    motifs = pd.DataFrame(columns=["node", "motif", "consensus", "is_significant"])
    matches = pd.DataFrame(columns=list(match(0, 1, "", "", 0.0)))
    table = recovery_table(PLANTED, INSTANCES, seqlets(0, 95), motifs, matches)
    assert recovery_text(table).endswith("0 of 4 planted motifs recovered and named")


def test_nodes_are_judged_by_where_they_fire() -> None:
    fired = pd.concat(
        [
            seqlets(0, 95, 195, 395),  # mostly M1
            seqlets(1, 95, 390, 590),  # one each of three
            seqlets(2, 10, 20, 795),  # mostly nothing
        ],
        ignore_index=True,
    )
    judged = judge(PLANTED, INSTANCES, fired).set_index("node")
    assert judged["verdict"].tolist() == list(VERDICTS)
    assert judged.loc[0, "motif_id"] == "M1"
    assert judged["share_one"].tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert judged.loc[1, "share_any"] == 1
    both = judged.reset_index()
    unmatched = pd.DataFrame({"node": [2], "kind": "mixed"})
    text = precision_text(both, both.iloc[1:], pd.Index([0, 2]), pd.Index([0]), unmatched)
    assert "50% of the nodes with a motif, 100% of those named, 0% of an untrained" in text
    assert "motif, but no match: 1 mixed" in text
    counts = [line.split()[-4:] for line in text.splitlines()[1:-2]]
    assert counts == [
        ["3", "2", "1", "2"],
        ["1", "1", "1", "0"],
        ["1", "0", "0", "1"],
        ["1", "1", "0", "1"],
        ["1", "1", "1", "0"],
    ]
    none = judge(PLANTED, INSTANCES, fired.iloc[:0])
    assert "none of the nodes with a motif" in precision_text(
        none, none, pd.Index([]), pd.Index([]), unmatched.iloc[:0]
    )


def test_the_repository_starts_as_the_demo() -> None:
    root = Path(__file__).parents[2] / "dagster_project.toml"
    packaged = resources.files("saeborzoi.demo").joinpath("dagster_project.toml")
    assert root.read_text() == packaged.read_text()
