"""Kernels compile for cards that are not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_kernels_compile_for_hopper_and_what_decodes_stays_in_registers(tmp_path: Path) -> None:
    """What does not fit the registers goes through memory, which is what the kernel saves."""
    pytest.importorskip("triton", reason="needs the package triton, which is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    text = subprocess.run(
        [sys.executable, "-m", "tests.sae.gpu.compiled", "90"],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)}, cwd=Path(__file__).parents[3],
        check=True, capture_output=True, text=True, timeout=500,
    ).stdout  # fmt: skip
    for kernels in json.loads(text).values():
        assert kernels["decode"]["stack"] <= 512
        assert kernels["update"]["stack"] == kernels["prepare"]["stack"] == 0
