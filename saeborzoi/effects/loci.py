"""Where nodes are looked at: sequences where one is strongest, and those where it matters most.

One pass over all the sequences: activations, and gradients of the outputs to first order. A node's
strongest loci often are not where the output hangs on it, so that both are looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from saeborzoi.effects.inputs import SequencesOfWindows
from saeborzoi.effects.levels import level
from saeborzoi.effects.statistics import loss_of
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import activity

CRITERIA = ("activation", "gradient")
"""How loci are chosen: by the largest activation in the sequence, or by activation x gradient."""
_BLOCK = 4096
"""Positions at once: the slopes of all nodes are held for so many."""
_PROBES = 4
"""Gradients a sequence: of each track where there are so few, else of random sums of all tracks."""


class Locus(NamedTuple):
    """A sequence on which a node is looked at.

    Attributes
    ----------
    node, sequence
        The node, and the sequence's number.
    position
        Position of its largest activation there.
    activation
        That activation.
    criteria
        Which of `CRITERIA` chose it.
    """

    node: int
    sequence: int
    position: int
    activation: float
    criteria: tuple[str, ...]


def find_loci(
    model: SequenceModel,
    geometry: LayerGeometry,
    sae: SparseAutoencoder,
    sequences: SequencesOfWindows,
    nodes: Sequence[int],
    n_loci: int,
    progress: Progress = silent,
) -> list[Locus]:
    """Loci of nodes: `n_loci` sequences by each criterion, as far as a node is active on so many.

    Activation x gradient of a node on a sequence is the sum over positions of its activation times
    the gradient of a track's level to it, and of that the root mean square over tracks; where there
    are more than four tracks, over four sums of all of them with random signs, whose mean square is
    that of the tracks.

    Parameters
    ----------
    sae
        Any device; is copied.
    nodes
        Which.

    Returns
    -------
    list of Locus
        By sequence, then node; a locus that both criteria chose is there once.
    """
    sae = copy.deepcopy(sae).to(model.device).requires_grad_(False)
    splice = Splice(model, geometry)
    assert model.outputs is not None
    loss = loss_of(model.outputs.scale)
    probes = _probes(len(model.outputs.tracks)).to(model.device)
    sorted_nodes = torch.tensor(sorted(nodes), device=model.device)
    n_sequences = len(sequences)
    strongest = torch.zeros(n_sequences, len(sorted_nodes))
    position = torch.zeros(n_sequences, len(sorted_nodes), dtype=torch.int64)
    matters = torch.zeros(n_sequences, len(sorted_nodes), dtype=torch.float64)
    done = 0
    for batch in sequences:
        leaf: list[Tensor] = []

        def start_here(x: Tensor, leaf: list[Tensor] = leaf) -> Tensor:
            leaf.append(x.detach().requires_grad_())
            return leaf[0]

        with torch.enable_grad():
            levels = level(splice.predict(batch.one_hot, start_here), loss)
            gradients = [
                torch.autograd.grad((levels @ probe).sum(), leaf[0], retain_graph=True)[0]
                for probe in probes
            ]
        for i, x in enumerate(leaf[0].detach()):
            activation, place, score = _of_sequence(sae, x, [g[i] for g in gradients])
            strongest[done] = activation[sorted_nodes].cpu()
            position[done] = place[sorted_nodes].cpu()
            matters[done] = score[sorted_nodes].cpu()
            done += 1
        progress("sequences looked through for loci", done, n_sequences)
    chosen: dict[tuple[int, int], list[str]] = {}
    for criterion, values in zip(CRITERIA, (strongest.double(), matters), strict=True):
        order = torch.argsort(values, dim=0, descending=True, stable=True)[:n_loci]
        for column, sequence in (
            (c, int(s)) for c in range(len(sorted_nodes)) for s in order[:, c]
        ):
            if values[sequence, column] > 0:
                chosen.setdefault((sequence, column), []).append(criterion)
    return [
        Locus(
            int(sorted_nodes[column]),
            sequence,
            int(position[sequence, column]),
            float(strongest[sequence, column]),
            tuple(criteria),
        )
        for (sequence, column), criteria in sorted(chosen.items())
    ]


def _of_sequence(
    sae: SparseAutoencoder, x: Tensor, gradients: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """(n_nodes,) each: largest activation, its position, and how much the node matters."""
    active = activity(sae, x)
    flat, value = active.node.flatten(), active.value.flatten()
    largest = torch.zeros(sae.n_nodes, device=x.device)
    largest = largest.scatter_reduce(0, flat, value, "amax")
    place = torch.full((sae.n_nodes,), len(x), device=x.device)
    here = torch.arange(len(x), device=x.device)[:, None].expand_as(active.node).flatten()
    at_top = torch.where(value == largest[flat], here, len(x))
    place = place.scatter_reduce(0, flat, at_top, "amin")
    squares = torch.zeros(sae.n_nodes, dtype=torch.float64, device=x.device)
    for gradient in gradients:
        slopes = []
        for g, std, node in zip(
            gradient.split(_BLOCK), active.std.split(_BLOCK), active.node.split(_BLOCK), strict=True
        ):
            slopes.append(((g * sae.channel_max * std) @ sae.decoder_weight.T).gather(1, node))
        total = torch.zeros_like(squares)
        total.index_add_(0, flat, (active.value * torch.cat(slopes)).double().flatten())
        squares += total**2
    return largest, place, (squares / len(gradients)).sqrt()


def _probes(n_tracks: int) -> Tensor:
    """(n, n_tracks) float64: weights of the sums whose gradients are taken."""
    if n_tracks <= _PROBES:
        return torch.eye(n_tracks, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (_PROBES, n_tracks), generator=generator)
    return (2 * signs - 1).double() / n_tracks**0.5
