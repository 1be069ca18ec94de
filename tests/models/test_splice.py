"""Another tensor in a layer's place: nothing else changes, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saeborzoi.errors import InputError
from saeborzoi.models.layer import one_hot, run_to
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice, bypass
from tests.models.nets import model_of

LAYERS = [
    ("padded", "dna"),  # a convolution before a pooling
    ("padded", "norm"),  # batch norm
    ("padded", "conv"),  # a skip goes past it
    ("valid", "stem"),  # a group of modules, dense layers behind
    ("attending_right", "norm"),  # positions before channels
    ("attending_right", "mix"),
    ("changed_output", "conv"),  # changed in place by what comes after
]


def sequences(model: SequenceModel, n: int = 3, seed: int = 0) -> Tensor:
    letters = np.frombuffer(b"ACGT", np.uint8)
    rng = np.random.default_rng(seed)
    return torch.stack([one_hot(letters[rng.integers(4, size=model.input_bp)]) for _ in range(n)])


def splice_of(net: str, module: str) -> Splice:
    model = model_of(net)
    return Splice(model, layer_geometry(model, module))


@pytest.mark.parametrize(("net", "module"), LAYERS)
def test_the_identity_is_the_model_bit_for_bit(net: str, module: str) -> None:
    splice = splice_of(net, module)
    x = sequences(splice.model)
    expected = splice.model.predict(x)
    assert torch.equal(splice.predict(x, lambda layer: layer), expected)
    assert torch.equal(splice.predict(x, torch.clone), expected)
    # the hook is gone
    assert torch.equal(splice.model.predict(x), expected)


@pytest.mark.parametrize(("net", "module"), LAYERS)
def test_what_is_put_there_is_what_the_model_goes_on_with(net: str, module: str) -> None:
    """The layer of one sequence in the place of another's, in the right order of axes."""
    splice = splice_of(net, module)
    x = sequences(splice.model)
    layer, y = splice.layer(x)
    assert layer.shape[2] == splice.geometry.n_channels
    whole = run_to(splice.model.module, splice.model.module.get_submodule(module), x)
    assert torch.equal(layer, whole if splice.geometry.channels_last else whole.transpose(1, 2))
    if (net, module) not in {("padded", "conv"), ("padded", "norm")}:  # a skip goes past
        swapped = splice.predict(x, lambda _: layer.flip(0))
        assert torch.equal(swapped, y.flip(0))
    changed = splice.predict(x, lambda given: given + 1)
    assert not torch.allclose(changed, y)


def test_a_change_reaches_what_is_behind_it_alone() -> None:
    splice = splice_of("padded", "conv")
    x = sequences(splice.model)
    layer, y = splice.layer(x)

    def one_position(given: Tensor) -> Tensor:
        given[1, 40, 3] += 1
        return given

    moved = (splice.predict(x, one_position) != y).any(1).nonzero().tolist()
    assert moved == [[1, 40]]  # what comes after has a width of one position
    tail = splice.model.module.get_submodule("tail")
    by_hand = tail(layer.transpose(1, 2).contiguous())
    skipped = y - by_hand
    at_zero = splice.predict(x, torch.zeros_like)
    expected = tail(torch.zeros_like(layer).transpose(1, 2)) + skipped
    torch.testing.assert_close(at_zero, expected, rtol=0, atol=1e-5)


def test_changes_in_place_after_the_layer_reach_neither_side() -> None:
    splice = splice_of("changed_output", "conv")
    x = sequences(splice.model)
    kept: list[Tensor] = []

    def keep(given: Tensor) -> Tensor:
        kept.append(given)
        return given

    splice.predict(x, keep)
    convolved = run_to(splice.model.module, splice.model.module.get_submodule("conv"), x)
    assert torch.equal(kept[0], convolved.transpose(1, 2))
    # a constant that is used again and again, as an ablation's mean
    constant = torch.ones(splice.geometry.n_channels)
    for _ in range(2):
        y = splice.predict(x, lambda given: constant.expand_as(given))
        assert (y == 2).all()
    assert (constant == 1).all()


def test_a_change_in_place_stays_in_the_layer(tmp_path: Path) -> None:
    """A dropout returns what it was given, which the skip past it reads, too."""
    (tmp_path / "skipped.py").write_text(
        "from torch import nn\n"
        "from saeborzoi.models.model import LoadedModel, Outputs\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv1d(4, 6, 3, padding='same')\n"
        "        self.drop = nn.Dropout()\n"
        "    def forward(self, x):\n"
        "        y = self.conv(x)\n"
        "        return self.drop(y) + y\n\n"
        "def load():\n    return LoadedModel(Net(), 64, Outputs(tuple('abcdef'), 64, 1))\n"
    )
    model = load_model(f"{tmp_path}/skipped.py:load", device="cpu")
    splice = Splice(model, layer_geometry(model, "drop"))
    x = sequences(model)
    torch.testing.assert_close(splice.predict(x, Tensor.zero_), model.predict(x) / 2)


