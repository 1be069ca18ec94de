"""The one-pass scan equals brute force over all activations at once."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.errors import InputError
from saeborzoi.jobs import job
from saeborzoi.jobs.job import StageInterrupted
from saeborzoi.nodes import device_scan, node_figures, spill, top_activations
from saeborzoi.sae.model import SparseAutoencoder

Scan = Callable[..., node_figures.NodeActivations]
N_POSITIONS = 700
PIECES = np.array([(0, 0, 10, 690, 0), (0, 1, 0, 100, 1), (0, 1, 650, 700, 1), (1, 0, 0, 700, 2)])


@pytest.fixture
def plan(tmp_path: Path) -> SlabPlan:
    """Kept positions of three sequences; values are repeated, so that activations tie."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(60, 12)).astype(np.float32)
    data = kinds[rng.integers(0, 60, (3, N_POSITIONS))]
    data[1, :80] = rng.normal(size=(80, 12))
    for shard, rows in enumerate((slice(0, 2), slice(2, 3))):
        with h5py.File(tmp_path / f"activations_{shard}.h5", "w") as file:
            file["a"] = data[rows]
    return SlabPlan(ShardFolder.open(tmp_path), PIECES)


@pytest.fixture(params=["topk", "batch_topk"])
def sae(request: pytest.FixtureRequest) -> SparseAutoencoder:
    """48 nodes of which two never fire."""
    made = SparseAutoencoder(12, 48, 4, request.param)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.encoder_weight.copy_(torch.randn(48, 12, generator=generator))
        made.encoder_bias[[7, 40]] = -100
    made.threshold.fill_(2.5)
    return made


@pytest.fixture(params=["cpu", "device"])
def scan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """The pass of a CPU, and that of a GPU on whatever there is, in several blocks and merges."""
    if request.param == "cpu":
        monkeypatch.setattr(top_activations, "_POSITIONS", 500)
        monkeypatch.setattr(top_activations, "_SPARE", 3)
        return top_activations.top_activations
    monkeypatch.setattr(device_scan, "BLOCK_POSITIONS", 500)
    monkeypatch.setattr(device_scan, "MERGED_AT", 900)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return lambda sae, *rest, **more: device_scan.scan_on_device(sae.to(device), *rest, **more)


def brute_force(plan: SlabPlan, sae: SparseAutoencoder) -> tuple[np.ndarray, np.ndarray]:
    """(n, n_nodes) activations and (n,) sequence * N_POSITIONS + position, in order."""
    with plan.source.reader() as reader:
        rows = [
            reader.read(place, slice(row, row + 1), slice(a, b))[0]
            for place, row, a, b, _ in PIECES
        ]
    identity = np.concatenate([s * N_POSITIONS + np.arange(a, b) for _, _, a, b, s in PIECES])
    x = torch.from_numpy(np.concatenate(rows))
    with torch.no_grad():
        active = sae.encode(x)
        z = torch.zeros(len(x), sae.n_nodes).scatter(1, active.node, active.value)
    return z.numpy(), identity


