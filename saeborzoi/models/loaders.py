"""Loaders: from what the settings say to a `SequenceModel`.

`"borzoi-pytorch:<folder>"`, `"keras-h5:<file>"` and `"package.module:function"` (or
`"file.py:function"`). A loader gives a module; that it is in evaluation mode, frozen, and complete
is seen to here. A user's code is imported here and nowhere else: call it in a worker.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.models.model import Dtype, LoadedModel, SequenceModel, fingerprint_of_tensors
from saeborzoi.settings.model_sections import PATH_LOADERS


def load_model(
    loader: str,
    *,
    weights: Path | str | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_bp: int | None = None,
    dtype: Dtype = "float32",
    device: str = "auto",
) -> SequenceModel:
    """Load a model.

    Parameters
    ----------
    loader
        See the module.
    weights
        File or folder that a user's function gets as `weights`.
    arguments
        Passed to the loader by name.
    input_bp
        Base pairs that the model takes at once, where its loader does not say.
    dtype
        See `SequenceModel`.
    device
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".

    Raises
    ------
    InputError
        Where there is no such loader, it fails, its tensors are not complete, or the length of
        the input is not known.
    """
    loaded = _loaded(loader, None if weights is None else Path(weights), dict(arguments or {}))
    module = loaded.module
    _require_complete(module, loader)
    # a constructor leaves batch norm and dropout in training mode
    module.eval().requires_grad_(False)
    length = input_bp or loaded.input_bp
    if length is None:
        raise InputError(
            f"[model] loader {loader!r}: it does not say how many base pairs the model takes; set "
            "input_bp of [model], or return a LoadedModel with input_bp"
        )
    where = _device(device)
    fingerprint = fingerprint_of_tensors(module)
    return SequenceModel(
        module=_moved(module, where),
        input_bp=length,
        outputs=loaded.outputs,
        layers=dict(loaded.layers),
        fingerprint=fingerprint,
        device=where,
        dtype=dtype,
        _forward=loaded.forward,
    )


def _loaded(loader: str, weights: Path | None, arguments: dict[str, Any]) -> LoadedModel:
    place, colon, rest = loader.rpartition(":")
    kind = loader.partition(":")[0]
    if not colon or not rest:
        raise InputError(
            f"[model] loader = {loader!r}: needed is 'borzoi-pytorch:<folder>', 'keras-h5:<file>' "
            "or 'package.module:function'"
        )
    if kind in PATH_LOADERS:
        if weights is not None:
            raise InputError(
                f"[model] weights = {str(weights)!r}: {kind} has its path in `loader`; remove it"
            )
        path = Path(loader.partition(":")[2])
        if kind == "borzoi-pytorch":
            from saeborzoi.models.borzoi import load_borzoi as function
        else:
            from saeborzoi.models.keras_h5 import load_keras_h5 as function  # type: ignore[assignment]
        return _called(function, loader, {"path": path, **arguments})
    function = _user_function(place, rest, loader)  # type: ignore[assignment]
    if weights is not None:
        arguments = {"weights": weights, **arguments}
    return _called(function, loader, arguments)


def _called(function: Callable[..., object], loader: str, arguments: dict[str, Any]) -> LoadedModel:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"[model] loader {loader!r} takes {inspect.signature(function)}, but "
            f"{', '.join(arguments) or 'nothing'} was given: {error}; fix `arguments` or "
            "`weights` of [model]"
        ) from None
    try:
        loaded = function(**arguments)
    except SaeBorzoiError:
        raise
    except Exception as error:
        raise InputError(
            f"[model] loader {loader!r} failed: {type(error).__name__}: {error}; call it in "
            "Python to see where, or fix `arguments` and `weights` of [model]"
        ) from error
    if isinstance(loaded, nn.Module):
        return LoadedModel(loaded)
    if not isinstance(loaded, LoadedModel):
        raise InputError(
            f"[model] loader {loader!r} returned a {type(loaded).__name__}; needed is a "
            "torch.nn.Module, or saeborzoi.models.model.LoadedModel with one"
        )
    return loaded


def _user_function(place: str, name: str, loader: str) -> Callable[..., object]:
    module = _user_module(place, loader)
    function = getattr(module, name, None)
    if not callable(function):
        function_names = [n for n, item in vars(module).items() if callable(item) and n[0] != "_"]
        nearest = difflib.get_close_matches(name, function_names, n=1, cutoff=0) or ["none"]
        raise InputError(
            f"[model] loader {loader!r}: {place} has no function {name!r}; the nearest there is "
            f"{nearest[0]!r}"
        )
    return function


def _user_module(place: str, loader: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(f"saeborzoi_user_{Path(place).stem}", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except Exception as error:
        raise InputError(
            f"[model] loader {loader!r}: {place} cannot be imported ({type(error).__name__}: "
            f"{error}); needed is a .py file, or a package in the worker's environment"
        ) from error


def _require_complete(module: nn.Module, loader: str) -> None:
    """Refuse tensors that are not there or not finite: a slip in loading leaves such behind."""
    for name, tensor in module.state_dict().items():
        if tensor.is_meta:
            raise InputError(
                f"[model] loader {loader!r}: tensor {name} was never filled; load every tensor "
                "(load_state_dict with strict=True)"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(
                f"[model] loader {loader!r}: tensor {name} holds NaN or infinity; the weights are "
                "damaged: bring the file again"
            )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"[model] device = {name!r} is no device; needed is auto, cpu, cuda or cuda:<number>"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f'[model] device = {name!r}, but PyTorch sees no GPU here; set device = "auto", or '
            "run the stage where there is one"
        )
    return device


def _moved(module: nn.Module, device: torch.device) -> nn.Module:
    try:
        return module.to(device)
    except torch.OutOfMemoryError:
        need = sum(t.numel() * t.element_size() for t in module.state_dict().values())
        raise InputError(
            f"[model] device = {device}: the model's {need / 2**20:,.0f} MiB do not fit its "
            'memory; set device = "cpu", or free the GPU'
        ) from None
