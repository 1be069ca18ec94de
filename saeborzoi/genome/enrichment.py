"""Whether something is met more often here than in a control: in seqlets, at loci."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_Z_95 = float(stats.norm.ppf(0.975))


class OddsRatio(NamedTuple):
    """Odds ratios with their 95 % confidence intervals, float64 of the counts' common shape."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def odds_ratio(
    hits: ArrayLike, n: ArrayLike, control_hits: ArrayLike, n_control: ArrayLike
) -> OddsRatio:
    """Odds of a hit among `n` over those among `n_control` controls.

    Half a count is added to each cell (Haldane-Anscombe), so that no hit at all has a ratio too;
    the interval is Woolf's, ``ln OR ± z sqrt(sum 1 / cell)``. `scipy.stats.contingency.odds_ratio`
    has that interval for whole counts of one table only.

    Parameters
    ----------
    hits, n, control_hits, n_control
        Counts that can be broadcast against each other.

    Examples
    --------
    >>> ratio = odds_ratio([80, 0], 100, 20, 100)
    >>> ratio.value.round(2).tolist(), ratio.low.round(2).tolist(), ratio.high.round(2).tolist()
    ([15.42, 0.02], [7.77, 0.0], [30.61, 0.33])
    """
    hits, control_hits = np.asarray(hits, np.float64), np.asarray(control_hits, np.float64)
    a, b = hits + 0.5, np.asarray(n) - hits + 0.5
    c, d = control_hits + 0.5, np.asarray(n_control) - control_hits + 0.5
    log_odds = np.log(a * d / (b * c))
    reach = _Z_95 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return OddsRatio(np.exp(log_odds), np.exp(log_odds - reach), np.exp(log_odds + reach))
