"""Activations that a model computes where the SAE is do not leave it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from saeborzoi.activations.live import LiveSource
from saeborzoi.activations.loader import SlabPlan, TrainingStream
from saeborzoi.demo.network import one_thread
from saeborzoi.sae.gpu.feed import DeviceStream, blocks
from tests.activations.made_windows import make_genome, source_of


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlabPlan]:
    """Live activations that must not be asked for as arrays."""
    source = source_of(make_genome(tmp_path))
    plan = SlabPlan(source, source.scan.pieces)
    with one_thread():
        yield plan


def no_arrays(*_: object) -> None:
    raise AssertionError("activations went through the host")


def test_training_gets_the_batches_of_a_cpu(
    plan: SlabPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [TrainingStream(plan, 3, 1) for _ in range(2)]
    for stream in streams:
        stream.keeps = False
    expected = streams[0].batches(150)
    wanted = [next(expected).copy() for _ in range(12)]
    expected.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(LiveSource, "_row", no_arrays)
    batches = DeviceStream(streams[1], 150, torch.device("cpu")).batches(150)
    for batch in wanted:
        assert np.array_equal(next(batches).numpy(), batch)
    batches.close()  # type: ignore[attr-defined]


def test_a_scan_gets_every_position_in_order(
    plan: SlabPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    slabs = list(plan.in_order())
    monkeypatch.setattr(LiveSource, "_row", no_arrays)
    parts = [
        (block.raw.clone(), block.identity) for block in blocks(plan, torch.device("cpu"), 300)
    ]
    assert len(parts) > 1
    raw, identity = (torch.cat(x).numpy() for x in zip(*parts, strict=True))
    assert np.array_equal(raw, np.concatenate([slab.activation for slab in slabs]))
    n = plan.source.n_positions
    assert np.array_equal(
        identity, np.concatenate([slab.window * n + slab.position for slab in slabs])
    )
