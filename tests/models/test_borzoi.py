"""Borzoi's architecture with random weights, as a user would have the trained ones on disk."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerRunner, run_to
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from tests.models.narrow_borzoi import N_BINS, write_narrow_borzoi
from tests.models.test_layer import random_sequence

pytestmark = pytest.mark.slow

INPUT_BP = 16_384


@pytest.fixture(scope="session")
def borzoi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("borzoi_pytorch", reason="needs the extra saeborzoi[borzoi]")
    folder = tmp_path_factory.mktemp("borzoi")
    write_narrow_borzoi(folder)
    return folder


@pytest.fixture(scope="session")
def borzoi(borzoi_folder: Path) -> SequenceModel:
    return load_model(
        f"borzoi-pytorch:{borzoi_folder}", arguments={"input_bp": INPUT_BP}, device="cpu"
    )


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv1d_1", (608, 2, 24)),
        ("conv1d_2", (736, 4, 42)),
        ("conv1d_3", (896, 8, 78)),
        ("conv1d_4", (1056, 16, 150)),
    ],
)
def test_its_four_layers_are_known_by_name(
    borzoi: SequenceModel, layer: str, expected: tuple[int, int, int]
) -> None:
    g = layer_geometry(borzoi, layer)
    assert (g.n_channels, g.bp_per_position, g.receptive_field_bp) == expected
    assert g.offset_bp == 0
    # a tile with its halo is the whole window, up to the last bit: other kernels for other lengths
    runner = LayerRunner(borzoi, g, 64)
    x = random_sequence(4096)
    with torch.no_grad():
        whole = run_to(borzoi.module, borzoi.module.get_submodule(g.module), x[None])[0].T
    first = 40
    start = first * g.bp_per_position - runner.tiling.lead_bp
    tile = runner.tile(x[:, start : start + runner.tiling.input_bp])
    scale = float(whole.abs().max())
    assert float((tile - whole[first : first + 64]).abs().max()) < 1e-5 * scale


def test_it_predicts_tracks_by_name_from_both_heads(
    borzoi: SequenceModel, borzoi_folder: Path
) -> None:
    x = random_sequence(INPUT_BP)[None]
    assert borzoi.outputs is not None
    assert len(borzoi.outputs.tracks) == 7611
    assert borzoi.outputs.crop_bp == (INPUT_BP - 32 * N_BINS) // 2
    with torch.no_grad():
        everything = borzoi.predict(x)
        assert torch.allclose(everything, borzoi.module(x))
        name = borzoi.outputs.tracks[5000]
        some = load_model(
            f"borzoi-pytorch:{borzoi_folder}",
            arguments={"input_bp": INPUT_BP, "tracks": [name, 3]},
            device="cpu",
        )
        assert some.fingerprint == borzoi.fingerprint
        assert some.outputs is not None
        assert some.outputs.tracks == (name, borzoi.outputs.tracks[3])
        torch.testing.assert_close(some.predict(x), everything[:, [5000, 3]])
        mouse = load_model(
            f"borzoi-pytorch:{borzoi_folder}",
            arguments={"input_bp": INPUT_BP, "head": "mouse"},
            device="cpu",
        )
        torch.testing.assert_close(mouse.predict(x), mouse.module(x, is_human=False))
    assert mouse.predict(x).shape == (1, 2608, N_BINS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tracks": ["no such track"]}, "stands 0 times"),
        ({"tracks": [9999]}, "tracks 0 to 7610"),
        ({"head": "rat"}, "no rat head"),
        ({"input_bp": 1024}, "are more than an input of 1,024 bp"),
    ],
)
def test_what_it_has_not_is_refused(
    borzoi_folder: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_model(
            f"borzoi-pytorch:{borzoi_folder}",
            arguments={"input_bp": INPUT_BP, **arguments},
            device="cpu",
        )


def test_weights_that_are_not_complete_are_refused(borzoi_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_model(f"borzoi-pytorch:{tmp_path}", device="cpu")
    config = json.loads((borzoi_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_model(f"borzoi-pytorch:{tmp_path}", device="cpu")
    tensors = load_file(borzoi_folder / "model.safetensors")
    tensors.pop("res_tower.2.conv_layer.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing: res_tower\.2\.conv_layer\.bias"):
        load_model(f"borzoi-pytorch:{tmp_path}", device="cpu")


def test_the_same_weights_from_keras_give_the_same(
    borzoi: SequenceModel, borzoi_folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(borzoi_folder / "model.safetensors")
    with h5py.File(tmp_path / "model0_best.h5", "w") as file:
        for i in range(5):
            conv = "conv1d" + (f"_{i}" if i else "")
            torch_conv = f"res_tower.{2 * (i - 1)}.conv_layer" if i else "conv_dna.conv_layer"
            group = file.create_group(f"model_weights/{conv}/{conv}")
            group["kernel:0"] = tensors[f"{torch_conv}.weight"].numpy().transpose(2, 1, 0)
            group["bias:0"] = tensors[f"{torch_conv}.bias"].numpy()
            if i:
                norm = "batch_normalization" + (f"_{i - 1}" if i > 1 else "")
                group = file.create_group(f"model_weights/{norm}/{norm}")
                for theirs, ours in (("gamma", "weight"), ("beta", "bias"),
                                     ("moving_mean", "running_mean"),
                                     ("moving_variance", "running_var")):  # fmt: skip
                    group[f"{theirs}:0"] = tensors[f"res_tower.{2 * (i - 1)}.norm.{ours}"].numpy()
    stem = load_model(f"keras-h5:{tmp_path / 'model0_best.h5'}", device="cpu")
    x = random_sequence(2048)[None]
    with torch.no_grad():
        for layer in borzoi.layers:
            module = borzoi.module.get_submodule(borzoi.module_of(layer))
            own = run_to(borzoi.module, module, x)
            theirs_ = run_to(stem.module, stem.module.get_submodule(layer), x)
            assert np.array_equal(own.numpy(), theirs_.numpy()), layer
    with h5py.File(tmp_path / "model0_best.h5", "r+") as file:
        del file["model_weights/conv1d_3"]
    with pytest.raises(InputError, match="holds no layer 'conv1d_3'"):
        load_model(f"keras-h5:{tmp_path / 'model0_best.h5'}", device="cpu")