@pytest.mark.parametrize("n_top", [1, 20, 5000])
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_brute_force(
    plan: SlabPlan, sae: SparseAutoencoder, n_top: int, threads: int, scan: Scan
) -> None:
    scanned = scan(sae, plan, n_top, 0.5, threads)
    z, identity = brute_force(plan, sae.cpu())
    statistics = scanned.statistics.set_index("node")
    for node in range(48):
        values = z[:, node]
        fires = values > 0
        rows = scanned.top[scanned.top["node"] == node]
        order = np.lexsort((identity, -values))[: min(n_top, fires.sum())]
        # values of equal positions differ in the last digits between the two ways of summing
        np.testing.assert_allclose(rows["activation"], values[order], rtol=1e-4)
        assert rows["rank"].tolist() == list(range(len(order)))
        assert (np.diff(rows["activation"]) <= 0).all()
        places = rows["window"] * N_POSITIONS + rows["position"]
        assert places.is_unique
        at = pd_index(identity, places.to_numpy())
        np.testing.assert_allclose(values[at], rows["activation"], rtol=1e-4)
        row = statistics.loc[node]
        assert row["n_nonzero"] == fires.sum()
        assert row["n_positions"] == len(identity)
        assert row["frequency"] == fires.mean()
        assert row["activation_max"] == pytest.approx(values.max(), rel=1e-4)
        if fires.any():
            assert row["activation_mean"] == pytest.approx(values[fires].mean(), rel=1e-4)
            assert row["activation_std"] == pytest.approx(values[fires].std(), rel=1e-2, abs=1e-3)
        assert abs(row["n_above_mean_fraction"] - (values > 0.5 * values[fires].mean()).sum()
                   if fires.any() else row["n_above_mean_fraction"]) <= 0  # fmt: skip
        assert row["n_above_max_fraction"] == (values > 0.5 * values.max()).sum()
        edges, counts = row["histogram_edges"], row["histogram_counts"]
        assert sum(counts) == fires.sum()
        if fires.any():
            expected = np.histogram(values[fires], edges)[0]
            np.testing.assert_array_equal(counts, expected)
    together = scanned.coactivation.toarray()
    active = (z > 0).astype(int)
    np.testing.assert_array_equal(together, np.triu(active.T @ active, 1))


def pd_index(identity: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.searchsorted(identity, wanted)
    np.testing.assert_array_equal(identity[place], wanted)
    return place


def test_of_equal_activations_the_earlier_position_comes_first(tmp_path: Path, scan: Scan) -> None:
    """Every position the same, scanned in two divisions: the first N win, in order."""
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        file["a"] = np.tile(np.arange(6, dtype=np.float32), (3, 3000, 1))
    pieces = np.array([(0, row, 0, 3000, sequence) for row, sequence in ((0, 2), (1, 0), (2, 1))])
    sae = SparseAutoencoder(6, 12, 2)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)))
    plan = SlabPlan(ShardFolder.open(tmp_path), pieces)
    top = scan(sae, plan, 3500, 0.5).top
    for _, rows in top.groupby("node"):
        assert rows["window"].tolist() == [0] * 3000 + [1] * 500
        assert rows["position"].tolist() == [*range(3000), *range(500)]


def test_a_full_disk_costs_a_second_reading_and_nothing_else(
    plan: SlabPlan,
    sae: SparseAutoencoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scan: Scan,
) -> None:
    once = scan(sae, plan, 20, 0.5, work=tmp_path / "work")

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            if self.tell() + len(data) > 2000:  # type: ignore[arg-type]
                raise OSError(errno.ENOSPC, "no space left")
            return super().write(data)  # type: ignore[arg-type]

    monkeypatch.setattr(spill.tempfile, "TemporaryFile", lambda dir: Full())
    twice = scan(sae, plan, 20, 0.5)
    assert (once.n_passes, twice.n_passes) == (1, 2)
    columns = ["n_above_mean_fraction", "n_above_max_fraction"]
    assert once.statistics[columns].equals(twice.statistics[columns])


def test_a_wide_sae_gets_no_coactivation(
    plan: SlabPlan, sae: SparseAutoencoder, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    monkeypatch.setattr(node_figures, "MAX_COACTIVATION_NODES", 47)
    assert scan(sae, plan, 20, 0.5).coactivation is None


def test_a_request_to_stop_is_heard(plan: SlabPlan, sae: SparseAutoencoder, scan: Scan) -> None:
    job.stop_requested.set()
    try:
        with pytest.raises(StageInterrupted, match="run it again"):
            scan(sae, plan, 20, 0.5)
    finally:
        job.stop_requested.clear()


def test_values_that_are_not_finite_are_named(tmp_path: Path, scan: Scan) -> None:
    data = np.ones((1, 3000, 6), np.float16)
    data[0, 2100, 4] = np.inf
    with h5py.File(tmp_path / "activations_0.h5", "w") as file:
        file["a"] = data
    plan = SlabPlan(ShardFolder.open(tmp_path), np.array([(0, 0, 0, 3000, 0)]))
    sae = SparseAutoencoder(6, 12, 2)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(12, 6))
    with pytest.raises(InputError, match="row 0, position 2100, channel 4 is NaN or infinite"):
        scan(sae, plan, 5, 0.5)
