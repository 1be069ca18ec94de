"""Pearson's r and losses of predictions, gathered batch by batch where the predictions are.

Predictions are far too large to be kept; what stands here holds a few float64 numbers a track.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.models.model import Scale

_CONSTANT = 1e-13
"""A standard deviation below this share of the mean is rounding of a constant."""
_NOTHING = 1e-12
"""A loss that an ablation raises by less, relatively, is the rounding of float64 sums; what is real
may be small, as near the model's outputs a loss rises with the square of the change."""
_SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, and rates from 0, before their logarithm."""

Transform = Callable[[Tensor], Tensor]


class Correlation:
    """Pearson's r of each track and over all, exactly and in one pass.

    Central moments in float64, merged by Chan, Golub and LeVeque (1983), so that a large mean
    costs no digits.
    """

    def __init__(self) -> None:
        self._n = 0
        self._moments: Tensor | None = None

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take in values of (n, n_tracks, n_bins) each, at least one."""
        a, b = _by_track(a), _by_track(b)
        mean_a, mean_b = a.mean(1), b.mean(1)
        a, b = a - mean_a[:, None], b - mean_b[:, None]
        new = torch.stack([mean_a, mean_b, (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)])
        self._moments = (
            new if self._moments is None else _merged(self._moments, self._n, new, a.shape[1])
        )
        self._n += a.shape[1]

    def per_track(self) -> NDArray[np.float64]:
        """(n_tracks,) float64; NaN where a side is constant."""
        assert self._moments is not None
        return _r(self._moments.cpu().numpy(), self._n)

    def over_all(self) -> float:
        """Over the values of all tracks together: tracks' levels count, too."""
        assert self._moments is not None
        m = self._moments.cpu().numpy()
        mean = m[:2].mean(1, keepdims=True)
        off = m[:2] - mean
        pooled = np.array(
            [
                *mean[:, 0],
                m[2].sum() + self._n * (off[0] ** 2).sum(),
                m[3].sum() + self._n * (off[1] ** 2).sum(),
                m[4].sum() + self._n * (off[0] * off[1]).sum(),
            ]
        )
        return float(_r(pooled[:, None], self._n * m.shape[1])[0])


class PublishedCorrelation:
    """sae-borzoi's statistic (`sae_hooks_pearson.py`): r over the bins of each sequence and track,
    and the mean of those that are not NaN."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take in values of (n, n_tracks, n_bins) each."""
        a, b = a.double(), b.double()
        mean_a, mean_b = a.mean(2), b.mean(2)
        a, b = a - mean_a[:, :, None], b - mean_b[:, :, None]
        squares_a, squares_b = (a * a).sum(2), (b * b).sum(2)
        r = (a * b).sum(2) / (squares_a * squares_b).sqrt()
        n_bins = a.shape[2]
        varies = _varies(squares_a, mean_a, n_bins) & _varies(squares_b, mean_b, n_bins)
        new = torch.stack([torch.where(varies, r, 0).sum(0), varies.sum(0)])
        self._sum = new if self._sum is None else self._sum + new

    def per_track(self) -> NDArray[np.float64]:
        """(n_tracks,) float64; NaN where no sequence has one, as with a single bin."""
        assert self._sum is not None
        total, n = self._sum.cpu().numpy()
        return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)

    def over_all(self) -> float:
        """Mean over sequences and tracks, as published."""
        assert self._sum is not None
        total, n = self._sum.sum(1).tolist()
        return total / n if n else float("nan")


class Loss(NamedTuple):
    """A loss of predictions, and the scale on which their logarithm is taken.

    Attributes
    ----------
    name
        For tables.
    log_scale
        What `log` does, for tables.
    log
        Predictions to the log scale.
    log_target
        Targets to the log scale; where predictions are logits, targets are probabilities.
    own_target
        Predictions to the target that they would be of themselves.
    each
        (prediction, target) to the loss of each value.
    """

    name: str
    log_scale: str
    log: Transform
    log_target: Transform
    own_target: Transform
    each: Callable[[Tensor, Tensor], Tensor]


