"""Motif search of many nodes together: bit for bit what each node gives alone."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.errors import ComputeError, SettingsError
from saeborzoi.motifs import discovery
from saeborzoi.motifs.discovery import discover, discover_nodes
from saeborzoi.motifs.engine import lockstep
from saeborzoi.motifs.engine.batched import BatchedExecutor
from saeborzoi.motifs.engine.builtin import Motif, find_motifs, search
from saeborzoi.motifs.engine.lockstep import gpu_for, in_lockstep, kind
from saeborzoi.motifs.engine.search_data import (
    Align,
    Answer,
    Converge,
    Order,
    Request,
    SearchData,
    Windows,
    answer,
)
from saeborzoi.motifs.sequences import Sequences, encode, letter_frequencies
from saeborzoi.settings.sections import Motifs
from tests.motifs.engine.test_builtin import BOX, GATA, planted, random_text

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "meme_parity.json").read_text())


def nodes() -> dict[str, list[str]]:
    """Small nodes that differ in number, length and content of their sequences."""
    rng = np.random.default_rng(0)
    unlike = planted(60, 26, [(GATA, 0.7)], seed=4)
    unlike += [text[:15] for text in planted(30, 15, [(GATA, 0.7)], seed=5)] + ["ACGTA"] * 5
    return {
        "two motifs": planted(120, 18, [(GATA, 0.5), (BOX, 0.3)], seed=1),
        "either strand": planted(100, 18, [(BOX, 0.7)], seed=3, both=True),
        "unlike lengths": unlike,
        "noise": [random_text(rng, 14) for _ in range(80)],
        "one place each": [GATA] * 40,
        "alike": ["ACGTACGTAC"] * 7,
        "few": planted(5, 20, [(GATA, 1.0)], seed=10),
        "one": ["ACGTACGTAC"],
    }


def arguments(texts: list[str], both: bool) -> tuple[Sequences, np.ndarray, dict[str, object]]:
    sequences = encode(texts)
    return (
        sequences,
        letter_frequencies(sequences, both),
        {
            "n_motifs": 2,
            "min_width": 8,
            "max_width": int(sequences.lengths.max()),
            "both_strands": both,
            "seed": 0,
        },
    )


def together(
    texts: Sequence[list[str]], both: bool, device: str = "cpu", max_bytes: int | None = None
) -> list[list[Motif]]:
    executor = BatchedExecutor(device, max_bytes)
    searches = []
    for each in texts:
        sequences, background, options = arguments(each, both)
        searches.append(search(sequences, background, **options))  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as workers:
        return in_lockstep(searches, executor.answer, workers)


def assert_same(found: list[Motif], expected: list[Motif]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
        assert (a.n_sites, a.llr, a.log_e_value) == (b.n_sites, b.llr, b.log_e_value)
        for name in ("sequence", "start", "strand"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("both", [False, True])
def test_motifs_are_those_of_each_node_alone(both: bool, device: str) -> None:
    for found, texts in zip(
        together(list(nodes().values()), both, device), nodes().values(), strict=True
    ):
        sequences, background, options = arguments(texts, both)
        assert_same(found, find_motifs(sequences, background, **options))  # type: ignore[arg-type]


def test_recorded_meme_set_gives_the_same(device: str) -> None:
    texts = RECORDED["w18_GATA1_one_80"]["sequences"].split()
    sequences, background, options = arguments(texts, False)
    alone = find_motifs(sequences, background, **options)  # type: ignore[arg-type]
    assert_same(together([texts], False, device)[0], alone)


def test_real_sets_of_unlike_lengths_give_the_same(meme_parity_case: Path, device: str) -> None:
    texts = []
    for name in ("w14_CTCF_both_75", "mix14-34_noise_a"):
        lines = (meme_parity_case / "sets" / f"{name}.fa").read_text().split()
        texts.append([line for line in lines if not line.startswith(">")])
    for found, each in zip(together(texts, False, device), texts, strict=True):
        sequences, background, options = arguments(each, False)
        assert_same(found, find_motifs(sequences, background, **options))  # type: ignore[arg-type]


def test_batch_order_and_memory_change_nothing(device: str) -> None:
    texts = list(nodes().values())[:5]
    expected = together(texts, False, device)
    shuffled = list(range(5))
    random.Random(0).shuffle(shuffled)
    found_shuffled = together([texts[k] for k in shuffled], False, device)
    for k, found in zip(shuffled, found_shuffled, strict=True):
        assert_same(found, expected[k])
    for each, motifs in zip(texts, expected, strict=True):
        assert_same(together([each], False, device)[0], motifs)
    # so little that one starting point of one node is a pass
    assert_same(together(texts[:1], False, device, max_bytes=1)[0], expected[0])


@pytest.mark.parametrize("both", [False, True])
def test_answers_have_the_same_bits(both: bool, device: str) -> None:
    """Each kind of request, with windows that are partly erased."""
    rng = np.random.default_rng(1)
    requests: dict[str, list[Request]] = {"align": [], "converge": [], "hold": [], "order": []}
    for texts in (nodes()["two motifs"], nodes()["unlike lengths"]):
        sequences, background, _ = arguments(texts, both)
        data = SearchData.of(sequences, background, 8, both, False)
        free = np.where(rng.random(sequences.letters.shape) < 0.1, rng.random(), 1.0)
        windows = Windows.of(data, 9, free)
        n = int(rng.integers(2, 5))
        matrices, fractions = rng.dirichlet(np.ones(4), (n, 9)), rng.random(n)
        letters = sequences.letters[:n, :9].copy()
        requests["align"].append(Align(windows, letters))
        requests["converge"].append(Converge(windows, matrices, fractions, False))
        requests["hold"].append(Converge(windows, matrices, fractions, True))
        requests["order"].append(Order(windows, matrices, fractions))
    executor = BatchedExecutor(device)
    for same_kind in requests.values():
        for batched, request in zip(executor.answer(same_kind), same_kind, strict=True):
            for a, b in zip(batched, answer(request), strict=True):
                np.testing.assert_array_equal(a, b)


def test_what_is_asked_at_once_is_answered_at_once() -> None:
    """Nodes of one shape stay in step until their motifs differ in width."""
    asked: list[list[Request]] = []

    def record(requests: Sequence[Request]) -> list[Answer]:
        asked.append(list(requests))
        return [answer(request) for request in requests]

    searches = []
    for seed in range(4):
        sequences, background, options = arguments(planted(60, 14, [(GATA, 0.8)], seed), False)
        searches.append(search(sequences, background, **options))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as workers:
        in_lockstep(searches, record, workers)
    assert all(len({kind(request) for request in requests}) == 1 for requests in asked)
    # three widths, each: align, converge, order, sharpen, order
    assert [len(requests) for requests in asked[:15]] == [4] * 15
    assert np.mean([len(requests) for requests in asked]) > 2.5


@pytest.fixture
def seqlets() -> pd.DataFrame:
    frames = []
    for node, texts in enumerate(list(nodes().values())[:5]):
        frame = pd.DataFrame({"sequence": texts, "rank": range(len(texts))})
        frames.append(frame.assign(node=node, activation=np.linspace(2, 1, len(texts))))
    return pd.concat(frames, ignore_index=True)


def test_a_stage_on_a_gpu_gives_the_same_table(
    seqlets: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    expected = discover(seqlets, Motifs(), "sae")
    monkeypatch.setattr(discovery, "gpu_for", lambda wanted, n_nodes: device)
    monkeypatch.setattr(discovery, "_NODES_ON_GPU", 2)
    told: list[int] = []
    found = discover(
        seqlets, Motifs(), "sae", threads=2, progress=lambda what, done, *_: told.append(done)
    )
    pd.testing.assert_frame_equal(found, expected)
    assert told == [1, 2, 3, 4, 5]


def test_a_stage_on_a_gpu_stops_between_batches(
    seqlets: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "gpu_for", lambda wanted, n_nodes: "cpu")
    monkeypatch.setattr(discovery, "_NODES_ON_GPU", 1)
    stop = threading.Event()
    done = []
    for node in discover_nodes(seqlets, Motifs(n_motifs=1, max_width=8), "sae", stop=stop):
        stop.set()
        done.append(node.node)
    assert 1 <= len(done) < 5


def test_few_nodes_or_no_gpu_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(lockstep, "_GPU_FILES", ("null",))
    assert gpu_for("auto", 5) is None
    assert gpu_for("auto", 5000) == "cuda"
    assert gpu_for("cpu", 5000) is None
    assert gpu_for("cuda", 5) == "cuda"
    monkeypatch.setattr(lockstep, "_GPU_FILES", ("no such device",))
    assert gpu_for("auto", 5000) is None


def test_a_gpu_that_is_not_there(seqlets: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r'sees no GPU in this job; ask for one with gres = "g'):
        discover(seqlets, Motifs(device="cuda"), "sae")
    monkeypatch.setattr(lockstep, "_GPU_FILES", ("null",))
    assert gpu_for("auto", 5000) is None


def test_a_gpu_is_of_the_builtin_engine() -> None:
    with pytest.raises(ValueError, match="'meme', which runs on the CPU only; set engine = "):
        Motifs(device="cuda", engine="meme")


def test_full_memory_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(BatchedExecutor, "_pass", full)
    with pytest.raises(ComputeError, match=r'set \[motifs\] device = "cpu"'):
        together([nodes()["few"]], False)
