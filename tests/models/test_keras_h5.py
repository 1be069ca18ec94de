"""A Keras model of layers in a row, rebuilt from its file, against the same arithmetic in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from saeborzoi.errors import InputError
from saeborzoi.models.loaders import load_model
from tests.models.test_layer import random_sequence

N_BP = 60


def layer(kind: str, name: str, **options: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **options}}


LAYERS = [
    layer("InputLayer", "input", batch_input_shape=[None, N_BP, 4]),
    layer("Conv1D", "motifs", padding="same", activation="relu", strides=[1], dilation_rate=[1]),
    layer("BatchNormalization", "norm", epsilon=0.01),
    layer("MaxPooling1D", "pool", pool_size=[4], strides=[4], padding="valid"),
    layer("Dropout", "drop"),
    layer("Conv1D", "words", padding="valid", activation="linear"),
    layer("Flatten", "flat"),
    layer("Dense", "out", activation="sigmoid"),
]
RNG = np.random.default_rng(0)
WEIGHTS = {
    "motifs": {"kernel": RNG.normal(size=(6, 4, 8)), "bias": RNG.normal(size=8)},
    "norm": {
        "gamma": RNG.normal(size=8),
        "beta": RNG.normal(size=8),
        "moving_mean": RNG.normal(size=8),
        "moving_variance": RNG.uniform(0.5, 2, 8),
    },
    "words": {"kernel": RNG.normal(size=(3, 8, 5)) / 5},
    "out": {"kernel": RNG.normal(size=(13 * 5, 2)) / 9, "bias": RNG.normal(size=2)},
}


def write(path: Path, layers: list[dict[str, Any]], kind: str = "Sequential") -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": kind, "config": {"name": "s", "layers": layers}}
        )
        for name, tensors in WEIGHTS.items():
            for short, values in tensors.items():
                file[f"model_weights/{name}/{name}/{short}:0"] = values.astype(np.float32)
    return path


def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(60, 4) to the pooled positions (15, 8) and the outputs (2,), positions first."""

    def conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        width = len(kernel)
        return np.stack(
            [np.einsum("wc,wco->o", x[i : i + width], kernel) for i in range(len(x) - width + 1)]
        )

    w = WEIGHTS
    padded = np.pad(x, ((2, 3), (0, 0)))  # TensorFlow's "same" of 6: the larger half behind
    y = np.maximum(conv(padded, w["motifs"]["kernel"]) + w["motifs"]["bias"], 0)
    n = w["norm"]
    y = (y - n["moving_mean"]) / np.sqrt(n["moving_variance"] + 0.01) * n["gamma"] + n["beta"]
    y = y.reshape(15, 4, 8).max(1)
    z = conv(y, w["words"]["kernel"]).reshape(-1)
    return y, 1 / (1 + np.exp(-(z @ w["out"]["kernel"] + w["out"]["bias"])))


def test_it_is_what_its_layers_compute(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", LAYERS)
    model = load_model(f"keras-h5:{path}", arguments={"tracks": ["a", "b"]}, device="cpu")
    x = random_sequence(N_BP)
    pooled, out = by_hand(x.T.double().numpy())
    assert model.input_bp == N_BP
    assert model.outputs is not None
    assert model.outputs.tracks == ("a", "b")
    np.testing.assert_allclose(model.predict(x[None])[0, :, 0], out, rtol=1e-4)
    with torch.no_grad():
        activations = model.module[:4](x[None])[0].T.numpy()
    np.testing.assert_allclose(activations, pooled, rtol=1e-4, atol=1e-5)


def test_it_ends_at_the_first_layer_that_is_not_known(tmp_path: Path) -> None:
    layers = [*LAYERS[:4], layer("LSTM", "memory"), *LAYERS[4:]]
    model = load_model(f"keras-h5:{write(tmp_path / 'm.h5', layers)}", device="cpu")
    assert [name for name, _ in model.module.named_children()] == [
        "motifs", "motifs_activation", "norm", "pool",
    ]  # fmt: skip
    assert model.outputs is None


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ([layer("LSTM", "memory")], "Sequential", "first layer is none that is read"),
        (LAYERS, "Functional", "class 'Functional'"),
        ([layer("Conv1D", "absent", padding="same")], "Sequential", "holds no layer 'absent'"),
        (
            [layer("Conv1D", "motifs", padding="same", strides=[2])],
            "Sequential",
            "strides and same padding",
        ),
        (
            [layer("Conv1D", "motifs", padding="same", activation="mish")],
            "Sequential",
            "activation 'mish' is not read",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, layers: list[dict[str, Any]], kind: str, message: str
) -> None:
    path = write(tmp_path / "m.h5", layers, kind)
    with pytest.raises(InputError, match=message):
        load_model(f"keras-h5:{path}", device="cpu")


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_text("no")
    with pytest.raises(InputError, match="not a complete HDF5"):
        load_model(f"keras-h5:{tmp_path / 'm.h5'}", device="cpu")
