"""Scores of nodes against classes equal brute force, and find what was planted."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.catalog.schema import TABLE
from saeborzoi.genome.coordinates import Windows, kept_positions
from saeborzoi.nodes import concept_elements, concept_passes
from saeborzoi.nodes.concept_elements import concepts_of, elements_on_positions
from saeborzoi.nodes.concepts import (
    BEST_COLUMNS,
    SCORE_COLUMNS,
    ConceptData,
    ConceptScores,
    concept_scores,
    is_found,
)

N_POSITIONS, BP, PAD, N_NODES = 300, 4, 8, 6
CORE_BP = N_POSITIONS * BP - 2 * PAD


def windows(*starts: int, reverse: bool = False) -> Windows:
    n = len(starts)
    return Windows(
        path=Path("w.bed"),
        chrom=np.full(n, "chr1", object),
        start_bp=np.array(starts),
        end_bp=np.array(starts) + CORE_BP,
        shard=np.zeros(n, np.int64),
        row=np.arange(n),
        line=np.arange(n),
        is_reverse=np.full(n, True) if reverse else None,
    )


def annotation(rows: list[tuple[int, int, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["start_bp", "end_bp", "annotation_class"])
    return frame.assign(chrom="chr1")


def active(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each channel is a node: what is above 0 is active."""
    raw = np.asarray(raw, np.float32)
    node = np.argsort(~(raw > 0), axis=1, kind="stable").astype(np.int32)
    value = np.take_along_axis(raw, node, 1)
    return value, node, (raw > 0).sum(1).astype(np.int32)


class Made:
    """Windows with values of `N_NODES` nodes, and elements of two classes."""

    def __init__(self, folder: Path, seed: int, starts: tuple[int, ...], reverse: bool) -> None:
        rng = np.random.default_rng(seed)
        self.windows = windows(*starts, reverse=reverse)
        self.values = np.where(
            rng.random((len(starts), N_POSITIONS, N_NODES)) < 0.15,
            rng.exponential(size=(len(starts), N_POSITIONS, N_NODES)),
            0,
        ).astype(np.float32)
        begin = rng.integers(0, 5000, 60)
        self.bed = annotation(
            [
                (int(b), int(b + rng.integers(1, 90)), kind)
                for b, kind in zip(begin, rng.choice(["exon", "Alu"], 60), strict=True)
            ]
        )
        ranges = kept_positions(self.windows, N_POSITIONS, BP, PAD)
        self.ranges = ranges
        inside = self.inside()
        for row, _, _ in ranges:  # node 2 detects exons
            mine = inside["exon"][row]
            self.values[row, :, 2] = np.where(mine & (rng.random(N_POSITIONS) < 0.5), 3, 0)
        folder.mkdir()
        with h5py.File(folder / "activations_0.h5", "w") as file:
            file["a"] = self.values
        pieces = np.array([(0, s, a, b, s) for s, a, b in ranges])
        self.plan = SlabPlan(ShardFolder.open(folder), pieces)

    def inside(self) -> dict[str, np.ndarray]:
        """(n_windows, N_POSITIONS) bool of each class, base by base."""
        classes = {}
        for kind, rows in self.bed.groupby("annotation_class"):
            bases = np.zeros(20_000, bool)
            for a, b in zip(rows["start_bp"], rows["end_bp"], strict=True):
                bases[a:b] = True
            of = np.zeros((len(self.windows), N_POSITIONS), bool)
            for s in range(len(self.windows)):
                for p in range(N_POSITIONS):
                    low = self.windows.start_bp[s] - PAD + p * BP
                    if self.windows.reverse([s])[0]:
                        low = self.windows.end_bp[s] + PAD - (p + 1) * BP
                    of[s, p] = bases[max(low, 0) : max(low + BP, 0)].any()
            classes[str(kind)] = of
        return classes

    def data(self) -> tuple[pd.DataFrame, ConceptData]:
        concepts = concepts_of({"genes": self.bed})
        elements = elements_on_positions(
            concepts, {"genes": self.bed}, self.windows, N_POSITIONS, BP, PAD
        )
        return concepts, ConceptData(self.plan, elements)


