"""The demo's sequence model: a small convolutional network with motifs in superposition.

One convolution scans for every planted motif and for features of no interest (composition, short
words); a second one of width 1 mixes them into *fewer* channels than there are motifs, each
along a random direction. Only the forward strand is read, so that each motif has one orientation.
Behind the layer an output for each planted factor reads its motif back from the channels.

`load` is the network's loader, as any model has one: `loader = "saeborzoi.demo.network:load"`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saeborzoi.demo.motifs import PlantedMotif
from saeborzoi.models.model import LoadedModel, Outputs
from saeborzoi.models.tensors import load_strictly, load_tensors
from saeborzoi.reading import read_text

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
INPUT_BP, BIN_POSITIONS = 10_240, 16
"""What the loaded model takes at once, and positions of one bin of its outputs."""
TRACKS = "tracks.txt"
_BLOCK_BP = 1 << 13
"""Bases that are scanned at once: their scores stay in the cache. A multiple of a position's."""
_RIDGE = 1e-3
_SILENT_BELOW = 0.5
"""An output is silent below this share of what a motif of full strength gives."""


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
        scores = self._sample = self._scan(torch.tensor(sample.astype(np.int64)))
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
        features = self._features(self._scan(torch.tensor(sequence.astype(np.int64))))
        channels = self.mixing @ features + self.bias
        return channels.T.contiguous().numpy().astype(np.float16)

    def module(self, names: list[str]) -> DemoModel:
        """The network as a module, with an output for each motif.

        The outputs' weights are those of a ridge regression of each motif's feature on the
        channels, over the sample of the genome that set the thresholds.

        Parameters
        ----------
        names
            Of the motifs, in their order.
        """
        module = DemoModel(names, len(self.filters))
        module.scan.weight.data = self.filters
        module.floor.data, module.reach.data = self.floor, self.reach
        module.word_mean.data, module.word_std.data = self.word_mean, self.word_std
        module.layer.weight.data = self.mixing[:, :, None]
        module.layer.bias = nn.Parameter(self.bias[:, 0])
        module.eval().requires_grad_(False)
        features = self._features(self._sample)
        channels = module.layer(features[None])[0].double()
        target = features[: self.n_motifs].double()
        centred = channels - channels.mean(1, keepdim=True)
        gram = centred @ centred.T / centred.shape[1]
        gram += _RIDGE * gram.trace() / N_CHANNELS * torch.eye(N_CHANNELS)
        cross = (target - target.mean(1, keepdim=True)) @ centred.T / centred.shape[1]
        weights = torch.linalg.solve(gram, cross.T).T
        # what the motif's own direction gives at full strength
        full = (weights * self.mixing[:, : self.n_motifs].T.double()).sum(1, keepdim=True)
        weights = weights / full
        offset = -(weights @ channels.mean(1)) - _SILENT_BELOW
        module.outputs.weight.data = weights.float()[:, :, None]
        module.outputs.bias = nn.Parameter(offset.float(), requires_grad=False)
        return module

    def _features(self, scores: Tensor) -> Tensor:
        """(n_filters, n) scores: motifs above their floor, words standardized."""
        motifs = torch.relu((scores[: self.n_motifs] - self.floor) / self.reach)
        words = (scores[self.n_motifs :] - self.word_mean) / self.word_std
        return torch.cat([motifs, words])

    def _scan(self, codes: torch.Tensor) -> torch.Tensor:
        """Best score of each filter over the base pairs of each position: (n_filters, n)."""
        reach = _FILTER_BP // 2
        beyond = codes.new_full((reach,), 4)
        codes = torch.cat([beyond, codes, beyond])
        one_hot = torch.eye(5)[:, :4]
        n = len(codes) - 2 * reach
        with torch.no_grad():
            scores = [
                torch.conv1d(one_hot[codes[at : at + _BLOCK_BP + 2 * reach]].T[None], self.filters)
                for at in range(0, n, _BLOCK_BP)
            ]
            return torch.cat([torch.max_pool1d(s, BP_PER_POSITION)[0] for s in scores], 1)


class DemoModel(nn.Module):
    """(n, 4, n_bp) one-hot to (n, n_motifs, n_bins); `layer` is what the shards hold.

    Parameters
    ----------
    names
        Of the motifs.
    n_filters
        Motifs, words and composition.
    """

    def __init__(self, names: list[str], n_filters: int) -> None:
        super().__init__()
        self.names = names
        n_others = n_filters - len(names)
        self.scan = nn.Conv1d(4, n_filters, _FILTER_BP, padding=_FILTER_BP // 2, bias=False)
        self.pool = nn.MaxPool1d(BP_PER_POSITION)
        self.register_buffer("floor", torch.zeros(len(names), 1))
        self.register_buffer("reach", torch.ones(len(names), 1))
        self.register_buffer("word_mean", torch.zeros(n_others, 1))
        self.register_buffer("word_std", torch.ones(n_others, 1))
        self.layer = nn.Conv1d(n_filters, N_CHANNELS, 1)
        self.outputs = nn.Conv1d(N_CHANNELS, len(names), 1)
        self.bins = nn.AvgPool1d(BIN_POSITIONS)

    def features(self, one_hot: Tensor) -> Tensor:
        """(n, n_filters, n_positions): motifs above their floor, words standardized."""
        scores = self.pool(self.scan(one_hot))
        n = len(self.names)
        motifs = torch.relu((scores[:, :n] - self.floor) / self.reach)
        return torch.cat([motifs, (scores[:, n:] - self.word_mean) / self.word_std], dim=1)

    def forward(self, one_hot: Tensor) -> Tensor:
        return self.bins(torch.relu(self.outputs(self.layer(self.features(one_hot)))))


def load(weights: Path | str) -> LoadedModel:
    """The demo's model from `network.safetensors`, beside which `tracks.txt` names its outputs.

    Raises
    ------
    InputError
        Where a file is missing, or a tensor.
    """
    path = Path(weights)
    tensors = load_tensors(path)
    names = read_text(path.with_name(TRACKS)).splitlines()
    module = DemoModel(names, tensors["scan.weight"].shape[0])
    load_strictly(module, tensors, str(path))
    bin_bp = BP_PER_POSITION * BIN_POSITIONS
    outputs = Outputs(tuple(names), INPUT_BP // bin_bp, bin_bp)
    return LoadedModel(module, INPUT_BP, outputs, {"demo_conv": "layer"})


def _centred(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (width, 4) score in the middle of a filter of `_FILTER_BP`, zero around it."""
    before = (_FILTER_BP - len(score)) // 2
    return np.pad(score, ((before, _FILTER_BP - len(score) - before), (0, 0)))
