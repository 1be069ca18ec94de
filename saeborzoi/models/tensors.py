"""Tensors from files into modules: strict, and without running code that a file holds."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from saeborzoi.errors import InputError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pth`, `.pt` or `.bin` that holds tensors alone.

    Raises
    ------
    InputError
        Where the file cannot be read, or holds pickled code, which is not executed.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; fix the path in [model]") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds pickled Python objects beside tensors, which could run any code and "
            "are not loaded; save `model.state_dict()`, best as .safetensors"
        ) from None
    except Exception as error:
        raise InputError(
            f"{path}: its tensors cannot be read ({error}); needed is .safetensors or the file of "
            "a state_dict, whole"
        ) from None
    if not isinstance(stored, dict) or not all(isinstance(t, Tensor) for t in stored.values()):
        raise InputError(
            f"{path}: holds no plain state_dict; needed is a mapping of names to tensors: save "
            "`model.state_dict()`"
        )
    return stored


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], origin: str, assign: bool = False
) -> None:
    """Put tensors into a module; every one must be there, and no other.

    Parameters
    ----------
    origin
        Where they come from, for messages.
    assign
        Take the tensors themselves instead of copying them.

    Raises
    ------
    InputError
        Names what is missing, what is not expected, and what has another shape.
    """
    expected = {
        n: t for n, t in module.state_dict().items() if not n.endswith("num_batches_tracked")
    }
    given = {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("missing", sorted(expected.keys() - given.keys())),
            ("not expected", sorted(given.keys() - expected.keys())),
            (
                "of another shape",
                [
                    f"{n} {tuple(given[n].shape)} instead of {tuple(expected[n].shape)}"
                    for n in sorted(expected.keys() & given.keys())
                    if given[n].shape != expected[n].shape
                ],
            ),
        )
        if names
    ]
    if problems:
        raise InputError(
            f"{origin}: its tensors are not this model's ({'; '.join(problems)}); with any other "
            "the layers would hold random numbers: bring the weights of this architecture"
        )
    module.load_state_dict(dict(tensors), strict=False, assign=assign)


def _some(names: list[str], n: int = 5) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
