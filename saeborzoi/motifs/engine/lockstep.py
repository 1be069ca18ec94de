"""Searches of many nodes side by side: each asks, and those that ask the same kind of thing are
answered together.

Which are answered together changes nothing in an answer, so a node's result does not depend on the
others. Importing this module does not import PyTorch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from saeborzoi.errors import SettingsError
from saeborzoi.motifs.engine.search_data import Answer, Converge, Request, Steps

T = TypeVar("T")

_FEWEST_NODES = 64
"""Fewer take no longer on one core than starting the GPU does (some seconds)."""
_GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""In /dev where there is a GPU; importing PyTorch to ask it takes 2 s."""


def gpu_for(device: str, n_nodes: int) -> str | None:
    """The GPU to search `n_nodes` nodes on; None where the CPU is to do it.

    Parameters
    ----------
    device
        As of `[motifs]`: "auto" takes a GPU that this job has where there are enough nodes.

    Raises
    ------
    SettingsError
        Where device is "cuda" and PyTorch sees no GPU.
    """
    if device == "cpu":
        return None
    if device == "auto":
        has_files = any(any(Path("/dev").glob(name)) for name in _GPU_FILES)
        if n_nodes < _FEWEST_NODES or not has_files:
            return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return None
    raise SettingsError(
        f'[motifs] device = "cuda", but torch {torch.__version__} sees no GPU in this job; ask for '
        'one with gres = "gpu:1" in [compute.profile.meme_motifs], install a CUDA build of torch '
        'where the job runs, or set device = "auto"'
    )


def in_lockstep(
    searches: Sequence[Steps[T]],
    answer: Callable[[Sequence[Request]], list[Answer]],
    workers: Executor,
) -> list[T]:
    """Take searches to their end together.

    Parameters
    ----------
    answer
        Gives the answers to requests of one `kind`.
    workers
        Threads for what the searches do between their requests.

    Returns
    -------
    What each search found, in their order.
    """
    found: dict[int, T] = {}
    waiting: dict[Hashable, list[tuple[int, Request]]] = defaultdict(list)

    def take(numbers: Sequence[int], answers: Sequence[Answer | None]) -> None:
        """Send searches their answers and sort them by what they ask next."""
        steps = [searches[number] for number in numbers]
        for number, (request, result) in zip(
            numbers, workers.map(_advance, steps, answers), strict=True
        ):
            if request is None:
                found[number] = result  # type: ignore[assignment]
            else:
                waiting[kind(request)].append((number, request))

    take(range(len(searches)), [None] * len(searches))
    while waiting:
        # the largest group first: those that are ahead wait for the others
        largest = waiting.pop(max(waiting, key=lambda k: len(waiting[k])))
        take([number for number, _ in largest], answer([request for _, request in largest]))
    return [found[number] for number in range(len(searches))]


def kind(request: Request) -> Hashable:
    """What requests must have in common to be answered together."""
    hold = request.hold_fraction if isinstance(request, Converge) else None
    return type(request), request.windows.width, len(request.windows.data.letters), hold


def _advance(steps: Steps[T], answer: Answer | None) -> tuple[Request | None, T | None]:
    """The next request of a search, or what it found at its end."""
    try:
        return (next(steps) if answer is None else steps.send(answer)), None
    except StopIteration as end:
        return None, end.value
