"""The selection in CUDA C++, on a CPU lane after lane: `warp.cpp` stands for the card."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saeborzoi.sae.gpu.buffers import HALF
from saeborzoi.sae.gpu.plain import largest
from saeborzoi.sae.gpu.row_selection import fits, select, source
from tests.sae.gpu.test_kernels import require_same_selection, values

KINDS = ("normal", "ties", "few", "zeros", "infinite", "alike")
SHAPES = [(2432, 30), (256, 3), (1000, 120), (80, 20), (8192, 64)]


def built(n_nodes: int, k: int, folder: Path) -> Callable[..., None]:
    """The kernel of one shape as a function of this machine."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++ to build the kernel for a CPU, which is not installed")
    (folder / "kernel.inc").write_text(source(n_nodes, k, clear=True, warps=1))
    library = folder / "select.so"
    subprocess.run(
        [compiler, "-O1", "-w", "-shared", "-fPIC", "-std=c++17", f"-I{folder}", "-o", library,
         Path(__file__).with_name("warp.cpp")],
        check=True, timeout=60,
    )  # fmt: skip
    run = ctypes.CDLL(str(library)).run
    run.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int]

    def call(*tensors: torch.Tensor) -> None:
        run(*(t.data_ptr() for t in tensors), len(tensors[0]))

    return call


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_selects_what_a_sort_selects(
    shape: tuple[int, int], device: str, tmp_path: Path
) -> None:
    """Also many equals, which go the slow way; what the last list named is emptied."""
    n_nodes, k = shape
    run = built(n_nodes, k, tmp_path) if device == "cpu" else select
    for seed, kind in enumerate(KINDS):
        h = values(9, n_nodes, seed, kind).to(device)
        assert device == "cpu" or fits(h, k)
        kept, expected = (torch.zeros(9, k, dtype=torch.int32, device=device) for _ in range(2))
        kept[:] = torch.arange(k)
        z, slope = torch.ones(2, 9, n_nodes, device=device).to(HALF)
        run(h, kept, z, slope)
        largest(h, k, expected)
        require_same_selection(h.cpu(), kept.cpu(), expected.cpu())
        bits = kept >> 16
        assert (bits.diff(dim=1) <= 0).all(), "the largest first"
        assert (z[:, :k] == 0).all()
        assert (slope[:, k:] == 1).all()


def test_it_is_for_cards_alone() -> None:
    assert not fits(torch.zeros(4, 256, dtype=HALF), 3)
