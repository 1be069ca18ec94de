"""Activations made from a known dictionary, and how much of it an SAE found.

The measure for training recipes: real layers do not say what their features are. Nothing of the
pipeline needs this.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.hyperparameters import derived_seed
from saeborzoi.settings.sections import Layer, ShardSet

Float32s = NDArray[np.float32]
_FREQUENCY_RANGE = 30.0
"""The commonest feature is active this many times as often as the rarest."""
_LOG_SPREAD = 0.8
"""Standard deviation of the logarithm of a feature's strength: a heavy tail."""


class Recovery(NamedTuple):
    """How much of the dictionary an SAE found.

    Attributes
    ----------
    mmcs
        Mean over true features of the largest cosine similarity with any decoder row.
    recovered_fraction
        Share of true features with a cosine similarity above 0.9.
    """

    mmcs: float
    recovered_fraction: float


@dataclass(frozen=True)
class KnownDictionary:
    """A sparse linear model of a layer: ``x = offset + sum of active features + noise``.

    Features point in random directions, are active independently, with frequencies log-uniform
    over a factor of 30 and log-normal strengths; the offset is common to all positions.

    Attributes
    ----------
    n_channels, n_features
        Sizes.
    n_active
        Mean number of active features a position.
    noise
        Share of the variance that is Gaussian noise.
    seed
        Of the dictionary itself.
    """

    n_channels: int = 608
    n_features: int = 1200
    n_active: float = 20.0
    noise: float = 0.12
    seed: int = 0

    def _rng(self, *what: object) -> np.random.Generator:
        return np.random.default_rng(derived_seed("known dictionary", self.seed, *what))

    @cached_property
    def directions(self) -> Float32s:
        """(n_features, n_channels) float32, norm 1."""
        rows = self._rng("directions").standard_normal((self.n_features, self.n_channels))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    @cached_property
    def frequency(self) -> Float32s:
        """(n_features,) float32, share of positions where each feature is active."""
        spread = np.exp(
            self._rng("frequency").uniform(0, np.log(_FREQUENCY_RANGE), self.n_features)
        )
        return np.minimum(spread * self.n_active / spread.sum(), 0.5).astype(np.float32)

    @cached_property
    def offset(self) -> Float32s:
        """(n_channels,) float32, mean of every position; of norm 1."""
        values = self._rng("offset").standard_normal(self.n_channels)
        return (values / np.linalg.norm(values)).astype(np.float32)

    @cached_property
    def noise_std(self) -> float:
        """Standard deviation of the noise of one channel."""
        second_moment = np.exp(2 * _LOG_SPREAD**2)
        first_moment = np.exp(_LOG_SPREAD**2 / 2)
        p = self.frequency.astype(float)
        signal = (p * second_moment - (p * first_moment) ** 2).sum()
        return float(np.sqrt(signal * self.noise / (1 - self.noise) / self.n_channels))

    def positions(self, n: int, *draw: object) -> tuple[Float32s, scipy.sparse.csr_array]:
        """Draw positions.

        Parameters
        ----------
        n
            How many.
        *draw
            Names the draw; the same name gives the same positions.

        Returns
        -------
        (x, z)
            (n, n_channels) float32 activations; (n, n_features) true strengths, sparse.
        """
        rng = self._rng("positions", *draw)
        active = rng.random((n, self.n_features), np.float32) < self.frequency
        strength = np.exp(_LOG_SPREAD * rng.standard_normal(int(active.sum()), np.float32))
        ends = np.concatenate([[0], np.cumsum(active.sum(1))])
        z = scipy.sparse.csr_array(
            (strength, np.nonzero(active)[1], ends), shape=(n, self.n_features)
        )
        noise = rng.standard_normal((n, self.n_channels), np.float32)
        return z @ self.directions + self.offset + np.float32(self.noise_std) * noise, z

    def write(
        self, folder: Path, n_sequences: int, n_positions: int, draw: str, n_per_shard: int = 16
    ) -> ShardSet:
        """Write float16 shards and their windows in the published form.

        Parameters
        ----------
        folder
            Made if need be.
        n_sequences, n_positions
            Size of the set; sequences follow each other on one chromosome, 1 bp a position.
        draw
            Names the draw, e.g. "train".
        n_per_shard
            Sequences of each shard; the last may have fewer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["\t0\t1\t2\tchunk_ind\tinner_ind"]
        for shard, first in enumerate(range(0, n_sequences, n_per_shard)):
            n = min(n_per_shard, n_sequences - first)
            with h5py.File(folder / f"activations_{shard}.h5", "w") as file:
                data = file.create_dataset(
                    "activations", (n, n_positions, self.n_channels), np.float16
                )
                for row in range(n):
                    i = first + row
                    data[row] = self.positions(n_positions, draw, i)[0].astype(np.float16)
                    lines.append(
                        f"{i}\tchr1\t{i * n_positions}\t{(i + 1) * n_positions}\t{shard}\t{row}"
                    )
        shard_set = self.shard_set(folder)
        shard_set.folder_and_windows[1].write_text("\n".join(lines) + "\n")
        return shard_set

    def shard_set(self, folder: Path) -> ShardSet:
        """What `write` wrote there."""
        return ShardSet(shards=folder, windows=folder / "train_seqs.bed")

    def layer(self, train: ShardSet, validation: ShardSet | None = None) -> Layer:
        """Settings of the layer whose activations these are."""
        return Layer(
            name="known",
            n_channels=self.n_channels,
            bp_per_position=1,
            seqlet_width_bp=14,
            train=train,
            validation=validation,
        )

    def recovery(self, sae: SparseAutoencoder) -> Recovery:
        """Compare decoder rows with the true features as the SAE sees them.

        The SAE sees positions divided by the channel maxima and without their mean over the
        channels; the true directions are taken there too.
        """
        true = torch.from_numpy(self.directions) / sae.channel_max.cpu()
        true = torch.nn.functional.normalize(true - true.mean(1, keepdim=True), dim=1)
        rows = torch.nn.functional.normalize(sae.decoder_weight.detach().cpu(), dim=1)
        best = (true @ rows.T).amax(1)
        return Recovery(float(best.mean()), float((best > 0.9).float().mean()))

    def oracle_fvu(self, n: int = 4096) -> float:
        """FVU of the true features at their true positions, strengths by least squares: what
        no SAE with as many active nodes is expected to beat by much."""
        x, z = self.positions(n, "oracle")
        error = 0.0
        for i in range(n):
            rows = self.directions[z.indices[z.indptr[i] : z.indptr[i + 1]]]
            target = x[i] - self.offset
            fit = np.linalg.lstsq(rows.T, target, rcond=None)[0] if len(rows) else np.zeros(0)
            error += float(((target - fit @ rows) ** 2).sum())
        return error / float(((x - x.mean(0)) ** 2).sum())
