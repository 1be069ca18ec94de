"""What a run will take, before it starts: time, disk and memory of each step.

Time is what the step took here before, scaled by its size; where it was never made here, the
shipped figures of a laptop with two cores. Sizes are those that drive each step: positions times
nodes for training, inference and concepts, nodes for the rest.
"""

from __future__ import annotations

import contextlib
import json
import platform as machine
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.files import write_json
from saeborzoi.pipeline import JOB_STEPS
from saeborzoi.sae.schedule import Schedule
from saeborzoi.worker import duration
from saeborzoi_assets.lacking import Work
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.advice import n_positions

FIXED_S = {
    "normalization": 2.5, "training": 3.0, "inference": 2.0, "nodes": 5.0, "concepts": 3.0,
    "fan-in": 5.0, "effects": 8.0, "pages": 1.5, "comparison": 2.0,
}  # fmt: skip
"""Seconds of a step however small it is: libraries, Dagster, the catalogue, plots. Two cores of a
current server processor."""

_NODE_S = {"nodes": 0.07, "fan-in": 0.006, "pages": 0.005}
"""Seconds for each node, on the same machine."""
_POSITION_S = {"training": 1.5e-6, "inference": 1e-6, "concepts": 1e-6}
"""Seconds for each position, of training in every epoch,"""
_WEIGHT_S = {"training": 1.3e-11, "inference": 6e-12, "concepts": 5e-12}
"""and for each weight of the encoder beside."""
_BP_S, _BORZOI_BP_S = 4e-6, 1.1e-4
"""Seconds of a prediction for each base pair of its input: of a small model, and of Borzoi."""
_SMALL_BP, _BORZOI_BP = 10_000, 524_288
"""Base pairs that a model takes, where the settings do not say."""
_OF_FIDELITY, _OF_LOCI, _OF_NODE = 7, 9, 5
"""Predictions of a sequence with each splice, and for its gradients (each as much as two); and of
a node at a locus, beside the controls."""
_NODE_BYTES = 90_000
"""Top positions, seqlets, motifs, rows and page of a node that has all of them."""
_BASE_BYTES = 6e8
"""Memory of an interpreter with its libraries and a step's tables."""


class Estimate(NamedTuple):
    """Seconds, bytes of disk and bytes of memory at the peak."""

    seconds: float
    disk_bytes: float
    memory_bytes: float


