"""A layer is described by looking at it, and tiles give what whole sequences do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerRunner, Tiling, one_hot, reverse_complement, run_to
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import describe_modules, layer_geometry, table
from tests.models.nets import model_of


def random_sequence(n_bp: int, seed: int = 0) -> Tensor:
    letters = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(seed).integers(4, size=n_bp)]
    return one_hot(letters)


@pytest.mark.parametrize(
    ("net", "module", "expected"),
    [
        # channels, base pairs a position, receptive field, offset: by hand
        ("padded", "dna", (16, 1, 7, 0)),
        ("padded", "pool", (16, 2, 8, 0)),
        ("padded", "conv", (12, 2, 16, 0)),  # 7 + 1 + 4 * 2
        ("padded", "second", (12, 2, 16, 0)),  # the name that people know it by
        ("valid", "stem.0", (10, 1, 9, 4)),
        ("valid", "stem", (10, 3, 11, 4)),
        ("attending", "conv", (8, 4, 4, 0)),
        ("attending", "norm", (8, 4, 4, 0)),
        ("changed_after", "conv", (6, 1, 3, 0)),
    ],
)
def test_geometry_is_what_the_operations_say(
    net: str, module: str, expected: tuple[int, ...]
) -> None:
    g = layer_geometry(model_of(net), module)
    measured = (g.n_channels, g.bp_per_position, g.receptive_field_bp, g.offset_bp)
    assert measured == expected
    assert not g.is_whole
    assert g.channels_last == (module == "norm")


def test_what_a_pooling_or_a_weight_of_0_hides_from_gradients_counts() -> None:
    model = model_of("padded")
    # the outer weights of the first filter are 0, as those of a narrow filter would be
    model.module.dna.weight.data[:, :, [0, 6]] = 0
    assert layer_geometry(model, "conv").receptive_field_bp == 16


@pytest.mark.parametrize(("net", "module"), [("padded", "conv"), ("valid", "stem"),
                                             ("attending", "norm")])  # fmt: skip
def test_gradients_see_the_same(net: str, module: str) -> None:
    model = model_of(net)
    g = layer_geometry(model, module)
    touched = torch.zeros(300, dtype=torch.bool)
    position = 20
    for seed in range(30):
        x = random_sequence(300, seed)[None].requires_grad_()
        output = run_to(model.module, model.module.get_submodule(module), x)
        at = output[:, position] if g.channels_last else output[:, :, position]
        touched |= torch.autograd.grad(at.square().sum(), x)[0].abs().sum((0, 1)) > 0
    positions = touched.nonzero()
    first = g.offset_bp - g.before_bp + position * g.bp_per_position
    assert (int(positions[0]), int(positions[-1]) + 1) == (first, first + g.receptive_field_bp)


@pytest.mark.parametrize(("net", "module"), [("attending", "mix"), ("numbered", "conv")])
def test_a_layer_that_tiles_would_get_wrong_needs_whole_windows(net: str, module: str) -> None:
    model = model_of(net)
    g = layer_geometry(model, module)
    assert g.is_whole
    assert Tiling.of(g, 7).input_bp == model.input_bp
    x = random_sequence(model.input_bp)
    tile = LayerRunner(model, g).tile(x)
    whole = run_to(model.module, model.module.get_submodule(module), x[None])
    assert torch.equal(tile, whole[0] if g.channels_last else whole[0].T)


@pytest.mark.parametrize("n_positions", [1, 8, 33, 64])
@pytest.mark.parametrize(("net", "module"), [("padded", "conv"), ("padded", "pool"),
                                             ("valid", "stem"), ("attending", "norm")])  # fmt: skip
def test_tiles_with_their_halo_are_the_whole_sequence(
    net: str, module: str, n_positions: int
) -> None:
    model = model_of(net)
    geometry = layer_geometry(model, module)
    runner = LayerRunner(model, geometry, n_positions)
    bp, n = geometry.bp_per_position, 100
    x = random_sequence(4 * n * bp + 100)
    layer = model.module.get_submodule(module)
    with torch.no_grad():
        whole = run_to(model.module, layer, x[None])[0]
    whole = whole if geometry.channels_last else whole.T
    for first in range(20, 20 + n, n_positions):
        start = geometry.offset_bp + first * bp - runner.tiling.lead_bp
        tile = runner.tile(x[:, start : start + runner.tiling.input_bp])
        assert tile.shape == (n_positions, geometry.n_channels)
        torch.testing.assert_close(tile, whole[first : first + n_positions], rtol=0, atol=1e-6)


def test_a_tile_off_the_poolings_phase_would_be_wrong() -> None:
    # what keeps it right is that starts are counted in positions from the window's start
    model = model_of("padded")
    runner = LayerRunner(model, layer_geometry(model, "conv"), 32)
    x = random_sequence(runner.tiling.input_bp + 2)
    right = runner.tile(x[:, 2:])
    shifted = runner.tile(x[:, 1:-1])
    assert not torch.allclose(shifted[1:], right[:-1], atol=1e-3)
    assert torch.allclose(runner.tile(x[:, :-2])[1:], right[:-1], atol=1e-6)


def test_threads_change_no_bit() -> None:
    model = model_of("padded")
    runner = LayerRunner(model, layer_geometry(model, "conv"), 512)
    x = random_sequence(runner.tiling.input_bp)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = runner.tile(x)
        torch.set_num_threads(2)
        assert torch.equal(runner.tile(x), one)
    finally:
        torch.set_num_threads(before)


def test_what_comes_after_the_layer_is_not_computed_and_changes_nothing() -> None:
    model = model_of("changed_after")
    x = random_sequence(128)
    conv: Any = model.module.conv
    expected = torch.conv1d(x[None], conv.weight, conv.bias, padding="same")
    assert torch.equal(run_to(model.module, conv, x[None]), expected)
    # the hook is gone: the whole model runs again
    assert torch.equal(model.module(x[None]), expected + 1)


def test_looking_leaves_no_trace_in_the_model() -> None:
    # attention would keep the positions of a probe for good
    model = model_of("attending")
    layer_geometry(model, "mix")
    describe_modules(model)
    assert model.module.cached is None


def test_every_module_is_listed_with_what_speaks_against_it() -> None:
    modules = {d.name: d for d in describe_modules(model_of("padded"))}
    assert list(modules) == ["dna", "pool", "norm", "conv", "tail.0", "tail.1", "tail", "skip"]
    assert modules["dna"].shape == (1, 16, 256)
    assert modules["conv"].geometry == layer_geometry(model_of("padded"), "conv")
    assert modules["tail.1"].is_changed
    assert not modules["conv"].is_changed
    text = table(list(modules.values()))
    assert "changed in place afterwards" in text
    modules = {d.name: d for d in describe_modules(model_of("attending"))}
    assert modules["mix"].geometry is not None
    assert modules["mix"].geometry.is_whole
    assert "whole windows" in modules["mix"].reason


def test_a_module_that_is_called_several_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(
        "from torch import nn\n\n"
        "class Twice(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.pool = nn.MaxPool1d(2)\n"
        "        self.idle = nn.ReLU()\n"
        "        self.conv = nn.Conv1d(4, 4, 3, padding='same')\n"
        "    def forward(self, x):\n"
        "        return self.pool(self.conv(self.pool(x))).mean(2)\n\n"
        "def load():\n    return Twice()\n"
    )
    model = load_model(f"{tmp_path}/twice.py:load", input_bp=64, device="cpu")
    with pytest.raises(InputError, match="calls it 2 times"):
        layer_geometry(model, "pool")
    with pytest.raises(InputError, match="does not call it"):
        layer_geometry(model, "idle")
    with pytest.raises(InputError, match="no module 'cnov'; the nearest are 'conv'"):
        layer_geometry(model, "cnov")
    assert "calls it 2 times" in table(describe_modules(model))


def test_a_dense_layer_is_no_layer() -> None:
    with pytest.raises(InputError, match=r"output has shape \(1, 2\)"):
        layer_geometry(model_of("valid"), "final")


def test_a_model_that_fails_on_its_own_length_is_refused() -> None:
    model = load_model("tests.models.nets:valid", input_bp=150, device="cpu")
    # the loader's own length is overruled, and the dense layer does not fit it
    with pytest.raises(InputError, match="fails on a sequence of its own length of 150 bp"):
        layer_geometry(model, "stem")


def test_memory_that_is_too_small_is_told_with_the_tile_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("padded")
    runner = LayerRunner(model, layer_geometry(model, "conv"), 2048)
    plain = nn.Conv1d.forward

    def small(self: nn.Conv1d, x: Tensor) -> Tensor:
        if x.shape[2] > 700:
            raise torch.OutOfMemoryError("no room")
        return plain(self, x)

    monkeypatch.setattr(nn.Conv1d, "forward", small)
    with pytest.raises(InputError, match=r"256 fit: set tile_positions = 256"):
        runner.tile(random_sequence(runner.tiling.input_bp))


def test_letters_and_strands() -> None:
    x = one_hot(np.frombuffer(b"AcGTNx", np.uint8))
    assert x.argmax(0).tolist()[:4] == [0, 1, 2, 3]
    assert x[:, 4:].sum() == 0
    forward = one_hot(np.frombuffer(b"AACGN", np.uint8))
    assert torch.equal(reverse_complement(forward), one_hot(np.frombuffer(b"NCGTT", np.uint8)))
