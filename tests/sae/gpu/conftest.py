"""Where kernels run."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def kernel_device() -> str:
    """Device that kernels run on here: Triton's interpreter stands for a GPU where there is none
    (`tests/conftest.py`)."""
    pytest.importorskip("triton", reason="needs the package triton, which is not installed")
    return "cuda" if torch.cuda.is_available() else "cpu"
