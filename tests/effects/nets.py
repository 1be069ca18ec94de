"""A network that is linear behind its layer, and SAEs whose effect on it is known on paper."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from saeborzoi.models.layer import one_hot
from saeborzoi.models.loaders import load_model
from saeborzoi.models.model import LoadedModel, Outputs, Scale, SequenceModel
from saeborzoi.sae.model import SparseAutoencoder

N_CHANNELS, INPUT_BP = 6, 64
TRACKS = ("a", "b", "idle")


class Linear(nn.Module):
    """Outputs are weighted sums of the layer's channels; the weights of a track sum to 0, so that
    the mean that layer norm puts back moves no track. The last track reads nothing."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(4, N_CHANNELS, 5, padding="same")
        self.read = nn.Conv1d(N_CHANNELS, len(TRACKS), 1, bias=False)
        weight = self.read.weight.data
        weight -= weight.mean(1, keepdim=True)
        weight[-1] = 0
        self.last = {
            "probability": nn.Sigmoid(),
            "squashed": nn.Softplus(),
        }.get(scale, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.read(self.conv(x)))


def linear(scale: Scale = "log") -> LoadedModel:
    outputs = Outputs(TRACKS, INPUT_BP, 1, scale=scale)
    return LoadedModel(Linear(scale), INPUT_BP, outputs)


def linear_model(scale: Scale = "log") -> SequenceModel:
    return load_model("tests.effects.nets:linear", arguments={"scale": scale}, device="cpu")


def shrinking_sae(factor: float) -> SparseAutoencoder:
    """An SAE whose nodes are every channel's axis in both directions, all of them active: what is
    left of a position is its mean, and `factor` of what differs from it."""
    sae = SparseAutoencoder(N_CHANNELS, 2 * N_CHANNELS, 2 * N_CHANNELS)
    axes = torch.cat([torch.eye(N_CHANNELS), -torch.eye(N_CHANNELS)])
    sae.encoder_weight.data.copy_(axes)
    sae.decoder_weight.data.copy_(factor * axes)
    return sae


def random_sequences(n: int, n_bp: int = INPUT_BP, seed: int = 0) -> Tensor:
    """(n, 4, n_bp) one-hot."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.tensor(list(b"ACGT"), dtype=torch.uint8)
    codes = torch.randint(4, (n, n_bp), generator=generator)
    return torch.stack([one_hot(row.numpy()) for row in letters[codes]])


SMALL_TRACKS = ("first", "second", "both")


class Small(nn.Module):
    """Two channels see a word each and two the composition, four base pairs a position; a track
    reads each word and one reads both."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.scan = nn.Conv1d(4, 4, len(words[0]), padding="same", bias=False)
        weight = torch.zeros(4, 4, len(words[0]))
        for i, word in enumerate(words):
            weight[i] = one_hot(np.frombuffer(word.encode(), np.uint8))
        weight[2, 1:3], weight[3, ::3] = 0.02, 0.02
        self.scan.weight.data = weight
        self.floor = nn.Parameter(torch.tensor([8.0, 8.0, 0.0, 0.0])[:, None])
        self.pool = nn.MaxPool1d(4)
        self.read = nn.Conv1d(4, 3, 1, bias=False)
        self.read.weight.data = torch.tensor(
            [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 1.0, 0, 0]]
        )[:, :, None]  # fmt: skip
        self.bins = nn.AvgPool1d(65)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.pool(torch.relu(self.scan(x) - self.floor))
        return self.bins(self.read(layer))


def small(words: list[str]) -> LoadedModel:
    """Of 2,080 bp: 8 bins of 260 bp."""
    return LoadedModel(Small(words), 2080, Outputs(SMALL_TRACKS, 8, 260, scale="log"))
