"""Sums over batches are what all values at once give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from saeborzoi.effects.statistics import Correlation, PublishedCorrelation, loss_of, recovered


def pairs(n: int = 11, n_tracks: int = 3, n_bins: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, n_tracks, n_bins, generator=generator)
    return a, 0.7 * a + torch.randn(n, n_tracks, n_bins, generator=generator)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_r_in_uneven_batches_is_that_of_all_values(offset: float) -> None:
    a, b = pairs()
    a = a + offset * torch.tensor([1.0, -1.0, 0.3])[:, None]
    gathered = Correlation()
    for rows in (slice(0, 1), slice(1, 8), slice(8, 11)):
        gathered.add(a[rows], b[rows])
    x, y = a.double().numpy(), b.double().numpy()
    expected = [np.corrcoef(x[:, t].ravel(), y[:, t].ravel())[0, 1] for t in range(3)]
    np.testing.assert_allclose(gathered.per_track(), expected, rtol=1e-9)
    pooled = np.corrcoef(x.ravel(), y.ravel())[0, 1]
    assert gathered.over_all() == pytest.approx(pooled, rel=1e-9)


def test_a_constant_track_has_no_r() -> None:
    a, b = pairs()
    b[:, 1] = 0.1  # not a binary fraction: its mean is rounded
    a[:, 2] = 0
    for kind in (Correlation, PublishedCorrelation):
        gathered = kind()
        gathered.add(a[:4], b[:4])
        gathered.add(a[4:], b[4:])
        assert np.isnan(gathered.per_track()).tolist() == [False, True, True]
        assert math.isfinite(gathered.over_all())


def test_the_published_statistic_is_a_mean_over_sequences_and_tracks() -> None:
    a, b = pairs()
    b[3, 1] = 2.0
    r = np.full((11, 3), np.nan)
    for i in range(11):
        for t in range(3):
            if (i, t) != (3, 1):
                r[i, t] = np.corrcoef(a[i, t].double(), b[i, t].double())[0, 1]
    gathered = PublishedCorrelation()
    for rows in (slice(0, 5), slice(5, 11)):
        gathered.add(a[rows], b[rows])
    np.testing.assert_allclose(gathered.per_track(), np.nanmean(r, axis=0), rtol=1e-9)
    assert gathered.over_all() == pytest.approx(np.nanmean(r), rel=1e-9)
    # one bin: r over bins is nothing
    single = PublishedCorrelation()
    single.add(a[:, :, :1], b[:, :, :1])
    assert np.isnan(single.per_track()).all()
    assert math.isnan(single.over_all())


def test_losses_by_hand() -> None:
    p, t = 0.9, 0.25
    entropy = -(t * math.log(p) + (1 - t) * math.log(1 - p))
    target = torch.tensor([t])
    for scale, y in (("logit", math.log(p / (1 - p))), ("probability", p)):
        loss = loss_of(scale).each(torch.tensor([y]), target)  # type: ignore[arg-type]
        assert float(loss) == pytest.approx(entropy, rel=1e-6)
    assert float(loss_of("squashed").each(torch.tensor([2.0]), target)) == pytest.approx(
        2 - t * math.log(2)
    )
    assert float(loss_of("log").each(torch.tensor([2.0]), target)) == pytest.approx(1.75**2)
    # a probability of 1 or 0 in float32 costs much, not infinitely much
    sure = loss_of("probability").each(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.isfinite(sure).all()
    assert (sure > 15).all()


def test_log_scales() -> None:
    y = torch.tensor([0.5, 0.75])
    assert loss_of("probability").log(y).tolist() == pytest.approx([0, math.log(3)])
    assert loss_of("squashed").log(torch.tensor([0.0, 3.0])).tolist() == [0, 2]
    assert loss_of("logit").log(y) is y
    # a raw output below 0 has no logarithm: said so, not bent
    assert loss_of("raw").log(torch.tensor([-0.5, 1.0])).isnan().tolist() == [True, False]


def test_an_ablation_that_costs_nothing_recovers_nothing() -> None:
    assert recovered(2.0, 1.0, 1.0) == 1
    assert recovered(2.0, 3.0, 1.0) == -1
    assert recovered(1 + 1e-8, 1 + 0.25e-8, 1.0) == pytest.approx(0.75, abs=1e-6)
    assert math.isnan(recovered(1.0, 1.0, 1.0))
    assert math.isnan(recovered(0.0, 0.0, 0.0))
    assert math.isnan(recovered(0.5, 0.7, 1.0))
