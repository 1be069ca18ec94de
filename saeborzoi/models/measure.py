"""A model described by looking at it: shapes, calls, and what of the input each position sees.

Nothing is typed in. Shapes and calls come from a pass without numbers (PyTorch's meta device),
receptive fields from base pairs that are NaN, and that tiles are allowed from a sequence that is
moved.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerGeometry, require_module, run_to
from saeborzoi.models.model import SequenceModel

FIRST_PROBE_BP, LAST_PROBE_BP, LAST_PROBE_OF_ALL_BP = 512, 32_768, 4_096
"""Random sequences are made longer until a layer's receptive field fits, up to here; where every
module is described, up to the second."""
_SEQUENCES = 16
"""Probes of one pass."""
_SAME = 2e-5
"""Relative to the layer's largest value: a moved sequence gives the same up to this."""


@dataclass(frozen=True)
class ModuleDescription:
    """A module as a user chooses layers from.

    Attributes
    ----------
    name, kind
        Name in the model, and class.
    shape
        Of its output for one sequence of the model's length; None where it is no tensor.
    n_calls
        Times that a forward pass calls it.
    is_changed
        Whether its output is changed in place by what comes after; as a layer it is what the
        module returned.
    geometry
        None where it cannot serve as a layer.
    reason
        Why it cannot, or why only in whole windows; "" where nothing is to be said.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    n_calls: int
    is_changed: bool
    geometry: LayerGeometry | None
    reason: str


class _Seen(NamedTuple):
    """What a pass without numbers shows of a module."""

    shape: tuple[int, ...] | None
    n_calls: int
    is_changed: bool


def layer_geometry(model: SequenceModel, layer: str) -> LayerGeometry:
    """Where the positions of a layer lie, measured.

    Raises
    ------
    InputError
        Where there is no such module, or it cannot serve as a layer; says why.
    """
    name = require_module(model, layer)
    passed = _passed(model, model.input_bp)
    reason = _unfit(name, passed)
    if reason:
        raise InputError(f"module {name!r} cannot serve as a layer: {reason}")
    measured = _Measuring(model, [name], passed).measure(LAST_PROBE_BP)[name][0]
    if measured is None:
        raise InputError(
            f"module {name!r} cannot serve as a layer: its output of shape {passed[name].shape} "
            "has no axis along the sequence; choose a convolution"
        )
    return measured


def describe_modules(model: SequenceModel) -> list[ModuleDescription]:
    """Every module that a forward pass calls, in the order of its first call."""
    passed = _passed(model, model.input_bp)
    names = [name for name in passed if not _unfit(name, passed)]
    measured = _Measuring(model, names, passed).measure(LAST_PROBE_OF_ALL_BP)
    descriptions = []
    for name, module_seen in passed.items():
        geometry, reason = measured.get(name, (None, _unfit(name, passed)))
        kind = type(model.module.get_submodule(name)).__name__
        descriptions.append(ModuleDescription(name, kind, *module_seen, geometry, reason))
    return descriptions


def _unfit(name: str, calls: dict[str, _Seen]) -> str:
    """Why a module cannot serve as a layer, as far as a pass without numbers shows; or ""."""
    if name not in calls:
        return "a forward pass does not call it; choose one of those that `saeborzoi model` lists"
    shape, n_calls, _ = calls[name]
    if n_calls > 1:
        return (
            f"a forward pass calls it {n_calls} times, so that its output is not one thing; choose "
            "the module before or after it"
        )
    if shape is None:
        return "its output is not one tensor"
    if len(shape) != 3:
        return f"its output has shape {shape}; needed are sequences x channels x positions"
    return ""


def _passed(model: SequenceModel, n_bp: int) -> dict[str, _Seen]:
    """Shapes, calls and changes in place of every module, in order of calls.

    The pass works on a copy of the modules that shares no state, as attention keeps positions of
    the first length that it sees; and on no numbers, or in earnest where a model cannot do that.
    """
    try:
        return _pass(_copy(model.module, "meta"), torch.zeros(1, 4, n_bp, device="meta"))[0]
    except Exception:
        passed, error = _pass(
            _copy(model.module, None), torch.zeros(1, 4, n_bp, device=model.device), forgive=True
        )
        if error is not None and n_bp == model.input_bp:
            raise InputError(
                f"the model fails on a sequence of its own length of {n_bp:,} bp "
                f"({type(error).__name__}: {error}); fix input_bp of [model], or the loader"
            ) from error
        return passed


def _pass(
    module: nn.Module, one_hot: Tensor, forgive: bool = False
) -> tuple[dict[str, _Seen], Exception | None]:
    outputs: dict[str, tuple[Tensor, int]] = {}
    shapes: dict[str, tuple[int, ...] | None] = {}
    n_calls: dict[str, int] = {}
    names = {part: name for name, part in module.named_modules() if name}

    def look(part: nn.Module, arguments: object, output: object) -> None:
        name = names[part]
        n_calls[name] = n_calls.get(name, 0) + 1
        shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else None
        if isinstance(output, Tensor):
            outputs[name] = (output, output._version)

    hooks = [part.register_forward_hook(look) for part in names]
    failed = None
    try:
        with torch.no_grad():
            module(one_hot)
    except Exception as error:
        if not forgive:
            raise
        failed = error
    finally:
        for hook in hooks:
            hook.remove()
    changed = {name: tensor._version != version for name, (tensor, version) in outputs.items()}
    return {n: _Seen(shapes[n], n_calls[n], changed.get(n, False)) for n in n_calls}, failed


def _copy(module: nn.Module, device: str | None) -> nn.Module:
    """A copy of the modules with the same tensors, or with such without numbers."""
    tensors = [*module.parameters(), *module.buffers()]
    memo: dict[int, object] = {}
    for tensor in tensors:
        if device is None:
            memo[id(tensor)] = tensor
        elif isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(tensor.detach().to(device), requires_grad=False)
        else:
            memo[id(tensor)] = tensor.to(device)
    return copy.deepcopy(module, memo)


_Measured = tuple[LayerGeometry | None, str]


class _Measuring:
    """What positions of several modules see, from the same passes.

    A base pair that is NaN makes NaN of every position that sees it. Unlike a gradient, that does
    not depend on which of several values a max-pooling chose, nor on weights that are 0.
    """

    def __init__(self, model: SequenceModel, names: list[str], passed: dict[str, _Seen]) -> None:
        self._model, self._names, self._seen = model, names, passed
        # on the CPU: some kernels of GPUs mix positions and would spread the NaN
        self._module = _copy(model.module, "cpu" if model.device.type != "cpu" else None)
        self._random = torch.Generator().manual_seed(0)

    def measure(self, last_probe_bp: int) -> dict[str, _Measured]:
        """Geometry of each module, or why it has none."""
        measured: dict[str, _Measured] = {}
        n_bp = FIRST_PROBE_BP
        while n_bp <= last_probe_bp and len(measured) < len(self._names):
            left = [name for name in self._names if name not in measured]
            with torch.no_grad():
                measured |= {name: (g, "") for name, g in self._at(left, n_bp).items()}
            n_bp *= 4
        return {n: measured[n] if n in measured else self._whole(n) for n in self._names}

    def _at(self, names: list[str], n_bp: int) -> dict[str, LayerGeometry]:
        """Geometry of those whose receptive field fits a probe."""
        axes = self._axes(names, n_bp)
        extents: dict[str, tuple[int, int]] = {}
        done = 0
        while pending := [name for name, (_, bp, _) in axes.items() if bp > done]:
            period = max(axes[name][1] for name in pending)
            bases = range(n_bp // 2 + done, n_bp // 2 + min(done + _SEQUENCES, period))
            one_hot = self._sequences(len(bases), n_bp)
            for row, base in enumerate(bases):
                one_hot[row, :, base] = torch.nan
            for name, output in self._outputs(pending, one_hot).items():
                reached = _reached(output, axes[name], list(bases))
                if reached is None:
                    del axes[name]  # sees an end of the probe, or nothing
                    extents.pop(name, None)
                else:
                    known = extents.get(name, reached)
                    extents[name] = (min(known[0], reached[0]), max(known[1], reached[1]))
            done += len(bases)
        geometries = {}
        for name, (first, end) in extents.items():
            axis, bp, _ = axes[name]
            shape, size = self._seen[name].shape, end - first
            assert shape is not None
            if size >= bp:
                geometries[name] = LayerGeometry(
                    name, shape[3 - axis], bp, size, first + (size - bp) // 2, axis == 1
                )
        return self._moving_with_the_sequence(geometries, n_bp)

    def _axes(self, names: list[str], n_bp: int) -> dict[str, tuple[int, int, int]]:
        """Of each module that takes probes: axis of the positions, base pairs of one, number."""
        short, long = _short(self._model, n_bp), _short(self._model, 2 * n_bp)
        axes = {}
        for name in names:
            a = short[name].shape if name in short else None
            b = long[name].shape if name in long else None
            if a is None or b is None or len(a) != 3 or len(b) != 3:
                continue
            grown = [axis for axis in (1, 2) if b[axis] > a[axis]]
            if len(grown) == 1:
                axis = grown[0]
                bp = round(n_bp / (b[axis] - a[axis]))
                if bp >= 1 and a[axis] >= 8:
                    axes[name] = (axis, bp, a[axis])
        return axes

    def _outputs(self, names: list[str], one_hot: Tensor) -> dict[str, Tensor]:
        """Outputs of modules; what a pass that fails on this length did not reach is left out."""
        module = self._module
        if len(names) == 1:
            return {names[0]: run_to(module, module.get_submodule(names[0]), one_hot).float()}
        outputs: dict[str, Tensor] = {}

        def keeper(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            def keep(part: nn.Module, arguments: object, output: Tensor) -> None:
                outputs[name] = output.float().clone()  # before it is changed in place

            return keep

        # a copy for each pass: attention keeps positions of the first length that it sees
        module = _copy(module, None)
        for name in names:
            module.get_submodule(name).register_forward_hook(keeper(name))
        with contextlib.suppress(Exception):
            module(one_hot)
        return outputs

    def _moving_with_the_sequence(
        self, geometries: dict[str, LayerGeometry], n_bp: int
    ) -> dict[str, LayerGeometry]:
        """Those whose values move by one position where the sequence does: not so where
        positions are numbered, or where an upsampling repeats them."""
        moving = {}
        for bp in sorted({g.bp_per_position for g in geometries.values()}):
            names = [name for name, g in geometries.items() if g.bp_per_position == bp]
            one_hot = self._sequences(1, n_bp + bp)
            before = self._outputs(names, one_hot[:, :, :-bp])
            after = self._outputs(names, one_hot[:, :, bp:])
            for name in names:
                g, here, shifted = geometries[name], before[name], after[name]
                if not g.channels_last:
                    here, shifted = here.transpose(1, 2), shifted.transpose(1, 2)
                edge = -(-g.receptive_field_bp // bp) + 1
                here, shifted = here[:, edge + 1 : -edge], shifted[:, edge : -edge - 1]
                if here.numel() and here.shape == shifted.shape:
                    scale = float(here.abs().max())
                    if float((here - shifted).abs().max()) <= _SAME * scale:
                        moving[name] = g
        return moving

    def _whole(self, name: str) -> _Measured:
        """Geometry of a layer that is right on whole inputs only."""
        shape = self._seen[name].shape
        assert shape is not None
        n_bp = self._model.input_bp
        channels_last = self._axis_of_whole(name) == 1
        n = shape[1] if channels_last else shape[2]
        bp = n_bp // n
        if n < 2 or bp < 1:
            return None, f"its output of shape {shape} has no axis along the sequence"
        geometry = LayerGeometry(
            name, shape[2] if channels_last else shape[1], bp, n_bp, (n_bp - n * bp) // 2,
            channels_last, is_whole=True, n_positions=n,
        )  # fmt: skip
        return geometry, (
            f"a position sees more than a tile, or the model takes no other length than "
            f"{n_bp:,} bp: computed in whole windows"
        )

    def _axis_of_whole(self, name: str) -> int:
        """Axis of the positions: the one that changes with the sequence, or by kind of module."""
        shape = self._seen[name].shape
        other = _short(self._model, self._model.input_bp // 2).get(name)
        if shape is not None and other is not None and other.shape is not None:
            changed = [a for a in (1, 2) if shape[a] != other.shape[a]]
            if len(changed) == 1:
                return changed[0]
        kind = self._model.module.get_submodule(name)
        return 1 if isinstance(kind, nn.Linear | nn.LayerNorm) else 2

    def _sequences(self, n: int, n_bp: int) -> Tensor:
        """Random one-hot sequences (n, 4, n_bp)."""
        codes = torch.randint(4, (n, n_bp), generator=self._random)
        return nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def _reached(output: Tensor, of: tuple[int, int, int], bases: list[int]) -> tuple[int, int] | None:
    """First and last base pair (exclusive) that position 0 sees, as far as these bases show.

    Position p sees base b where first + bp * p <= b < end + bp * p; None where the first or last
    position sees one, or none does.
    """
    axis, bp, n = of
    is_nan = output.isnan().any(3 - axis)
    if is_nan[:, [0, -1]].any() or not is_nan.any(1).all():
        return None
    lowest = is_nan.int().argmax(1).tolist()
    highest = (n - 1 - is_nan.flip(1).int().argmax(1)).tolist()
    first = min(b - bp * p for b, p in zip(bases, highest, strict=True))
    end = max(b + 1 - bp * p for b, p in zip(bases, lowest, strict=True))
    return first, end


def _short(model: SequenceModel, n_bp: int) -> dict[str, _Seen]:
    """What a pass shows of another length; as far as the model gets with it."""
    module = _copy(model.module, "meta")
    try:
        return _pass(module, torch.zeros(1, 4, n_bp, device="meta"), forgive=True)[0]
    except Exception:  # pragma: no cover - a hook of the model's own that fails
        return {}


def table(descriptions: list[ModuleDescription]) -> str:
    """For a terminal: a line a module."""
    header = ("module", "kind", "output", "calls", "bp", "sees bp", "offset", "layer")
    rows = [header]
    for d in descriptions:
        g = d.geometry
        mark = "no" if g is None else "whole windows" if g.is_whole else "yes"
        note = f" ({d.reason})" if d.reason else ""
        note += " (changed in place afterwards; taken before)" if g and d.is_changed else ""
        rows.append(
            (
                d.name, d.kind, "x".join(map(str, d.shape)) if d.shape else "-", str(d.n_calls),
                *((str(g.bp_per_position), str(g.receptive_field_bp), str(g.offset_bp)) if g
                  else ("-", "-", "-")),
                mark + note,
            )
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(header) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
