"""Normalization constants of a layer: the maximum of each channel over every position.

How they are found, and how sae-borzoi's `<layer>_max.json` is read. What divides by them is the
SAE's business.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.activations.source import Source
from saeborzoi.errors import InputError
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.reading import is_number, read_json


class ChannelMax(NamedTuple):
    """Normalization constants of a layer.

    Attributes
    ----------
    used
        (n_channels,) float32, all > 0: what activations are divided by; 1 where `seen` is <= 0,
        as such a maximum would flip the sign or divide by zero.
    seen
        (n_channels,) float32, the maximum over all positions.
    """

    used: NDArray[np.float32]
    seen: NDArray[np.float32]

    @property
    def replaced(self) -> list[int]:
        """Channels whose maximum was <= 0."""
        return np.flatnonzero(self.seen <= 0).tolist()

    def table(self) -> pd.DataFrame:
        """One row a channel: channel, activation_max (used), activation_max_seen."""
        return pd.DataFrame(
            {
                "channel": np.arange(len(self.used), dtype=np.int32),
                "activation_max": self.used.astype(float),
                "activation_max_seen": self.seen.astype(float),
            }
        )

    def published_json(self) -> dict[str, float]:
        """sae-borzoi's form, `{"0": max, ...}`."""
        return {str(channel): float(value) for channel, value in enumerate(self.used)}


def channel_max(source: Source, progress: Progress = silent) -> ChannelMax:
    """Maximum of each channel over all positions of a source; of shards, padding included.

    sae-borzoi's definition, but that a maximum <= 0 is replaced by 1.

    Raises
    ------
    InputError
        Where it cannot be read, or holds NaN or infinity.
    """
    from saeborzoi.activations.loader import SlabPlan, to_float32  # torch: only where used

    plan = SlabPlan(source, source.everything())
    largest = np.full(source.n_channels, -np.inf, np.float32)
    done = 0
    for slab in plan.in_order():
        np.maximum(largest, to_float32(slab.activation).amax(0).numpy(), out=largest)
        done += len(slab.position)
        progress("channel maxima", done, plan.n_positions)
    return _usable(largest)


def read_channel_max(path: Path | str, n_channels: int) -> ChannelMax:
    """Read sae-borzoi's `<layer>_max.json`: `{"0": max, "1": max, ...}`, in any order.

    Raises
    ------
    InputError
        Where the file is not such a document, or its channels are not 0 ... n_channels-1.
    """
    document = read_json(Path(path))
    maxima = np.full(n_channels, np.nan, np.float32)
    try:
        if not isinstance(document, dict):
            raise ValueError(f"a JSON {type(document).__name__}")
        for key, value in document.items():
            if not re.fullmatch(r"[0-9]{1,9}", key) or int(key) >= n_channels:
                raise ValueError(f"no channel {key[:40]!r}")
            if not np.isnan(maxima[int(key)]):
                raise ValueError(f"channel {int(key)} stands twice")
            if not is_number(value):
                raise ValueError(f"channel {key!r}: {json.dumps(value)[:40]}, no number of float32")
            maxima[int(key)] = value
    except ValueError as error:
        raise InputError(
            f"{path}: not the normalization constants of {n_channels} channels ({error}); needed "
            'is {"0": maximum, "1": maximum, ...}, finite numbers; fix channel_max or n_channels'
        ) from None
    if np.isnan(maxima).any():
        raise InputError(
            f"{path}: channel {int(np.isnan(maxima).argmax())} is missing of {n_channels}; bring "
            "the file of this layer, or leave channel_max out to have it made"
        )
    return _usable(maxima)


def _usable(maxima: NDArray[np.float32]) -> ChannelMax:
    return ChannelMax(np.where(maxima > 0, maxima, np.float32(1)).astype(np.float32), maxima)
