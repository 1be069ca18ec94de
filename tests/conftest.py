"""Fixtures that more than one part of the tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

# CI=true, as every public CI sets it, looks thoroughly; HYPOTHESIS_PROFILE names another one
hypothesis.settings.register_profile("default", max_examples=100, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "default")
)

if not Path("/dev/nvidiactl").exists():
    # kernels run under Triton's interpreter; it is asked for when they are first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

_CASES = Path(os.environ.get("SAEBORZOI_CASES", Path(__file__).parents[2] / "shared" / "cases"))


@pytest.fixture(scope="session")
def hg38_case() -> Path:
    """Folder of the hg38 case: a real network's activations on 10 Mb of chr1."""
    return _case("hg38_chr1")


@pytest.fixture(scope="session")
def meme_parity_case() -> Path:
    """Folder of recorded MEME results."""
    return _case("meme_parity")


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small project with every result; tests do not write into it. It takes minutes
    where nothing is compiled yet, so that processes that test side by side share one."""
    from tests.made_project import make

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / "made" / "project", shared / "made.done"
    with FileLock(shared / "made.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


def _case(name: str) -> Path:
    folder = _CASES / name
    if not folder.is_dir():
        pytest.skip(f"case {name} is not at {folder}; set SAEBORZOI_CASES to the cases' folder")
    return folder


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Device that a numeric test runs on; the GPU's run is skipped where there is none."""
    if request.param == "cuda":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU that PyTorch can use, and there is none")
    return request.param
