# mypy: allow-untyped-defs, allow-untyped-calls
# numba infers the types; each docstring states them
"""Compiled loops that count where nodes fire inside of annotated elements.

A level is a threshold's number: 0 is any firing, level l > 0 an activation of at least
``2 ** ((l - LEVELS + 1) / 4)`` of the node's maximum. An element has a slot, one byte a node (or
one byte in all), that says 1 + the highest level so far (or which candidates fired) until the
element's last position was seen.
"""

from __future__ import annotations

import numba
import numpy as np

LEVELS = 32
_jit = numba.njit(nogil=True, cache=True)


def threshold(level, activation_max):
    """Least activation of a level, float64; arrays are taken together."""
    return np.where(level == 0, 0.0, activation_max * 2.0 ** ((level - LEVELS + 1) / 4))


@_jit
def levels(value, node, count, activation_max):
    """Level of each active node: (n, width) uint8 of value (n, width) float32, node (n, width)
    int32, count (n,) int32 and activation_max (n_nodes,) float64."""
    levels_of_nodes = np.zeros(value.shape, np.uint8)
    for i in range(value.shape[0]):
        for e in range(count[i]):
            most = activation_max[node[i, e]]
            if most > 0:
                level = np.floor(LEVELS - 1 + 4 * np.log2(value[i, e] / most) + 1e-6)
                levels_of_nodes[i, e] = np.uint8(min(max(level, 0.0), LEVELS - 1.0))
    return levels_of_nodes


@_jit
def count_fired(node, level, count, fired):
    """Add to fired (n_nodes, LEVELS) int64."""
    for i in range(node.shape[0]):
        for e in range(count[i]):
            fired[node[i, e], level[i, e]] += 1


@_jit
def count_inside(
    elements, chosen, slot_of, left, slots, place, first, last, node, level, count, inside, met
):
    """Count one stretch of positions, first ... last at `place` of the slab, inside of elements.

    Adds to inside and met, (n_concepts, n_nodes, LEVELS) int32, the second for elements whose last
    position this was; returns those, whose slots are 0 again.
    """
    closed = np.empty(len(chosen), np.int64)
    n_closed = 0
    for run in chosen:
        concept = elements[run, 0]
        begin, end = max(first, elements[run, 2]), min(last, elements[run, 3])
        highest = slots[slot_of[run]]
        for position in range(begin, end):
            i = place + position - first
            for e in range(count[i]):
                j = node[i, e]
                inside[concept, j, level[i, e]] += 1
                highest[j] = max(highest[j], level[i, e] + 1)
        left[run] -= end - begin
        if left[run] == 0:
            for j in range(len(highest)):
                if highest[j] > 0:
                    met[concept, j, highest[j] - 1] += 1
                    highest[j] = 0
            closed[n_closed] = run
            n_closed += 1
    return closed[:n_closed]


@_jit
def _mask(concept, i, node, level, count, bit_of, least):
    mask = 0
    for e in range(count[i]):
        bit = bit_of[concept, node[i, e]]
        if bit >= 0 and level[i, e] >= least[concept, node[i, e]]:
            mask |= 1 << bit
    return mask


@_jit
def count_masks(node, level, count, bit_of, least, fired):
    """Add to fired (n_concepts, 256) int64: positions by which candidates of a class fire."""
    for i in range(node.shape[0]):
        for concept in range(bit_of.shape[0]):
            fired[concept, _mask(concept, i, node, level, count, bit_of, least)] += 1


@_jit
def count_masks_inside(
    elements, chosen, slot_of, left, slots, place, first, last, node, level, count, bit_of, least,
    inside, met,
):  # fmt: skip
    """As `count_inside`, by which candidates fire: inside and met are (n_concepts, 256) int64."""
    closed = np.empty(len(chosen), np.int64)
    n_closed = 0
    for run in chosen:
        concept = elements[run, 0]
        begin, end = max(first, elements[run, 2]), min(last, elements[run, 3])
        any_of = slots[slot_of[run]]
        for position in range(begin, end):
            mask = _mask(concept, place + position - first, node, level, count, bit_of, least)
            inside[concept, mask] += 1
            any_of[0] |= np.uint8(mask)
        left[run] -= end - begin
        if left[run] == 0:
            met[concept, any_of[0]] += 1
            any_of[0] = 0
            closed[n_closed] = run
            n_closed += 1
    return closed[:n_closed]