def loss_of(scale: Scale) -> Loss:
    """The loss that belongs to a model's scale.

    Cross-entropy (in nats) for logits and probabilities, Poisson's for Borzoi's squashed coverage,
    and the squared error for the rest. The log scale is log-odds for logits and probabilities, a
    logarithm as it is, and else log2(1 + y), NaN below 0.
    """
    if scale == "logit":
        return Loss("cross-entropy", "log-odds", _same, _same, _sigmoid, _of_logits)
    if scale == "probability":
        return Loss("cross-entropy", "log-odds", _log_odds, _log_odds, _same, _of_probabilities)
    if scale == "log":
        return Loss("squared error", "as it is", _same, _same, _same, _squared)
    if scale == "squashed":
        return Loss("Poisson", "log2(1 + y)", _log2, _log2, _same, _poisson)
    return Loss("squared error", "log2(1 + y)", _log2, _log2, _same, _squared)


def summed(values: Tensor) -> Tensor:
    """(n_tracks,) float64: sum of (n, n_tracks, n_bins) over sequences and bins."""
    return values.sum((0, 2), dtype=torch.float64)


def recovered(ablated: float, spliced: float, model: float) -> float:
    """Loss recovered: (ablated - spliced) / (ablated - model).

    1 is the model and 0 the ablation, below 0 worse than it; NaN where the ablation does not cost
    anything.

    >>> recovered(ablated=3.0, spliced=1.5, model=1.0)
    0.75
    """
    cost = ablated - model
    return (ablated - spliced) / cost if cost > _NOTHING * abs(model) else np.nan


def _by_track(values: Tensor) -> Tensor:
    return values.double().transpose(0, 1).flatten(1)


def _merged(old: Tensor, n_old: int, new: Tensor, n_new: int) -> Tensor:
    n = n_old + n_new
    by = new[:2] - old[:2]
    between = torch.stack([by[0] ** 2, by[1] ** 2, by[0] * by[1]]) * (n_old * n_new / n)
    return torch.cat([old[:2] + by * (n_new / n), old[2:] + new[2:] + between])


def _r(moments: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """(n_tracks,) of (5, n_tracks): means, sums of squares, and of products."""
    mean_a, mean_b, squares_a, squares_b, products = moments
    varies = (squares_a > n * (_CONSTANT * mean_a) ** 2) & (
        squares_b > n * (_CONSTANT * mean_b) ** 2
    )
    spread = np.sqrt(squares_a * squares_b)
    return np.divide(products, spread, out=np.full(len(mean_a), np.nan), where=varies)


def _varies(squares: Tensor, mean: Tensor, n: int) -> Tensor:
    return squares > n * (_CONSTANT * mean) ** 2


def _same(y: Tensor) -> Tensor:
    return y


def _sigmoid(y: Tensor) -> Tensor:
    return torch.sigmoid(y.double())


def _log_odds(y: Tensor) -> Tensor:
    return torch.logit(y.double(), eps=_SMALLEST)


def _log2(y: Tensor) -> Tensor:
    return torch.log2(1 + torch.where(y >= 0, y.double(), torch.nan))


def _of_logits(y: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(
        y.double(), target.double(), reduction="none"
    )


def _of_probabilities(y: Tensor, target: Tensor) -> Tensor:
    p, t = y.double().clamp(_SMALLEST, 1 - _SMALLEST), target.double()
    return -(t * p.log() + (1 - t) * torch.log1p(-p))


def _poisson(y: Tensor, target: Tensor) -> Tensor:
    rate = y.double().clamp_min(_SMALLEST)
    return rate - target.double() * rate.log()


def _squared(y: Tensor, target: Tensor) -> Tensor:
    return (y.double() - target.double()).square()


def empirical_p(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a null distribution that reaches what was seen, the latter counted in.

    >>> empirical_p(np.array([5.0, 0.5]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 1.0]
    """
    at_least = len(null) - np.searchsorted(np.sort(null), observed, side="left")
    return (1 + at_least) / (1 + len(null))
