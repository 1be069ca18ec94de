"""Stages `meme_motifs` and `tomtom_matches`: files, figures, restarts, independence of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.schema import TABLE
from saeborzoi.errors import InputError, MissingProgramError
from saeborzoi.jobs import job as job_module
from saeborzoi.jobs.job import Job, StageInterrupted
from saeborzoi.motifs.discovery import MOTIF_COLUMNS, discover
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Data, Layer, Motifs, Project, ShardSet
from saeborzoi.stages import meme_motifs, tomtom_matches
from tests.motifs.engine.test_builtin import planted

WORDS = {3: "TTCTTATCTGT", 5: "CCACCAGGGGGC", 8: "TGACTCATC", 9: None}


@pytest.fixture(scope="module")
def seqlets() -> pd.DataFrame:
    parts = []
    for node, word in WORDS.items():
        texts = planted(200, 20, [(word, 0.8)] if word else [], seed=node)
        parts.append(
            pd.DataFrame(
                {
                    "node": np.int32(node),
                    "rank": np.arange(200, dtype=np.int32),
                    "chrom": "chr1",
                    "start_bp": 0,
                    "end_bp": 20,
                    "activation": np.linspace(3, 1, 200).astype(np.float32),
                    "sequence": texts,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_job(tmp_path: Path, stage: str, nodes: tuple[int, ...], **more: Any) -> Job:
    shards = ShardSet(shards=tmp_path, windows=tmp_path / "w.bed")
    motifs = more.pop("motifs", Motifs())
    settings = Settings(
        project=Project(name="test", store=tmp_path / "store"),
        data=Data(genome=tmp_path / "genome.fa"),
        layer=(Layer(name="conv1d_1", n_channels=8, bp_per_position=2, train=shards),),
        motifs=motifs,
    )
    return Job(
        job_id="j",
        stage=stage,
        settings=settings,
        layer="conv1d_1",
        hyperparameters=Hyperparameters(layer="conv1d_1"),
        nodes=nodes,
        output=tmp_path / f"{stage}.parquet",
        work=tmp_path / "work",
        **more,
    )


@pytest.fixture
def job(tmp_path: Path, seqlets: pd.DataFrame) -> Job:
    seqlets.to_parquet(tmp_path / "seqlets.parquet")
    return make_job(
        tmp_path, "meme_motifs", (3, 5, 8, 9), inputs={"seqlet": tmp_path / "seqlets.parquet"}
    )


def test_columns_are_those_of_the_catalogue() -> None:
    assert ["hyperparameters", *MOTIF_COLUMNS] == [c.name for c in TABLE["motif"].columns]


def test_both_stages_end_to_end(job: Job, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    figures = meme_motifs.run(
        job, lambda what, done, total, note="": progress.append((done, total))
    )
    motifs = pd.read_parquet(job.output)
    assert list(motifs.columns) == list(MOTIF_COLUMNS)
    assert figures["n_nodes"] == 4
    assert figures["n_nodes_with_motif"] == 3
    assert figures["engine"].startswith("builtin")
    assert figures["seconds_per_node"] > 0
    assert progress[-1] == (4, 4)
    first = motifs[motifs["motif"] == 1].set_index("node")
    assert first["is_significant"].to_dict() == {3: True, 5: True, 8: True, 9: False}
    assert (first.loc[[3, 5, 8], "enrichment_p_value"] < 1e-10).all()

    matching = make_job(tmp_path, "tomtom_matches", (3, 5, 8, 9), inputs={"motif": job.output})
    figures = tomtom_matches.run(matching)
    matches = pd.read_parquet(matching.output)
    best = matches[matches["is_significant"]].drop_duplicates("node").set_index("node")
    assert best.loc[3, "factor_family"] == "C4-GATA-related"
    assert best.loc[5, "target_name"] in ("CTCF", "CTCFL")
    assert best.loc[8, "target_class"] == "Basic leucine zipper factors (bZIP)"
    assert figures["n_nodes_with_match"] == 3
    assert figures["n_targets"] == {"JASPAR2024": 879}


def test_nodes_do_not_depend_on_batch_order_or_threads(seqlets: pd.DataFrame) -> None:
    alone = discover(seqlets[seqlets["node"] == 5])
    together = discover(seqlets.sample(frac=1, random_state=1), threads=3)
    pd.testing.assert_frame_equal(alone, together[together["node"] == 5].reset_index(drop=True))
    assert together["node"].is_monotonic_increasing


def test_an_interrupted_job_goes_on_where_it_was(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_after_two(what: str, done: int, total: int, note: str = "") -> None:
        if done == 2:
            job_module.stop_requested.set()

    try:
        with pytest.raises(StageInterrupted, match="of 4 nodes; run the same job again"):
            meme_motifs.run(job, stop_after_two)
    finally:
        job_module.stop_requested.clear()
    journal = job.work / "motifs.jsonl"
    assert not job.output.exists()
    n_done = len(journal.read_text().splitlines())
    assert 2 <= n_done < 4
    with journal.open("a") as lines:
        lines.write('{"of": "half a li')  # as a killed process leaves it

    nodes: list[int] = []
    original = meme_motifs.discover_nodes

    def counted(*arguments: Any) -> Any:
        for node in original(*arguments):
            nodes.append(node.node)
            yield node

    monkeypatch.setattr(meme_motifs, "discover_nodes", counted)
    meme_motifs.run(job)
    assert len(nodes) == 4 - n_done
    assert not journal.exists()
    resumed = pd.read_parquet(job.output)
    job.output.unlink()
    meme_motifs.run(job)
    pd.testing.assert_frame_equal(resumed, pd.read_parquet(job.output))


def test_journal_of_other_settings_is_not_taken(job: Job) -> None:
    job.work.mkdir(parents=True)
    (job.work / "motifs.jsonl").write_text('{"of": "other", "node": 3, "s": 1.0, "rows": []}\n')
    assert meme_motifs.run(job)["n_nodes_with_motif"] == 3


def test_no_node_at_all(job: Job, seqlets: pd.DataFrame) -> None:
    seqlets[:0].to_parquet(job.inputs["seqlet"])
    assert meme_motifs.run(job)["n_nodes"] == 0
    motifs = pd.read_parquet(job.output)
    assert list(motifs.columns) == list(MOTIF_COLUMNS)


def test_background_of_the_genome(tmp_path: Path, seqlets: pd.DataFrame) -> None:
    seqlets.to_parquet(tmp_path / "seqlets.parquet")
    (tmp_path / "genome.fa").write_text(">chr1 of AAAA\n" + "ACGTTTAACC\n" * 50)
    job = make_job(
        tmp_path,
        "meme_motifs",
        (3,),
        inputs={"seqlet": tmp_path / "seqlets.parquet"},
        motifs=Motifs(background="genome", n_motifs=1, strands="both"),
    )
    figures = meme_motifs.run(job)
    assert (figures["n_nodes"], figures["n_nodes_with_motif"]) == (1, 1)


def test_seqlet_that_is_not_dna_is_refused(job: Job, seqlets: pd.DataFrame) -> None:
    seqlets.assign(sequence="ACGTNNACGTAC").to_parquet(job.inputs["seqlet"])
    with pytest.raises(InputError, match="letters other than A, C, G, T"):
        meme_motifs.run(job)


def test_missing_engine_is_refused_before_work(tmp_path: Path) -> None:
    job = make_job(
        tmp_path,
        "meme_motifs",
        (3,),
        inputs={"seqlet": tmp_path / "not there"},
        motifs=Motifs(engine="meme", executable=tmp_path / "meme"),
    )
    with pytest.raises(MissingProgramError, match='engine = "builtin"'):
        meme_motifs.run(job)
    assert not job.work.exists()
