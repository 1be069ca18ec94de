"""Answers to the requests of many nodes together, on any device that PyTorch has: which fit into
its memory at once, padded to one shape. The arithmetic is in `batched_kernels.py`; who is asked
together is in `lockstep.py`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.errors import ComputeError
from saeborzoi.motifs.engine.batched_kernels import (
    Nodes,
    best_windows,
    counts_of_best,
    expectation_maximization,
)
from saeborzoi.motifs.engine.search_data import (
    SHARPNESS,
    Align,
    Aligned,
    Answer,
    Converge,
    Converged,
    Order,
    Ordered,
    Request,
    Windows,
)

_MOST_BYTES = 2**30
"""Working memory of a pass on a GPU: large enough that starting its kernels costs little beside
running them."""
_FREE_SHARE = 0.25
"""And at most this share of the memory that is free there."""
_CPU_BYTES = 2**26
_LIVE = 4
"""Arrays of the size of all windows that are alive at once."""


class BatchedExecutor:
    """Answers requests of many nodes together.

    Parameters
    ----------
    device
        As PyTorch names it.
    max_bytes
        Working memory of a pass; left out: what suits the device.
    """

    def __init__(self, device: str, max_bytes: int | None = None) -> None:
        self._device = torch.device(device)
        self._max_bytes = max_bytes or _working_memory(self._device)
        self._lock = threading.Lock()
        # a search asks about the same windows several times
        self._codes: weakref.WeakKeyDictionary[object, Tensor] = weakref.WeakKeyDictionary()
        self._weights: weakref.WeakKeyDictionary[object, Tensor] = weakref.WeakKeyDictionary()

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers to requests of one kind, see `lockstep.kind`. May be called by several threads.

        Raises
        ------
        ComputeError
            Where the device's memory is full.
        """
        most = max(len(_matrices(request)) for request in requests)
        size = max(1, self._matrices_a_pass(requests) // most)
        answers: list[Answer] = []
        try:
            with self._lock, torch.inference_mode():
                for i in range(0, len(requests), size):
                    answers += self._pass(requests[i : i + size])
        except torch.OutOfMemoryError as error:
            raise ComputeError(
                f"the memory of {self._device} is full while {len(requests)} nodes are searched "
                "for motifs; free it of other processes, ask for a larger GPU, or set "
                '[motifs] device = "cpu"'
            ) from error
        return answers

    def _pass(self, requests: Sequence[Request]) -> list[Answer]:
        nodes = self._stack([request.windows for request in requests])
        if isinstance(requests[0], Align):
            return self._align(nodes, requests)  # type: ignore[arg-type]
        if isinstance(requests[0], Converge):
            return self._converge(nodes, requests)  # type: ignore[arg-type]
        return self._order(nodes, requests)  # type: ignore[arg-type]

    def _matrices_a_pass(self, requests: Sequence[Request]) -> int:
        """How many matrices fit into the working memory."""
        shapes = [request.windows.data.codes4.shape for request in requests]
        n_strands, n_sequences, longest = (max(sizes) for sizes in zip(*shapes, strict=True))
        of_each = _LIVE * (longest - requests[0].windows.width + 1)
        if isinstance(requests[0], Converge):
            of_each += 5 * longest  # the 4-mers and, for each letter, where it is
        return max(1, self._max_bytes // (8 * n_strands * n_sequences * of_each))

    def _stack(self, windows: Sequence[Windows]) -> Nodes:
        data = [w.data for w in windows]
        width = windows[0].width
        n_strands = len(data[0].letters)
        n = max(d.lengths.size for d in data)
        codes = _stacked([self._kept(self._codes, d, d.codes4) for d in data])
        weight = _stacked([self._kept(self._weights, w, w.weight) for w in windows])
        places = np.ones((len(data), n))
        for k, d in enumerate(data):
            places[k, : d.lengths.size] = n_strands * np.maximum(d.lengths - width + 1, 1)
        return Nodes(
            codes.flatten(2).long(),
            weight.flatten(2),
            self._tensor(places),
            self._tensor(np.stack([d.background for d in data])),
            self._tensor(np.array([d.lengths.size for d in data])),
            self._tensor(np.array([d.codes4.shape[2] for d in data])),
        )

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _kept(
        self,
        kept: weakref.WeakKeyDictionary[object, Tensor],
        key: object,
        array: NDArray[np.generic],
    ) -> Tensor:
        """An array of (n_strands, n_sequences, positions) on the device, positions first."""
        if key not in kept:
            kept[key] = self._tensor(array.transpose(2, 0, 1))
        return kept[key]

    def _align(self, nodes: Nodes, requests: Sequence[Align]) -> list[Answer]:
        n_starts = [len(r.letters) for r in requests]
        width = requests[0].windows.width
        letters = np.zeros((len(requests), max(n_starts), width), np.int64)
        for k, request in enumerate(requests):
            letters[k, : n_starts[k]] = request.letters
        numbers = [r.windows.data.numbers for r in requests]
        limits = np.zeros((len(requests), max(map(len, numbers))), np.int64)
        for k, own in enumerate(numbers):
            limits[k, : len(own)] = own
        start = self._tensor(letters)
        limit = self._tensor(limits)
        counts, n_eligible = [], []
        # one node's starting points alone may be more than fits
        step = max(1, self._matrices_a_pass(requests) // len(requests))
        for i in range(0, start.shape[1], step):
            some = start[:, i : i + step]
            # added to the letter only: the sum rounds as in the compiled loop
            matrices = (1.0 - SHARPNESS) * nodes.background[:, None, None].expand(*some.shape, 4)
            is_own = torch.nn.functional.one_hot(some, 4).bool()
            matrices = torch.where(is_own, matrices + SHARPNESS, matrices)
            half = torch.full(some.shape[:2], 0.5, dtype=torch.float64, device=self._device)
            best = best_windows(nodes, matrices, half)
            counts.append(counts_of_best(nodes, best, width, limit).cpu())
            n_eligible.append((best.score > 0).sum(2).cpu())
        all_counts = torch.cat(counts, dim=1).numpy().astype(np.int64)
        eligible = torch.cat(n_eligible, dim=1).numpy()
        return [
            Aligned(
                np.ascontiguousarray(all_counts[k, : n_starts[k], : len(numbers[k])]),
                eligible[k, : n_starts[k]].copy(),
            )
            for k in range(len(requests))
        ]

    def _order(self, nodes: Nodes, requests: Sequence[Order]) -> list[Answer]:
        n_matrices = [len(r.matrices) for r in requests]
        width = requests[0].windows.width
        matrices = np.full((len(requests), max(n_matrices), width, 4), 0.25)
        fractions = np.full((len(requests), max(n_matrices)), 0.5)
        for k, request in enumerate(requests):
            matrices[k, : n_matrices[k]] = request.matrices
            fractions[k, : n_matrices[k]] = request.fractions
        best = best_windows(nodes, self._tensor(matrices), self._tensor(fractions))
        starts = (best.first + best.strand * nodes.longest[:, None, None]).cpu().numpy()
        order = best.order.cpu().numpy()
        n_eligible = (best.score > 0).sum(2).cpu().numpy()
        answers: list[Answer] = []
        for k, request in enumerate(requests):
            m, n = n_matrices[k], request.windows.data.lengths.size
            # padding scores 0 and stands last: the first n are the node's own
            answers.append(
                Ordered(order[k, :m, :n].copy(), starts[k, :m, :n].copy(), n_eligible[k, :m])
            )
        return answers

    def _converge(self, nodes: Nodes, requests: Sequence[Converge]) -> list[Answer]:
        n_matrices = [len(r.matrices) for r in requests]
        of_node = np.repeat(np.arange(len(requests)), n_matrices)
        matrices, fractions = expectation_maximization(
            nodes.take(self._tensor(of_node)),
            self._tensor(np.concatenate([r.matrices for r in requests])),
            self._tensor(np.concatenate([r.fractions for r in requests])),
            requests[0].hold_fraction,
        )
        ends = np.cumsum(n_matrices)[:-1]
        return [
            Converged(np.ascontiguousarray(m), f.copy())
            for m, f in zip(
                np.split(matrices.cpu().numpy(), ends),
                np.split(fractions.cpu().numpy(), ends),
                strict=True,
            )
        ]


def _matrices(request: Request) -> NDArray[np.generic]:
    return request.letters if isinstance(request, Align) else request.matrices


def _working_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return min(_MOST_BYTES, int(_FREE_SHARE * free))


def _stacked(arrays: Sequence[Tensor]) -> Tensor:
    """Arrays in one, each filled up with zeros to the largest shape."""
    shape = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
    missing = [[have - want for have, want in zip(shape, a.shape, strict=True)] for a in arrays]
    return torch.stack(
        [
            torch.nn.functional.pad(a, [x for n in reversed(m) for x in (0, n)]) if any(m) else a
            for a, m in zip(arrays, missing, strict=True)
        ]
    )
