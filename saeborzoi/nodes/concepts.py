"""How well nodes detect concepts: classes of annotation, such as exons, enhancers or Alu elements.

A node detects a class where it fires at the class's positions and at few others. Each node's
threshold is chosen on training windows; what is reported is measured on validation windows with
that threshold, so that a best node of thousands is not the luckiest. The method is InterPLM's
(Simon and Zou 2024): precision over positions, recall over elements (an element counts as found
where the node fires anywhere in it, as no node needs to fire all along an exon), F1 of the two.

Everything is counted in passes over the data in bounded memory, for every node and class at every
one of 32 thresholds; nothing is sampled. The compiled loops are in `concept_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.activations.loader import Slab, SlabPlan
from saeborzoi.catalog.views import MIN_F1, MIN_LIFT
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.nodes import concept_kernels as kernels
from saeborzoi.nodes.concept_passes import Active, Passes, Watch

N_CANDIDATES = 8
"""Nodes of each class among which the best pair is looked for."""
Int64s = NDArray[np.int64]


class ConceptData(NamedTuple):
    """One set of windows, with where the classes lie on its positions.

    Attributes
    ----------
    plan
        The kept positions.
    elements
        (n_elements, 4) int64: class, window, first and last (exclusive) position, sorted by
        window; a stretch of kept positions of one window that the class covers.
    """

    plan: SlabPlan
    elements: Int64s


def is_found(best: pd.DataFrame) -> pd.Series:
    """Whether a node detects each class of table `concept`: F1 of at least 0.5, at a precision of
    at least 1.5 times what firing anywhere would have (a class that covers most of the genome has
    a high F1 for a node that always fires). The view `sae_summary` counts the same."""
    return (best["f1"] >= MIN_F1) & (best["lift"] >= MIN_LIFT)


class ConceptScores(NamedTuple):
    """Result of `concept_scores`.

    Attributes
    ----------
    scores
        Columns of table `concept_score` but the key of the SAE, one row a node and class that it
        meets at all.
    best
        Columns of table `concept` but the key of the SAE, one row a class.
    """

    scores: pd.DataFrame
    best: pd.DataFrame


def concept_scores(
    active: Active,
    activation_max: NDArray[np.float64],
    concepts: pd.DataFrame,
    train: ConceptData,
    validation: ConceptData | None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> ConceptScores:
    """Score every node against every class.

    Parameters
    ----------
    active
        Active nodes of positions.
    activation_max
        (n_nodes,) float64, largest activation of each node on the training data: thresholds are
        any firing, and 2^(-i/4) of it for i = 0 ... 30.
    concepts
        As `concepts_of` gives them.
    train, validation
        Thresholds, best nodes and pairs are chosen on the first and reported on the second; where
        there is none, on the first, and column `split` says so.

    watch
        Gets each slab of the training data once, with its active nodes: what else is counted.

    Raises
    ------
    StageInterrupted
        Where `job.stop_requested` was set.
    """
    passes = Passes(active, activation_max, progress)
    if concepts.empty:
        if watch is not None:
            for _ in passes.over(train.plan, "training data", watch):
                pass
        return ConceptScores(_nothing(SCORE_COLUMNS), _nothing(BEST_COLUMNS))
    n = (len(concepts), len(activation_max))
    on_train = _count(passes, n, train, "concepts, training data", watch)
    f1 = on_train.f1()
    level = f1.argmax(axis=2)
    chosen = np.take_along_axis(f1, level[:, :, None], 2)[:, :, 0]
    split = "validation" if validation is not None else "train"
    data = validation if validation is not None else train
    counts = (
        on_train
        if validation is None
        else _count(passes, n, validation, "concepts, validation data")
    )
    scores = _scores(concepts, counts, level, chosen, activation_max, on_train)
    pairs = _pairs(passes, level, chosen, train, data)
    best = _best(concepts, scores, counts, split).join(pairs)
    named = concepts[["annotation", "annotation_class"]]
    scores = scores.assign(
        annotation=named["annotation"].to_numpy()[scores["concept"]],
        annotation_class=named["annotation_class"].to_numpy()[scores["concept"]],
        split=split,
    )
    return ConceptScores(scores[list(SCORE_COLUMNS)], best[list(BEST_COLUMNS)])


SCORE_COLUMNS = {
    "node": "int32", "annotation": "str", "annotation_class": "str", "threshold": "float64",
    "split": "str", "n_fired": "int64", "n_inside": "int64", "precision": "float64",
    "element_recall": "float64", "f1": "float64", "average_precision": "float64",
    "lift": "float64", "train_f1": "float64",
}  # fmt: skip
BEST_COLUMNS = {
    "annotation": "str", "annotation_class": "str", "split": "str", "n_elements": "int64",
    "prevalence": "float64", "node": "Int32", "precision": "float64", "element_recall": "float64",
    "f1": "float64", "average_precision": "float64", "lift": "float64", "node_a": "Int32",
    "node_b": "Int32", "pair_precision": "float64", "pair_element_recall": "float64",
    "pair_f1": "float64",
}  # fmt: skip


def _nothing(columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


class _Counts(NamedTuple):
    """At each threshold: positions inside of each class where each node fires, and elements met,
    (n_concepts, n_nodes, levels) int64; positions where it fires, (n_nodes, levels). Of each class:
    positions and elements, (n_concepts,). All positions."""

    inside: Int64s
    met: Int64s
    fired: Int64s
    n_inside: Int64s
    n_elements: Int64s
    n_positions: int

    def precision(self) -> NDArray[np.float64]:
        return self.inside / np.maximum(self.fired, 1)

    def element_recall(self) -> NDArray[np.float64]:
        return self.met / np.maximum(self.n_elements, 1)[:, None, None]

    def f1(self) -> NDArray[np.float64]:
        return _harmonic(self.precision(), self.element_recall())

    def average_precision(self) -> NDArray[np.float64]:
        """(n_concepts, n_nodes): area under precision over recall of positions, by steps."""
        recall = self.inside / np.maximum(self.n_inside, 1)[:, None, None]
        gained = recall - np.pad(recall[:, :, 1:], ((0, 0), (0, 0), (0, 1)))
        return (gained * self.precision()).sum(axis=2)


def _harmonic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * a * b / np.where(a + b > 0, a + b, 1)


def _count(
    passes: Passes, n: tuple[int, int], data: ConceptData, what: str, watch: Watch | None = None
) -> _Counts:
    n_concepts, n_nodes = n
    inside = np.zeros((n_concepts, n_nodes, kernels.LEVELS), np.int32)
    met, fired = np.zeros_like(inside), np.zeros((n_nodes, kernels.LEVELS), np.int64)
    runs = _Runs(data.elements, n_nodes)
    for slab, node, level, count in passes.over(data.plan, what, watch):
        kernels.count_fired(node, level, count, fired)
        for place, first, last, chosen in runs.stretches(slab):
            closed = kernels.count_inside(
                data.elements, chosen, runs.slot_of, runs.left, runs.slots, place, first, last,
                node, level, count, inside, met,
            )  # fmt: skip
            runs.release(closed)
    size = data.elements[:, 3] - data.elements[:, 2]
    n_inside = np.bincount(data.elements[:, 0], size, minlength=n_concepts).astype(np.int64)
    return _Counts(
        _at_least(inside),
        _at_least(met),
        _at_least(fired),
        n_inside,
        np.bincount(data.elements[:, 0], minlength=n_concepts),
        data.plan.n_positions,
    )


def _at_least(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """From counts at each level to counts at or above it."""
    return np.cumsum(counts[..., ::-1], axis=-1, dtype=np.int64)[..., ::-1]


class _Runs:
    """Elements that a pass is in the middle of, each with a slot of memory; slabs may hold a part
    of an element only."""

    def __init__(self, elements: Int64s, width: int) -> None:
        self._elements = elements
        last_window = int(elements[:, 1].max(initial=-1)) + 1
        self._of_window = np.searchsorted(elements[:, 1], np.arange(last_window + 1))
        self.left = elements[:, 3] - elements[:, 2]
        self.slot_of = np.full(len(elements), -1, np.int64)
        self.slots = np.zeros((0, width), np.uint8)
        self._free: list[int] = []

    def stretches(self, slab: Slab) -> Iterator[tuple[int, int, int, Int64s]]:
        """Place in the slab, first and last position of each of its stretches that meets elements,
        with those elements, which have slots."""
        breaks = np.flatnonzero(
            (np.diff(slab.position) != 1) | (np.diff(slab.window) != 0)
        ) + 1  # fmt: skip
        for begin, end in zip([0, *breaks], [*breaks, len(slab.position)], strict=True):
            window = int(slab.window[begin])
            if window >= len(self._of_window) - 1:
                continue
            first, last = int(slab.position[begin]), int(slab.position[end - 1]) + 1
            window_slice = slice(*self._of_window[window : window + 2])
            here = self._elements[window_slice]
            meets = np.flatnonzero((here[:, 2] < last) & (here[:, 3] > first)) + window_slice.start
            if len(meets):
                self._open(meets)
                yield begin, first, last, meets

    def _open(self, elements: Int64s) -> None:
        new = elements[self.slot_of[elements] < 0]
        lacking = len(new) - len(self._free)
        if lacking > 0:
            n = len(self.slots)
            more = np.zeros((max(lacking, n), self.slots.shape[1]), np.uint8)
            self.slots = np.concatenate([self.slots, more])
            self._free += range(n, len(self.slots))
        self.slot_of[new] = [self._free.pop() for _ in new]

    def release(self, elements: Int64s) -> None:
        """Take back the slots of elements that are done."""
        self._free += self.slot_of[elements].tolist()
        self.slot_of[elements] = -1


def _scores(
    concepts: pd.DataFrame, counts: _Counts, level: Int64s, train_f1: NDArray[np.float64],
    activation_max: NDArray[np.float64], on_train: _Counts,
) -> pd.DataFrame:  # fmt: skip
    at = level[:, :, None]
    picked = {
        "n_inside": np.take_along_axis(counts.inside, at, 2)[:, :, 0],
        "n_fired": np.take_along_axis(np.broadcast_to(counts.fired, counts.inside.shape), at, 2)[
            :, :, 0
        ],
        "precision": np.take_along_axis(counts.precision(), at, 2)[:, :, 0],
        "element_recall": np.take_along_axis(counts.element_recall(), at, 2)[:, :, 0],
        "f1": np.take_along_axis(counts.f1(), at, 2)[:, :, 0],
        "average_precision": counts.average_precision(),
    }
    prevalence = counts.n_inside / max(counts.n_positions, 1)
    concept, node = np.nonzero(on_train.inside[:, :, 0])
    frame = pd.DataFrame({"concept": concept, "node": node.astype(np.int32)})
    frame["threshold"] = kernels.threshold(level[concept, node], activation_max[node])
    for name, values in picked.items():
        frame[name] = values[concept, node]
    # a class that those windows lack says nothing of its nodes
    unknown = counts.n_elements[concept] == 0
    frame.loc[unknown, ["precision", "element_recall", "f1", "average_precision"]] = np.nan
    frame["lift"] = frame["precision"] / np.where(prevalence > 0, prevalence, np.nan)[concept]
    frame["train_f1"] = train_f1[concept, node]
    return frame


def _best(
    concepts: pd.DataFrame, scores: pd.DataFrame, counts: _Counts, split: str
) -> pd.DataFrame:
    """The best node of each class by its F1 on the training data."""
    first = scores.sort_values(["concept", "train_f1", "node"], ascending=[True, False, True])
    first = first.drop_duplicates("concept").set_index("concept")
    table = concepts[["annotation", "annotation_class"]].assign(
        split=split,
        n_elements=counts.n_elements,
        prevalence=counts.n_inside / max(counts.n_positions, 1),
    )
    columns = ["node", "precision", "element_recall", "f1", "average_precision", "lift"]
    return table.join(first[columns]).astype({"node": "Int32"})


def _pairs(
    passes: Passes,
    level: Int64s,
    train_f1: NDArray[np.float64],
    train: ConceptData,
    data: ConceptData,
) -> pd.DataFrame:
    """The best two nodes of each class, one of which must fire: node_a, node_b and their figures,
    chosen on the training data among the best `N_CANDIDATES`."""
    n_concepts, n_nodes = level.shape
    n_candidates = min(N_CANDIDATES, n_nodes)
    order = np.argsort(-train_f1, axis=1, kind="stable")[:, :n_candidates]
    bit_of = np.full((n_concepts, n_nodes), -1, np.int8)
    np.put_along_axis(bit_of, order, np.arange(n_candidates, dtype=np.int8)[None], 1)
    least = level.astype(np.uint8)
    figures = []
    for of in [train] if data is train else [train, data]:
        fired = np.zeros((n_concepts, 256), np.int64)
        inside, met = np.zeros_like(fired), np.zeros_like(fired)
        runs = _Runs(of.elements, 1)
        for slab, node, levels, count in passes.over(of.plan, "pairs of nodes"):
            kernels.count_masks(node, levels, count, bit_of, least, fired)
            for place, first, last, chosen in runs.stretches(slab):
                closed = kernels.count_masks_inside(
                    of.elements, chosen, runs.slot_of, runs.left, runs.slots, place, first, last,
                    node, levels, count, bit_of, least, inside, met,
                )  # fmt: skip
                runs.release(closed)
        n_elements = np.bincount(of.elements[:, 0], minlength=n_concepts)
        figures.append(_of_pairs(fired, inside, met, n_elements, n_candidates))
    pairs = [(a, b) for a in range(n_candidates) for b in range(a + 1, n_candidates)]
    if not pairs:
        return pd.DataFrame(index=range(n_concepts))
    best = figures[0][2].argmax(axis=1)
    rows = np.arange(n_concepts)
    precision, recall, f1 = (values[rows, best] for values in figures[-1])
    a, b = (order[rows, np.array(pairs)[best, side]] for side in (0, 1))
    has = np.take_along_axis(train_f1, order, 1)[:, 1] > 0
    frame = pd.DataFrame(
        {
            "node_a": np.minimum(a, b), "node_b": np.maximum(a, b), "pair_precision": precision,
            "pair_element_recall": recall, "pair_f1": f1,
        }
    )  # fmt: skip
    return frame.where(pd.Series(has), other=np.nan).astype({"node_a": "Int32", "node_b": "Int32"})


def _of_pairs(
    fired: Int64s, inside: Int64s, met: Int64s, n_elements: Int64s, n_candidates: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, element recall and F1 of each pair of candidates: (n_concepts, n_pairs)."""
    mask = np.arange(256)
    either = np.array(
        [
            (mask & (1 << a | 1 << b)) > 0
            for a in range(n_candidates)
            for b in range(a + 1, n_candidates)
        ]
    ).T
    if not either.size:
        nothing = np.zeros((len(fired), 1))
        return nothing, nothing, nothing
    precision = (inside @ either) / np.maximum(fired @ either, 1)
    recall = (met @ either) / np.maximum(n_elements, 1)[:, None]
    return precision, recall, _harmonic(precision, recall)