@pytest.fixture(scope="module", params=[False, True], ids=["forward", "reverse"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Made, Made, ConceptScores]:
    folder = tmp_path_factory.mktemp("concepts")
    train = Made(folder / "train", 0, (0, 700, 3000), request.param)
    validation = Made(folder / "validation", 1, (100, 2500), request.param)
    concepts, on_train = train.data()
    kept = np.concatenate([train.values[s, a:b] for s, a, b in train.ranges])
    scores = concept_scores(
        active, kept.max(axis=0).astype(float), concepts, on_train, validation.data()[1]
    )
    return train, validation, scores


def brute_force(data: Made, fires: np.ndarray, kind: str) -> tuple[float, float]:
    """Precision and recall of elements of (n_windows, N_POSITIONS) bool."""
    inside, hit, n_fired, elements, met = data.inside()[kind], 0, 0, 0, 0
    for s, a, b in data.ranges:
        mask, own = inside[s, a:b], fires[s, a:b]
        hit, n_fired = hit + int((mask & own).sum()), n_fired + int(own.sum())
        edge = np.diff(np.concatenate([[0], mask, [0]]).astype(int))
        for first, last in zip(np.flatnonzero(edge == 1), np.flatnonzero(edge == -1), strict=True):
            elements += 1
            met += bool(own[first:last].any())
    return hit / max(n_fired, 1), met / elements


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_figures_equal_brute_force(made: tuple[Made, Made, ConceptScores]) -> None:
    train, validation, scores = made
    assert len(scores.scores) == 2 * N_NODES
    assert set(scores.scores["split"]) == {"validation"}
    for row in scores.scores.itertuples():
        fires = validation.values[:, :, row.node] > max(row.threshold * (1 - 1e-6), 0)
        precision, recall = brute_force(validation, fires, row.annotation_class)
        assert row.precision == pytest.approx(precision)
        assert row.element_recall == pytest.approx(recall)
        assert row.f1 == pytest.approx(f1(precision, recall))
        # no other threshold is better on the training windows
        values = train.values[:, :, row.node]
        best = max(
            f1(*brute_force(train, values >= least, row.annotation_class))
            for least in [1e-9, *(values.max() * 2.0 ** (-i / 4) * (1 - 1e-6) for i in range(31))]
        )
        assert row.train_f1 == pytest.approx(best, abs=0.02)


def test_the_node_that_detects_a_class_is_its_best(made: tuple[Made, Made, ConceptScores]) -> None:
    _, validation, scores = made
    best = scores.best.set_index("annotation_class")
    assert best.loc["exon", "node"] == 2
    assert best.loc["exon", "precision"] == 1
    assert best.loc["exon", "lift"] == pytest.approx(1 / best.loc["exon", "prevalence"])
    assert 2 in (best.loc["exon", "node_a"], best.loc["exon", "node_b"])
    kept = np.concatenate([validation.inside()["exon"][s, a:b] for s, a, b in validation.ranges])
    assert best.loc["exon", "prevalence"] == pytest.approx(kept.mean())
    for kind, row in best.iterrows():
        pair = []
        for node in (row["node_a"], row["node_b"]):
            own = scores.scores.query("node == @node and annotation_class == @kind").iloc[0]
            pair.append(validation.values[:, :, node] > max(own["threshold"] * (1 - 1e-6), 0))
        precision, recall = brute_force(validation, pair[0] | pair[1], str(kind))
        assert row["pair_precision"] == pytest.approx(precision)
        assert row["pair_element_recall"] == pytest.approx(recall)


def test_columns_are_those_of_the_catalogue(made: tuple[Made, Made, ConceptScores]) -> None:
    for table, columns, frame in (
        ("concept_score", SCORE_COLUMNS, made[2].scores),
        ("concept", BEST_COLUMNS, made[2].best),
    ):
        assert [column.name for column in TABLE[table].columns[1:]] == list(columns) == list(frame)


@pytest.mark.parametrize(("kept_bytes", "n_looked_at"), [(2**20, 1), (1000, 2)])
def test_data_that_fits_memory_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int, n_looked_at: int
) -> None:
    """And whatever does not gives the same figures."""
    concepts, data = Made(tmp_path / "train", 0, (100, 900, 2000), reverse=False).data()
    expected = concept_scores(active, np.full(N_NODES, 3.0), concepts, data, None)
    looked_at: list[np.ndarray] = []

    def counted(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        looked_at.append(raw)
        return active(raw)

    monkeypatch.setattr(concept_passes, "_KEPT_BYTES", kept_bytes)
    scores = concept_scores(counted, np.full(N_NODES, 3.0), concepts, data, None)
    assert len(looked_at) == n_looked_at * len(data.plan)
    for one, other in zip(scores, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_without_validation_the_training_windows_are_said_to_be_it(tmp_path: Path) -> None:
    train = Made(tmp_path / "train", 0, (0, 2000), False)
    concepts, data = train.data()
    scores = concept_scores(active, np.full(N_NODES, 3.0), concepts, data, None)
    assert set(scores.best["split"]) == {"train"}
    assert (scores.scores["f1"] == scores.scores["train_f1"]).all()
    none = concept_scores(active, np.full(N_NODES, 3.0), concepts.iloc[:0], data, None)
    assert none.scores.empty
    assert none.best.empty


def test_a_class_that_the_reported_windows_lack_is_unknown(tmp_path: Path) -> None:
    train = Made(tmp_path / "train", 0, (0, 2000), False)
    concepts, data = train.data()
    lacking = data._replace(elements=data.elements[data.elements[:, 0] == 1])
    scores = concept_scores(active, np.full(N_NODES, 3.0), concepts, data, lacking)
    best = scores.best.set_index("annotation_class")
    assert best.loc["Alu", "n_elements"] == 0
    assert np.isnan(best.loc["Alu", "f1"])
    assert is_found(best).to_dict() == {"Alu": False, "exon": True}


def test_the_largest_classes_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concept_elements, "MAX_CONCEPTS", 2)
    bed = annotation([(0, 1, "a"), (5, 6, "b"), (9, 10, "b"), (11, 12, "c"), (15, 16, "c")])
    assert concepts_of({"x": bed})["annotation_class"].tolist() == ["b", "c"]