@dataclass
class Costs:
    """Costs of a project's steps on this machine.

    Attributes
    ----------
    platform
        The project.
    path
        Where this machine's figures are kept, in the store.
    factors
        Step to how much longer it took here last than the shipped figures say.
    """

    platform: Platform
    path: Path
    factors: dict[str, float]

    @classmethod
    def of(cls, platform: Platform) -> Costs:
        """With what was measured on this machine before."""
        path = platform.store.root / "costs.json"
        factors = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            known = json.loads(path.read_text())[machine.node()]
            factors = {str(step): max(0.0, float(factor)) for step, factor in known.items()}
        return cls(platform, path, factors)

    def estimate(self, work: Work) -> Estimate:
        """What a step will take for what it lacks; nothing where nothing is lacking."""
        if not work.n_lacking:
            return Estimate(0, 0, 0)
        fixed = FIXED_S.get(work.step.name, 3.0)
        seconds = fixed + self._variable_s(work) * self.factors.get(work.step.name, 1.0)
        return Estimate(seconds, self._disk(work), self._memory(work))

    def note(self, work: Work, seconds: float) -> None:
        """Keep what a step took, for the next estimate."""
        variable = self._variable_s(work)
        if variable <= 0:
            return
        beyond = seconds - FIXED_S.get(work.step.name, 3.0)
        self.factors[work.step.name] = round(max(beyond, 0.1 * variable) / variable, 3)
        everything = {}
        with contextlib.suppress(OSError, ValueError):
            everything = json.loads(self.path.read_text())
        write_json(self.path, {**everything, machine.node(): self.factors})

    def _variable_s(self, work: Work) -> float:
        """Seconds beyond the fixed ones, by the shipped figures."""
        name = work.step.name
        if name == "normalization":
            layer = self.platform.settings.layer_named(work.step.first.owner)
            return 2e-9 * n_positions(layer) * layer.n_channels
        if name not in (*_POSITION_S, "effects", *_NODE_S):
            return 0.0
        h = self.platform.settings.parse_key(work.owner)
        layer = self.platform.settings.layer_named(h.layer)
        weights = h.n_nodes(layer.n_channels) * layer.n_channels
        if name == "training":
            schedule = Schedule(**self.platform.settings.training.schedule)
            total = schedule.total_positions(max(1, n_positions(layer)))
            return total * (_POSITION_S[name] + _WEIGHT_S[name] * weights)
        if name in _POSITION_S:
            return n_positions(layer) * (_POSITION_S[name] + _WEIGHT_S[name] * weights)
        if name == "effects":
            return self._effects_s(work, h.n_nodes(layer.n_channels))
        n_nodes = (
            work.n_lacking if work.step.first.node is not None else h.n_nodes(layer.n_channels)
        )
        return _NODE_S[name] * n_nodes

    def _effects_s(self, work: Work, n_nodes: int) -> float:
        """Of predictions, with every node at as many loci as the settings want."""
        model, effects = self.platform.settings.model, self.platform.settings.effects
        assert model is not None, "a step that needs a model"
        is_borzoi = model.loader.startswith("borzoi-pytorch:")
        input_bp = model.input_bp or (_BORZOI_BP if is_borzoi else _SMALL_BP)
        n_sequences = effects.n_sequences_of(input_bp)
        n = n_sequences * _OF_FIDELITY if "fidelity" in work.step.assets else 0
        if "node_effects" in work.step.assets:
            n_loci = min(2 * effects.n_loci, n_sequences)
            n += n_sequences * _OF_LOCI + n_nodes * n_loci * (_OF_NODE + effects.n_controls)
        return n * input_bp * (_BORZOI_BP_S if is_borzoi else _BP_S)

    def _disk(self, work: Work) -> float:
        if work.step.name == "training":
            h = self.platform.settings.parse_key(work.owner)
            n_channels = self.platform.settings.layer_named(h.layer).n_channels
            return 16.0 * h.n_nodes(n_channels) * n_channels
        return float(_NODE_BYTES * work.n_lacking) if work.step.first.node is not None else 0.0

    def _memory(self, work: Work) -> float:
        if work.step.name != "training":
            return _BASE_BYTES
        h = self.platform.settings.parse_key(work.owner)
        n_channels = self.platform.settings.layer_named(h.layer).n_channels
        weights = 8.0 * h.n_nodes(n_channels) * n_channels
        buffers = 2 * 2**20 * self.platform.settings.training.buffer_mb
        return _BASE_BYTES + buffers + 5 * weights


def cost_of(step: str) -> str:
    """What the shipped figures say of a step, in words.

    >>> cost_of("inference")
    'about 2 s, and for each million positions 1 s and 0.006 s a thousand weights'
    """
    text = f"about {FIXED_S.get(step, 3.0):g} s"
    if step in _NODE_S:
        text += f", and {_NODE_S[step]:g} s a node"
    if step in _POSITION_S:
        text += (
            f", and for each million positions {1e6 * _POSITION_S[step]:g} s and "
            f"{1e9 * _WEIGHT_S[step]:.2g} s a thousand weights"
        )
    return text


def plan_text(work: Sequence[Work], costs: Costs) -> str:
    """The plan for a terminal: a line a step and SAE, what stands, what it will take."""
    rows = [("SAE", "step", "stands", "to make", "time", "why")]
    for each in work:
        estimate = costs.estimate(each)
        rows.append(
            (
                each.owner,
                each.step.label,
                f"{each.n_asked - each.n_lacking:,} of {each.n_asked:,}",
                f"{each.n_lacking:,}" if each.n_lacking else "-",
                f"about {duration(estimate.seconds)}" if each.n_lacking else "-",
                "; ".join(each.reasons[:2]) + ("; ..." if each.reasons[2:] else ""),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in rows
    ]
    lines = [line.rstrip() for line in lines]
    return "\n".join([*lines, "", total_text(work, costs)])


def total_text(work: Sequence[Work], costs: Costs) -> str:
    """What all of the work will take, in one line. Where there is a next SAE, the light steps of
    one are made beside its jobs, and do not count."""
    owners = [each.owner for each in work if each.n_lacking and each.owner != PROJECT]
    estimates = [costs.estimate(each) for each in work]
    seconds = sum(
        estimate.seconds
        for each, estimate in zip(work, estimates, strict=True)
        if each.owner in (PROJECT, *owners[-1:]) or each.step.name in JOB_STEPS
    )
    if not any(each.n_lacking for each in work):
        return "everything stands; nothing is to be made"
    disk = sum(each.disk_bytes for each in estimates)
    memory = max(each.memory_bytes for each in estimates)
    return (
        f"about {duration(seconds)} on this machine, {_size(disk)} of disk, {_size(memory)} of "
        "memory at the peak"
    )


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
