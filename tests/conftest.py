"""Fixtures that more than one part of the tests uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

# `make test-slow` names the thorough one
hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=400, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_TOGETHER = {
    "slurm": (
        *(f"tests/compute/test_slurm_{name}.py" for name in ("timeout", "compute", "run", "ssh")),
        "tests/compute/test_celery.py",
        "tests/compute/test_preflight.py",
    ),
    "demo": ("tests/demo/",),
    "browser": ("tests/browser/",),
}
"""Tests that one process does, so that their SLURM, demo or pages are made once; of others, each
file is such a group."""
_FIRST = (
    "slurm",  # waits most of the time, so that it runs beside everything else
    "demo",
    "tests/assets/test_run.py",
    "tests/assets/test_ui.py",
    "browser",
)
"""The longest groups begin first, as the last to begin ends the whole."""


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return next((name for name, paths in _TOGETHER.items() if file.startswith(paths)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as one of them waits for SLURM; each needs up to 2 GB."""
    return min(4, (os.cpu_count() or 1) + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Groups of tests to processes. (`--dist loadgroup` does not group under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See `_FIRST`."""
    rank = {name: i for i, name in enumerate(_FIRST)}
    items.sort(key=lambda item: rank.get(_group(item.nodeid), len(rank)))


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
    where nothing is compiled yet, so that processes that test side by side share one, and
    `make test` makes it before they begin."""
    from tests.made_project import make

    if "SAEBORZOI_MADE_PROJECT" in os.environ:
        return Path(os.environ["SAEBORZOI_MADE_PROJECT"])
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
