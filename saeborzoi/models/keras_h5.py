"""Convolutional models saved by Keras as `.h5`, without TensorFlow.

Read is the path from the input through layers in a row that are known here; it ends at the first
that is not. Of Borzoi and its relatives that is the stem with all convolutions that sae-borzoi
uses. Layers keep Keras's names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from saeborzoi.errors import InputError
from saeborzoi.models.model import LoadedModel, Outputs
from saeborzoi.models.tensors import load_strictly

_BORZOI_BLOCKS = 4
_BN_EPS = 1e-3
"""Keras's default, which is not PyTorch's."""


def load_keras_h5(path: Path, tracks: list[str] | None = None) -> LoadedModel:
    """The layers of a `.h5` file that follow its input.

    Where the file holds the model's configuration (`model.save`), layers are built as it says;
    where it holds weights alone, it must be Borzoi's, whose stem is known.

    Parameters
    ----------
    path
        The file.
    tracks
        Names of the outputs, where the file holds a whole model in which every layer is known.

    Raises
    ------
    InputError
        Where the file cannot be read, lacks a tensor, or no layer can be built.
    """
    try:
        with h5py.File(path, "r") as file:
            weights = file.get("model_weights", file)
            config = file.attrs.get("model_config")
            if config is None:
                return LoadedModel(_borzoi_stem(weights, path), 524_288)
            return _from_config(json.loads(config), weights, path, tracks)
    except OSError as error:
        raise InputError(f"{path}: not a complete HDF5 file ({error}); copy it again") from None


def _borzoi_stem(weights: h5py.Group, path: Path) -> nn.Module:
    """conv1d, pool, then four times batch norm, GELU, convolution, pool; the last pool is left."""
    modules: dict[str, nn.Module] = {"conv1d": _conv(_tensors(weights, "conv1d", path), path)}
    for i in range(_BORZOI_BLOCKS):
        norm = "batch_normalization" + (f"_{i}" if i else "")
        modules[f"max_pooling1d{f'_{i}' if i else ''}"] = nn.MaxPool1d(2)
        modules[norm] = _batch_norm(_tensors(weights, norm, path), _BN_EPS, path)
        modules[f"gelu{f'_{i}' if i else ''}"] = nn.GELU(approximate="tanh")
        modules[f"conv1d_{i + 1}"] = _conv(_tensors(weights, f"conv1d_{i + 1}", path), path)
    return _sequential(modules)


def _from_config(
    config: dict[str, Any], weights: h5py.Group, path: Path, tracks: list[str] | None
) -> LoadedModel:
    if config.get("class_name") != "Sequential":
        raise InputError(
            f"{path}: a Keras model of class {config.get('class_name')!r}; read are Sequential "
            "models, and the stem of Borzoi from a file of weights alone. Write a loader of your "
            "own (docs/models.md) for others"
        )
    modules: dict[str, nn.Module] = {}
    input_bp: int | None = None
    whole = True
    for layer in config["config"]["layers"]:
        kind, options = layer["class_name"], layer["config"]
        shape = options.get("batch_shape") or options.get("batch_input_shape")
        if shape is not None and input_bp is None:
            input_bp = shape[1]
        if kind in ("InputLayer", "Dropout", "SpatialDropout1D"):
            continue
        if kind not in _BUILDERS:
            whole = False
            break
        built = _BUILDERS[kind](options, weights, path)
        modules[options["name"]] = built
        activation = options.get("activation", "linear")
        if kind != "Activation" and activation != "linear":
            modules[f"{options['name']}_activation"] = _activation(activation, path)
    if not modules:
        raise InputError(
            f"{path}: its first layer is none that is read here ({', '.join(sorted(_BUILDERS))})"
        )
    module = _sequential(modules)
    return LoadedModel(
        module, input_bp, _outputs(module, input_bp, tracks, path) if whole else None
    )


def _outputs(
    module: nn.Module, input_bp: int | None, tracks: list[str] | None, path: Path
) -> Outputs | None:
    """What the whole model predicts, by trying it."""
    if input_bp is None:
        return None
    with torch.no_grad():
        shape = module.eval()(torch.zeros(1, 4, input_bp)).shape
    n_bins = shape[2] if len(shape) == 3 else 1
    names = tuple(tracks or (f"output_{i}" for i in range(shape[1])))
    if len(names) != shape[1]:
        raise InputError(f"{path}: {len(names)} tracks are named, but it has {shape[1]} outputs")
    return Outputs(names, n_bins, input_bp // n_bins)


def _sequential(modules: dict[str, nn.Module]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, module in modules.items():
        sequence.add_module(name, module)
    return sequence


def _tensors(weights: h5py.Group, layer: str, path: Path) -> dict[str, Tensor]:
    """Every tensor of a layer by its last name: kernel, bias, gamma ..."""
    tensors: dict[str, Tensor] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            short = name.rpartition("/")[2].partition(":")[0]
            tensors[short] = torch.from_numpy(np.asarray(item[()], np.float32))

    if layer not in weights:
        raise InputError(
            f"{path}: holds no layer {layer!r}; there: {', '.join(list(weights)[:8])}; bring the "
            "file of the whole model"
        )
    weights[layer].visititems(collect)
    return tensors


def _fill(module: nn.Module, tensors: dict[str, Tensor | None], path: Path, layer: str) -> None:
    missing = [name for name, tensor in tensors.items() if tensor is None]
    if missing:
        raise InputError(f"{path}: layer {layer!r} lacks {', '.join(missing)}; bring it whole")
    load_strictly(module, {n: t for n, t in tensors.items() if t is not None}, f"{path}, {layer}")


def _conv(
    tensors: dict[str, Tensor], path: Path, options: dict[str, Any] | None = None
) -> nn.Conv1d:
    options = options or {"padding": "same", "name": "conv1d"}
    kernel = tensors.get("kernel")
    if kernel is None or kernel.ndim != 3:
        raise InputError(f"{path}: layer {options['name']!r} has no kernel (width, in, out)")
    width, n_in, n_out = kernel.shape
    strides, dilation = _one(options.get("strides", 1)), _one(options.get("dilation_rate", 1))
    if strides != 1 and options["padding"] == "same":
        raise InputError(
            f"{path}: layer {options['name']!r} has strides and same padding, which Keras and "
            "PyTorch do differently; write a loader of your own (docs/models.md)"
        )
    kind = _SameConv if options["padding"] == "same" else nn.Conv1d
    module = kind(n_in, n_out, width, strides, 0, dilation, bias="bias" in tensors)
    weight: dict[str, Tensor | None] = {"weight": kernel.permute(2, 1, 0)}
    if module.bias is not None:
        weight["bias"] = tensors["bias"]
    _fill(module, weight, path, options["name"])
    return module


def _batch_norm(
    tensors: dict[str, Tensor], eps: float, path: Path, name: str = "batch_normalization"
) -> nn.BatchNorm1d:
    size = next((len(t) for t in tensors.values()), 0)
    module = nn.BatchNorm1d(size, eps=eps)
    _fill(
        module,
        {
            # Keras leaves out what `scale` or `center` switched off
            "weight": tensors.get("gamma", torch.ones(size)),
            "bias": tensors.get("beta", torch.zeros(size)),
            "running_mean": tensors.get("moving_mean"),
            "running_var": tensors.get("moving_variance"),
        },
        path,
        name,
    )
    return module


def _dense(options: dict[str, Any], weights: h5py.Group, path: Path) -> nn.Module:
    tensors = _tensors(weights, options["name"], path)
    kernel = tensors["kernel"]
    module = nn.Linear(kernel.shape[0], kernel.shape[1], bias="bias" in tensors)
    parts: dict[str, Tensor | None] = {"weight": kernel.T}
    if module.bias is not None:
        parts["bias"] = tensors["bias"]
    _fill(module, parts, path, options["name"])
    return module


class _SameConv(nn.Conv1d):
    """Same padding; of an even width the larger half behind, without PyTorch's warning."""

    def forward(self, x: Tensor) -> Tensor:
        total = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(nn.functional.pad(x, (total // 2, total - total // 2)))


class _Flatten(nn.Module):
    """Keras counts positions before channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(1)


class _GlobalPool(nn.Module):
    def __init__(self, largest: bool) -> None:
        super().__init__()
        self._largest = largest

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(2) if self._largest else x.mean(2)


def _activation(name: str, path: Path) -> nn.Module:
    known: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "elu": nn.ELU,
        "softplus": nn.Softplus, "gelu": nn.GELU, "swish": nn.SiLU, "silu": nn.SiLU,
        "linear": nn.Identity,
    }  # fmt: skip
    if name not in known:
        raise InputError(
            f"{path}: activation {name!r} is not read here ({', '.join(known)}); write a loader "
            "of your own (docs/models.md)"
        )
    return known[name]()


def _pool(options: dict[str, Any], path: Path) -> nn.Module:
    size = _one(options["pool_size"])
    strides = _one(options.get("strides") or size)
    if options.get("padding", "valid") != "valid" and size > 1:
        # Keras pads on the right where the length is no multiple; full windows never need it
        return nn.MaxPool1d(size, strides, ceil_mode=True)
    return nn.MaxPool1d(size, strides)


def _one(value: Any) -> int:
    return int(value[0]) if isinstance(value, list | tuple) else int(value)


_BUILDERS: dict[str, Callable[[dict[str, Any], h5py.Group, Path], nn.Module]] = {
    "Conv1D": lambda o, w, p: _conv(_tensors(w, o["name"], p), p, o),
    "BatchNormalization": lambda o, w, p: _batch_norm(
        _tensors(w, o["name"], p), float(o.get("epsilon", _BN_EPS)), p, o["name"]
    ),
    "Activation": lambda o, w, p: _activation(o["activation"], p),
    "ReLU": lambda o, w, p: nn.ReLU(),
    "MaxPooling1D": lambda o, w, p: _pool(o, p),
    "Flatten": lambda o, w, p: _Flatten(),
    "GlobalMaxPooling1D": lambda o, w, p: _GlobalPool(True),
    "GlobalAveragePooling1D": lambda o, w, p: _GlobalPool(False),
    "Dense": _dense,
}
