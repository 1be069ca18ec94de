"""The demo's sequence model: a small convolutional network with motifs in superposition.

One convolution scans for every planted motif and for features of no interest (composition, short
words); a second one of width 1 mixes them into *fewer* channels than there are motifs, each
along a random direction. Only the forward strand is read, so that each motif has one orientation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.demo.motifs import PlantedMotif

N_CHANNELS = 20
BP_PER_POSITION = 8
RECEPTIVE_FIELD_BP = 26
"""Filters of 19 bp, pooled over 8."""

_FILTER_BP = RECEPTIVE_FIELD_BP - BP_PER_POSITION + 1
_N_WORDS, _WORD_BP = 12, 6
_MOTIF_GAIN, _BACKGROUND_GAIN = 3.0, 0.6
_THRESHOLD = 0.55
"""A motif filter is silent below this share of the score that its instances have on average."""
_FALSE_RATE = 3e-4
"""... and below the score that this share of the genome's base pairs reaches by chance."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One core while the block runs: these convolutions are too small to share, and threads that
    wait for each other on a busy machine take many times longer."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class DemoNetwork:
    """Weights of the network.

    Parameters
    ----------
    motifs
        What it knows.
    sample
        (n_bp,) uint8 codes, genome to set the filters' thresholds on.
    rng
        Decides directions, words and scales.
    """

    def __init__(
        self, motifs: list[PlantedMotif], sample: NDArray[np.uint8], rng: np.random.Generator
    ) -> None:
        self.n_motifs = len(motifs)
        filters, typical = [], []
        for motif in motifs:
            score = np.log2((motif.matrix + 0.01) / 0.26)
            filters.append(_centred(score))
            typical.append(float((motif.matrix * score).sum()))
        for _ in range(_N_WORDS):
            filters.append(_centred(rng.normal(size=(_WORD_BP, 4))))
        whole = np.ones((_FILTER_BP, 1))
        for bases in ((0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0)):
            filters.append(whole * (np.array(bases) - 0.5))
        self.filters = torch.tensor(np.array(filters).transpose(0, 2, 1), dtype=torch.float32)
        # instances hardly shift the quantiles of the words and of composition
        scores = self._scan(torch.tensor(sample.astype(np.int64)))
        words = scores[self.n_motifs :]
        self.word_mean, self.word_std = words.mean(1, keepdim=True), words.std(1, keepdim=True)
        mean = torch.tensor(typical)
        chance = torch.quantile(scores[: self.n_motifs, : 1 << 17], 1 - 8 * _FALSE_RATE, dim=1)
        floor = torch.minimum(torch.maximum(_THRESHOLD * mean, chance), 0.85 * mean)
        self.floor, self.reach = floor[:, None], (mean - floor)[:, None]
        directions = rng.normal(size=(N_CHANNELS, len(filters)))
        directions /= np.linalg.norm(directions, axis=0)
        directions[:, : self.n_motifs] *= _MOTIF_GAIN
        directions[:, self.n_motifs :] *= _BACKGROUND_GAIN
        scale = np.exp(rng.normal(0, 0.7, (N_CHANNELS, 1)))  # so that normalization matters
        self.mixing = torch.tensor(directions * scale, dtype=torch.float32)
        self.bias = torch.tensor(rng.normal(0, 0.3, (N_CHANNELS, 1)) * scale, dtype=torch.float32)

    def __call__(self, sequence: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Activations of the layer.

        Parameters
        ----------
        sequence
            (n_bp,) uint8 codes of A C G T; 4 is beyond the chromosome's end and counts as
            nothing.

        Returns
        -------
        ndarray
            (n_bp / 8, 20) float16.
        """
        scores = self._scan(torch.tensor(sequence.astype(np.int64)))
        motifs = torch.relu((scores[: self.n_motifs] - self.floor) / self.reach)
        words = (scores[self.n_motifs :] - self.word_mean) / self.word_std
        features = torch.cat([motifs, words])
        channels = self.mixing @ features + self.bias
        return channels.T.contiguous().numpy().astype(np.float16)

    def _scan(self, codes: torch.Tensor) -> torch.Tensor:
        """Best score of each filter over the base pairs of each position: (n_filters, n)."""
        one_hot = torch.eye(5)[:, :4][codes].T[None]
        with torch.no_grad():
            score = torch.conv1d(one_hot, self.filters, padding=_FILTER_BP // 2)
            return torch.max_pool1d(score, BP_PER_POSITION)[0]


def _centred(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (width, 4) score in the middle of a filter of `_FILTER_BP`, zero around it."""
    before = (_FILTER_BP - len(score)) // 2
    return np.pad(score, ((before, _FILTER_BP - len(score) - before), (0, 0)))
