"""The demo's known answer: what was planted is found, and named, through the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.demo import DATA, read_planted, recovery_table
from saeborzoi.demo.recovery import seqlets_on_instances
from saeborzoi.genome.coordinates import Genome, read_bed, read_windows
from saeborzoi.jobs.job import Job
from saeborzoi.nodes.overlaps import annotation_overlaps
from saeborzoi.nodes.seqlets import make_seqlets
from saeborzoi.settings.load import Settings
from saeborzoi.stages import (
    meme_motifs,
    normalization_constants,
    tomtom_matches,
    top_activations,
    trained_sae,
)

_STAGES = {
    "normalization_constants": normalization_constants,
    "trained_sae": trained_sae,
    "top_activations": top_activations,
    "meme_motifs": meme_motifs,
    "tomtom_matches": tomtom_matches,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def seqlets(work: Path, settings: Settings) -> pd.DataFrame:
    """Seqlets of the selected nodes of the demo's SAE."""
    for_layer = run(settings, work, "normalization_constants")
    sae = run(settings, work, "trained_sae", for_layer)
    top = run(settings, work, "top_activations", for_layer, sae)
    layer = settings.layer[0]
    with Genome(settings.data.genome) as genome:
        seqlets, selection = make_seqlets(
            pd.read_parquet(top / "top_activations.parquet"),
            pd.read_parquet(top / "node_statistics.parquet").set_index("node")["n_nonzero"],
            read_windows(layer.train.windows),
            genome,
            width_bp=layer.seqlet_width,
            **layer.geometry,
            **settings.selection.model_dump(),
        )
    assert selection["selected"].sum() > 100
    return seqlets[seqlets["node"].isin(selection.loc[selection["selected"], "node"])]


def run(settings: Settings, work: Path, stage: str, *inputs: Path, suffix: str = "") -> Path:
    hyperparameters = settings.wanted()[0]
    job = Job(
        job_id=stage,
        stage=stage,
        settings=settings,
        layer=hyperparameters.layer,
        hyperparameters=None if stage == "normalization_constants" else hyperparameters,
        inputs={path.stem: path for path in inputs},
        output=work / f"{stage}{suffix}",
        work=work / f"{stage}.work",
    )
    _STAGES[stage].run(job)
    return job.output


def test_at_least_nine_in_ten_are_found_and_named(
    demo: Path, work: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    """Motifs of the node that is purest for each planted motif: the others take time and could
    only name what is named already."""
    planted, instances = read_planted(demo / DATA)
    purest = seqlets_on_instances(planted, instances, seqlets).idxmax()
    chosen = seqlets[seqlets["node"].isin(purest)]
    chosen.to_parquet(work / "seqlet.parquet")
    motifs = run(settings, work, "meme_motifs", work / "seqlet.parquet", suffix=".parquet")
    found = pd.read_parquet(motifs)
    found.to_parquet(work / "motif.parquet")
    matches = run(settings, work, "tomtom_matches", work / "motif.parquet", suffix=".parquet")
    table = recovery_table(planted, instances, chosen, found, pd.read_parquet(matches))
    assert table["is_right"].mean() >= 0.9, table[~table["is_right"]].to_string()
    assert (table.loc[table["is_right"], "q_value"] < 0.05).all()


def test_tastes_for_annotation_are_found(
    demo: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    planted, instances = read_planted(demo / DATA)
    hits = seqlets_on_instances(planted, instances, seqlets)
    layer = settings.layer[0]
    overlaps = annotation_overlaps(
        seqlets,
        {a.name: read_bed(a.path, a.class_column) for a in settings.data.annotation},
        read_windows(layer.train.windows),
        width_bp=layer.seqlet_width,
        **layer.geometry,
        **settings.overlaps.model_dump(),
    )
    best = overlaps.sort_values("z_shuffled").drop_duplicates("node", keep="last")
    best = best.set_index("node")
    right = []
    for row in planted.itertuples():
        node = hits[row.motif_id].idxmax()
        if hits.loc[node, row.motif_id] < 500:
            continue  # not recovered: nothing is known of its taste
        if row.annotation_class:
            right.append(
                best.loc[node, "annotation_class"] == row.annotation_class
                and best.loc[node, "odds_ratio_low"] > 3
            )
        else:
            right.append(best.loc[node, "odds_ratio_low"] < 1.5)
    assert len(right) >= 28
    assert np.mean(right) >= 0.9
