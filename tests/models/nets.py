"""Small networks of every kind that a layer's geometry depends on, with the answers by hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from saeborzoi.models.loaders import load_model
from saeborzoi.models.model import LoadedModel, Outputs, SequenceModel


class Padded(nn.Module):
    """Borzoi's form in small: same-padded convolutions, pooling by 2, a skip past the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.dna = nn.Conv1d(4, 16, 7, padding="same")
        self.pool = nn.MaxPool1d(2)
        self.norm = nn.BatchNorm1d(16)
        self.conv = nn.Conv1d(16, 12, 5, padding="same")
        self.tail = nn.Sequential(nn.GELU(), nn.Conv1d(12, 3, 1))
        self.skip = nn.Conv1d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.dna(x))
        conv = self.conv(torch.relu(self.norm(x)))
        y = self.tail(conv)
        y += self.skip(x)
        return y


class Valid(nn.Module):
    """ExplaiNN's form: an unpadded convolution of 9, pooling by 3; then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(4, 10, 9), nn.ReLU(), nn.MaxPool1d(3))
        self.final = nn.Linear(10 * 30, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.stem(x).flatten(1))


class Attending(nn.Module):
    """A convolution, then attention over all positions, which are its first axis but one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.cached: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x).transpose(1, 2))
        if self.cached is None:
            self.cached = torch.linspace(0, 1, x.shape[1])[:, None]
        weights = (x @ x.transpose(1, 2)).softmax(-1)
        return self.mix(weights @ x + self.cached[: x.shape[1]])


class Numbered(nn.Module):
    """Adds a number to each position before the layer: local, but tiles would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.dna = nn.Conv1d(4, 8, 5, padding="same")
        self.conv = nn.Conv1d(8, 6, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        x = self.dna(x)
        return self.conv(x + torch.arange(x.shape[2], device=x.device) * 0.1)


class ChangedAfter(nn.Module):
    """The layer's output is changed in place by what comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += 1
        return y


def make(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A network with seeded weights, batch norm that does something, in training mode, as a
    constructor leaves it."""
    torch.manual_seed(seed)
    module = kind()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    return module


def padded(weights: Path | None = None) -> LoadedModel:
    """A loader as a user writes one."""
    return LoadedModel(make(Padded), 256, Outputs(("a", "b", "c"), 128, 2), {"second": "conv"})


def valid() -> LoadedModel:
    return LoadedModel(make(Valid), 98, Outputs(("a", "b"), 1, 98, scale="logit"))


def attending() -> LoadedModel:
    return LoadedModel(make(Attending), 256, Outputs(tuple("abcdefgh"), 64, 4))


def attending_right() -> LoadedModel:
    """The same, its outputs in the order that is asked for."""
    module = make(Attending)
    outputs = Outputs(tuple("abcdefgh"), 64, 4)
    return LoadedModel(module, 256, outputs, forward=lambda x: module(x).transpose(1, 2))


def numbered() -> LoadedModel:
    return LoadedModel(make(Numbered), 128)


def changed_after() -> LoadedModel:
    return LoadedModel(make(ChangedAfter), 128)


def changed_output() -> LoadedModel:
    return LoadedModel(make(ChangedAfter), 128, Outputs(tuple("abcdef"), 128, 1))


def bare() -> nn.Module:
    return make(Padded)


def no_module() -> str:
    return "nothing"


def failing() -> nn.Module:
    raise RuntimeError("the file is elsewhere")


def model_of(function: str) -> SequenceModel:
    """A loaded network of this module, on the CPU."""
    return load_model(f"tests.models.nets:{function}", device="cpu")
