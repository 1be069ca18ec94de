"""`make dist`: sdist, wheel and SBOM, tried in fresh environments outside of the checkout.

What is tried is what a user installs: the files are complete, the platform runs the demo in an
empty folder, and the worker's installation, without Dagster, runs the jobs of that demo.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import saeborzoi
from saeborzoi import __version__
from saeborzoi.jobs.job import Job

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
IN_WHEEL = {
    "saeborzoi/py.typed",
    "saeborzoi/browser/static/index.html",
    "saeborzoi/demo/dagster_project.toml",
    "saeborzoi_assets/cli.py",
    "saeborzoi_resources/platform.py",
    f"saeborzoi-{__version__}.data/data/share/saeborzoi/constraints.txt",
    f"saeborzoi-{__version__}.dist-info/licenses/LICENSE",
    f"saeborzoi-{__version__}.dist-info/licenses/THIRD_PARTY_NOTICES.md",
}
IN_SDIST = {
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "README.md", "THIRD_PARTY_NOTICES.md",
    "constraints.txt", "dagster_project.toml", "deploy/slurm/saeborzoi.def", "docs/install.md",
    "examples/demo.ipynb", "mkdocs.yml", "pyproject.toml", "tests/conftest.py",
}  # fmt: skip
ONLY_OF_EXTRAS = {"dagster", "duckdb", "matplotlib", "pyjaspar", "tensorboard", "umap"}
_IMPORTS = """
import importlib, pkgutil, sys, time
began = time.monotonic()
import saeborzoi.worker, saeborzoi.stages as stages
for module in pkgutil.iter_modules(stages.__path__):
    importlib.import_module(f"saeborzoi.stages.{module.name}")
print(f"{time.monotonic() - began:.1f}", *sorted({n.partition(".")[0] for n in sys.modules}))
"""


def main() -> None:
    """Build, look, install, run; ends with what was measured."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", str(DIST)], ROOT)
    shutil.copy2(ROOT / "constraints.txt", DIST)
    wheel = _complete()
    lines = [f"{file.name}: {file.stat().st_size / 1e6:.2f} MB" for file in sorted(DIST.iterdir())]
    with tempfile.TemporaryDirectory(prefix="saeborzoi-dist-") as temporary:
        folder = Path(temporary)
        worker, platform = Environment(folder / "worker"), Environment(folder / "platform")
        lines.append(worker.install(wheel, ""))
        lines.append(_imports_of(worker))
        message = worker.run(["saeborzoi", "run"], folder, expected=2)
        assert "extra `platform`" in message, message
        lines.append(worker.install(wheel, "worker"))
        lines.append(platform.install(wheel, "platform"))
        lines.append(_demo(platform, folder))
        lines += _jobs_again(worker, folder)
        sbom = DIST / f"saeborzoi-{__version__}.cdx.json"
        command = ["-m", "cyclonedx_py", "environment", str(platform.python), "--of", "JSON"]
        _run([sys.executable, *command, "--output-file", str(sbom)], ROOT)
        lines.append(f"{sbom.name}: {len(json.loads(sbom.read_text())['components'])} packages")
    print("\n".join(["", *lines]))


class Environment:
    """A fresh virtual environment; nothing of the checkout is in sight."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.folder = folder
        self.python = folder / "bin" / "python"

    def install(self, wheel: Path, extra: str) -> str:
        """Install the wheel with an extra; says how large the environment is then."""
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        constraints = ["--constraint", str(DIST / "constraints.txt")]
        _run([str(self.python), "-m", "pip", "install", "--quiet", *constraints, what], self.folder)
        _run([str(self.python), "-m", "pip", "check", "--quiet"], self.folder)
        n_bytes = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
        return f"installed [{extra}]: {n_bytes / 1e9:.2f} GB"

    def run(self, command: list[str], folder: Path, expected: int = 0) -> str:
        """Run a command of the environment; its output."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return _run(command, folder, {"PATH": path}, expected)


def _run(
    command: list[str], folder: Path, more: dict[str, str] | None = None, expected: int = 0
) -> str:
    print("$", *command, flush=True)
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "DAGSTER_HOME", "SAEBORZOI_PROJECT")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | (more or {})
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != expected:
        raise SystemExit(f"{done.stdout}\nexit code {done.returncode} of {' '.join(command)}")
    return done.stdout


def _complete() -> Path:
    """The wheel, after a look into both files."""
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert names >= IN_WHEEL, f"{wheel.name} lacks {IN_WHEEL - names}"
    tops = {name.partition("/")[0] for name in names}
    assert "tests" not in tops, f"{wheel.name} brings the tests"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= IN_SDIST, f"{sdist.name} lacks {IN_SDIST - names}"
    return wheel


def _imports_of(worker: Environment) -> str:
    seconds, *names = worker.run(["python", "-c", _IMPORTS], worker.folder).splitlines()[-1].split()
    brought = ONLY_OF_EXTRAS & set(names)
    assert not brought, f"the worker imports {brought}"
    return f"imports of every stage: {seconds} s"


def _demo(platform: Environment, folder: Path) -> str:
    output = platform.run(["saeborzoi", "demo"], folder).splitlines()
    return next(line for line in output if "planted motifs recovered" in line)


def _jobs_again(worker: Environment, folder: Path) -> list[str]:
    """Every kind of job of the demo, run by the environment that has no Dagster."""
    lines = []
    for document in sorted(folder.glob("demo/store/jobs/*/job.json")):
        job = Job.model_validate_json(document.read_text())
        for table, file in job.inputs.items():
            if not file.exists():  # what a batch of nodes is given goes once it is catalogued
                rows = saeborzoi.open(folder).sae(job.key).table(table)
                rows.to_parquet(file)
        output = worker.run(["python", "-m", "saeborzoi.worker", str(document)], folder)
        lines.append(f"worker alone, {job.stage}: {output.splitlines()[-1]}")
    assert lines, "the demo left no job"
    return lines


if __name__ == "__main__":
    main()