def test_gradients_begin_at_the_layer() -> None:
    splice = splice_of("padded", "conv")
    x = sequences(splice.model, 1)
    layer, _ = splice.layer(x)
    leaf = layer.detach().requires_grad_()
    splice.predict(x, lambda _: leaf)[0, 0, 10].backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum(2).nonzero().tolist() == [[0, 10]]


def test_half_precision_stays_the_models_own() -> None:
    model = load_model("tests.models.nets:padded", device="cpu", dtype="bfloat16")
    splice = Splice(model, layer_geometry(model, "conv"))
    x = sequences(model)
    dtypes: list[torch.dtype] = []

    def product(given: Tensor) -> Tensor:
        dtypes.append((given @ torch.eye(given.shape[2])).dtype)
        return given

    assert torch.equal(splice.predict(x, product), model.predict(x))
    # what is put there is not rounded as the model's own products are
    assert dtypes == [torch.float32]


def test_the_bypass_is_measured() -> None:
    def share(name: str, module: str) -> np.ndarray:
        splice = splice_of(name, module)
        return bypass(splice, sequences(splice.model), sequences(splice.model, seed=1))

    for name, module in (("padded", "dna"), ("valid", "stem"), ("attending_right", "mix")):
        assert (share(name, module) == 0).all()
    # the skip goes past both: by hand, its own change over the whole change
    splice = splice_of("padded", "conv")
    one, other = sequences(splice.model), sequences(splice.model, seed=1)
    net: Any = splice.model.module
    skip = [net.skip(net.pool(net.dna(x))) for x in (one, other)]
    whole = [splice.model.predict(x) for x in (one, other)]
    expected = (skip[1] - skip[0]).square().sum((0, 2)) / (whole[1] - whole[0]).square().sum((0, 2))
    np.testing.assert_allclose(share("padded", "conv"), expected.numpy(), rtol=1e-4)
    assert (share("padded", "norm") > 0.01).all()
    # the same sequences: nothing moves, so that there is no share
    assert np.isnan(bypass(splice, one, one)).all()


def test_what_cannot_be_spliced_is_refused() -> None:
    splice = splice_of("padded", "conv")
    x = sequences(splice.model)
    with pytest.raises(InputError, match=r"\(3, 128, 11\) was given in the place .*\(3, 128, 12\)"):
        splice.predict(x, lambda given: given[:, :, 1:])
    with pytest.raises(InputError, match="holds NaN or infinity"):
        splice.predict(x, lambda given: given / 0)
    with pytest.raises(InputError, match="model takes 256 bp"):
        splice.predict(x[:, :, 1:], lambda given: given)
    # nothing is left behind by what failed
    assert torch.equal(splice.predict(x, torch.clone), splice.model.predict(x))
    with pytest.raises(InputError, match="no outputs"):
        splice_of("numbered", "conv").predict(sequences(model_of("numbered")), torch.clone)


def test_a_module_that_is_called_twice_or_never_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strands.py").write_text(
        "from torch import nn\n"
        "from saeborzoi.models.model import LoadedModel, Outputs\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv1d(4, 6, 3, padding='same')\n"
        "        self.idle = nn.Conv1d(4, 6, 3, padding='same')\n"
        "    def forward(self, x):\n"
        "        return self.conv(x)\n\n"
        "def load():\n"
        "    net = Net()\n"
        "    both = lambda x: net(x) + net(x.flip(1, 2)).flip(2)\n"
        "    return LoadedModel(net, 64, Outputs(tuple('abcdef'), 64, 1), forward=both)\n"
    )
    model = load_model(f"{tmp_path}/strands.py:load", device="cpu")
    geometry = layer_geometry(model, "conv")  # the module itself calls it once
    x = sequences(model)
    with pytest.raises(InputError, match="conv: a prediction calls it more than once"):
        Splice(model, geometry).predict(x, torch.clone)
    with pytest.raises(InputError, match="idle: a prediction does not call it"):
        Splice(model, replace(geometry, module="idle")).predict(x, torch.clone)
    assert torch.equal(model.predict(x), model.predict(x))
