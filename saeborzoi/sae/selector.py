"""Which nodes of an SAE positions keep, found on a CPU: in training and in inference.

bfloat16 ranks, float32 decides (`selection.py`). On a GPU `gpu/selector.py` does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels, selection
from saeborzoi.sae.aligned import aligned_empty
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.ranking import Ranking, array
from saeborzoi.sae.threads import Threads, parts

_RANKS = 2**19
"""Ranks at once, about: those of all nodes stay in a core's second cache until the highest of each
position are found. Of fewer than `_LEAST_ROWS` positions the product takes longer."""
_LEAST_ROWS, _MOST_ROWS, _BLOCKS = 512, 1024, 4


class Selector:
    """Finds the active nodes of positions.

    Parameters
    ----------
    threads
        Ranges of rows that are worked on at once; the result does not depend on it.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = Threads(threads)
        self.ranking: Ranking | None = None
        self._buffers: dict[str, np.ndarray] = {}
        self._of_thread = threading.local()

    def buffer(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """A reused array; its contents are whatever was there."""
        if name not in self._buffers or self._buffers[name].shape != shape:
            self._buffers[name] = aligned_empty(shape, dtype)
        return self._buffers[name]

    def __call__(
        self, sae: SparseAutoencoder, raw: Raw
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Active nodes of positions as stored.

        Parameters
        ----------
        sae
            On the CPU.
        raw
            (n, n_channels), as stored in shards.

        Returns
        -------
        (value, node, count)
            (n, max_active) float32 and int32, of which the first count[i] of row i hold; (n,)
            int32. Buffers that the next call overwrites.
        """
        self.threads.map(self.of_rows(sae, raw), self.ranges(len(raw), sae.n_nodes))
        return self.active(sae, len(raw))

    def active(self, sae: SparseAutoencoder, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the active nodes of n positions are written, see `__call__`."""
        return (
            self.buffer("value", (n, sae.max_active)),
            self.buffer("node", (n, sae.max_active), np.int32),
            self.buffer("count", (n,), np.int32),
        )

    def ranges(self, n: int, n_nodes: int) -> list[tuple[int, int]]:
        """Rows of each thread."""
        return parts(n, self.threads.n, block_rows(n, n_nodes))

    def of_rows(
        self, sae: SparseAutoencoder, raw: Raw, *, training: bool = False
    ) -> Callable[[int, int], None]:
        """What finds the active nodes of a range of whole blocks of rows (`block_rows`).

        It writes `active`, and leaves `centred` and `std` in buffers of those names.

        Parameters
        ----------
        training
            Ignore the threshold of a `batch_topk` SAE: the batch decides.
        """
        n, n_channels = raw.shape
        keep = sae.max_active
        value, node, count = self.active(sae, n)
        centred = self.buffer("centred", (n, n_channels))
        std, length = self.buffer("std", (n,)), self.buffer("length", (n,))
        channel_max, pre_bias = sae.channel_max.numpy(), array(sae.pre_bias)
        if self.ranking is None or not self.ranking.is_like(sae):
            self.ranking, self._of_thread = Ranking(sae), threading.local()
        ranking = self.ranking
        ranking.follow(sae)
        size = ranking.bound(sae)
        weight, bias = array(sae.encoder_weight), array(sae.encoder_bias)
        by_floor = sae.variant == "batch_topk" and not training
        floor = np.float32(sae.threshold) if by_floor else np.float32(0)
        width = selection.capacity(keep)
        candidate = self.buffer("candidate", (n, width), np.int32)
        rank = self.buffer("rank", (n, width), np.int16)
        score = self.buffer("score", (n, width))
        n_candidates = self.buffer("n_candidates", (n,), np.int32)
        bound = self.buffer("bound", (n,))
        at_once = block_rows(n, sae.n_nodes)

        def work(first: int, last: int) -> None:
            bits, product, converted = self._memory(ranking, at_once, n_channels)
            for start in range(first, last, at_once):
                rows = slice(start, min(start + at_once, last))
                x = to_float32(raw[rows], out=converted[: rows.stop - start]).numpy()
                kernels.prepare(
                    x, channel_max, pre_bias, centred[rows], bits, std[rows], length[rows], 0,
                    len(x),
                )  # fmt: skip
                selection.candidates(
                    ranking.product(bits[: len(x)], product), length[rows], size, n_channels, keep,
                    floor, by_floor, bound[rows], candidate[rows], rank[rows], n_candidates[rows],
                    0, len(x),
                )  # fmt: skip
            kernels.score(centred, weight, bias, candidate, n_candidates, score, first, last)
            selection.keep_largest(
                centred, weight, bias, keep, floor, bound, candidate, rank, score, n_candidates,
                value, node, count, first, last,
            )  # fmt: skip

        return work

    def _memory(
        self, ranking: Ranking, n: int, n_channels: int
    ) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
        """Of this thread: n positions in bfloat16, the ranks of all nodes there, the positions in
        float32."""
        own = self._of_thread
        if len(getattr(own, "bits", ())) < n:
            own.bits = ranking.positions(n)
            own.product = torch.empty(n, len(ranking.weight), dtype=torch.bfloat16)
            own.converted = torch.empty(n, n_channels)
        return own.bits, own.product, own.converted


def block_rows(n: int, n_nodes: int) -> int:
    """Rows that are ranked at once, and of which sums are made one by one.

    >>> block_rows(4096, 2432), block_rows(3294, 400), block_rows(2048, 160), block_rows(300, 400)
    (512, 824, 512, 300)
    """
    most = min(_MOST_ROWS, max(_LEAST_ROWS, _RANKS // n_nodes))
    n_blocks = max(1, -(-n // most))
    if n >= 2 * _LEAST_ROWS:  # so that they are dealt out evenly
        n_blocks = -(-n_blocks // _BLOCKS) * _BLOCKS
    return max(1, -(-n // n_blocks))
