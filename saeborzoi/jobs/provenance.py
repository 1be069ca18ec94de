"""The provenance document that stands beside an artifact's data: what made it, from what, and a
checksum of every file, which whoever reads the artifact compares first."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import saeborzoi
from saeborzoi.errors import StoreError
from saeborzoi.files import restore, write_file, write_folder
from saeborzoi.jobs.fingerprint import digest_of, fingerprint_of
from saeborzoi.jobs.job import Job
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.command_lines import command_of
from saeborzoi.settings.hyperparameters import parse_node_key, set_key

PROVENANCE = "provenance.json"
_LIBRARIES = ("torch", "numpy", "pandas", "h5py", "duckdb", "memelite", "umap-learn")


def provenance(job: Job | None, **more: Any) -> dict[str, Any]:
    """What made an artifact: job (None where it is the whole project's), code version, libraries,
    time, and whatever the stage adds. Paths are relative to the store."""
    return {
        "job": _portable(job) if job else None,
        "code_version": saeborzoi.__version__,
        "libraries": _library_versions(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


@contextlib.contextmanager
def write_artifact(folder: Path, data_version: str, document: dict[str, Any]) -> Iterator[Path]:
    """A temporary sibling of `folder` to fill, as `write_folder`; sealed with its provenance.

    Parameters
    ----------
    folder
        The artifact.
    data_version
        Version of the result, as it goes into the catalogue.
    document
        Of `provenance`.

    Raises
    ------
    StoreError
        Where the folder cannot be written or the disk is full.
    """
    with write_folder(folder) as temporary:
        yield temporary
        _seal(temporary, temporary / PROVENANCE, data_version, document)


def seal(folder: Path, data_version: str) -> bool:
    """Give an artifact of the first release its version and the checksums of its files as they are;
    whether it has them, and is of that version.

    Raises
    ------
    StoreError
        Where its provenance is damaged or cannot be written.
    """
    document = read_sealed(folder / PROVENANCE)
    if _data_version(document) not in (None, data_version):
        return False
    if "files" not in document:
        with write_file(folder / PROVENANCE) as temporary:
            _seal(folder, temporary, data_version, document)
    return True


def _seal(folder: Path, provenance_file: Path, data_version: str, document: dict[str, Any]) -> None:
    files = {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "xxh3": digest_of(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file not in (folder / PROVENANCE, provenance_file)
    }
    write_sealed(provenance_file, {**document, "data_version": data_version, "files": files})


def _data_version(document: dict[str, Any]) -> str | None:
    """Version of the result that a provenance document is of, None where it does not tell."""
    version = document.get("data_version")
    job = document.get("job")
    if version is None and isinstance(job, dict) and not job.get("together"):
        # of the first release: the job's id ends with it
        version = str(job.get("job_id", "")).rpartition("-")[2] or None
    return version


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document with a checksum of itself."""
    plain = json.loads(json.dumps(document, default=str))
    sealed = {**plain, "checksum": fingerprint_of(plain)}
    path.write_text(json.dumps(sealed, indent=1) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """A document of `write_sealed`; one of the first release, without checksum, passes.

    Raises
    ------
    StoreError
        Where it is missing or damaged, with the command that makes it again.
    """
    try:
        document = json.loads(path.read_bytes())
        checksum = document.pop("checksum", None)
    except FileNotFoundError:
        raise StoreError(f"{path}: is missing; {again(path.parent)}") from None
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: is damaged ({error}); {again(path.parent)}") from None
    is_sealed = checksum is not None or "files" in document
    if is_sealed and checksum != fingerprint_of(document):
        raise StoreError(
            f"{path}: is damaged (its content does not have its checksum); {again(path.parent)}"
        )
    return dict(document)


def require_whole(folder: Path, data_version: str | None = None) -> Path:
    """The artifact's folder, refused where a file of it is not as it was written.

    Every stage that reads an artifact goes through here; every byte is read.

    Parameters
    ----------
    folder
        The artifact. One of the first release has no checksums, and passes.
    data_version
        Version that the catalogue's row says; None compares none.

    Raises
    ------
    StoreError
        Names the first file that is missing, truncated or damaged, or says that the artifact is
        another one than the catalogue's, with the command that makes it again.
    """
    for file, digest in written_files(folder, data_version).items():
        if digest_of(file) != digest:
            raise damaged(folder, file)
    return folder


def written_files(folder: Path, data_version: str | None = None) -> dict[Path, str]:
    """Files of an artifact, and the digests that their content was written with.

    Names, sizes and the version are compared here, content is not. Parameters and errors are those
    of `require_whole`.
    """
    restore(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder}: is missing; {again(folder)}")
    document = read_sealed(folder / PROVENANCE)
    of_artifact = _data_version(document)
    if None not in (data_version, of_artifact) and of_artifact != data_version:
        raise StoreError(
            f"{folder}: holds another result (data version {of_artifact}) than the catalogue says "
            f"({data_version}), as where a run was killed before it could catalogue it; "
            f"{again(folder)}"
        )
    files = {}
    for name, written in document.get("files", {}).items():
        file = folder / name
        try:
            size = file.stat().st_size
        except OSError:
            raise StoreError(f"{file}: is missing; {again(folder)}") from None
        if size != written["bytes"]:
            raise StoreError(
                f"{file}: is damaged ({size:,} bytes, {written['bytes']:,} were written); "
                f"{again(folder)}"
            )
        files[file] = written["xxh3"]
    return files


def damaged(folder: Path, file: Path) -> StoreError:
    """The error for a file of an artifact with another content than was written."""
    return StoreError(
        f"{file}: is damaged (its content does not have the checksum that it was written with); "
        f"{again(folder)}"
    )


def require_input(job: Job, name: str) -> Path:
    """Folder of an input artifact of a job, whole and of the version that the job was made for."""
    return require_whole(job.inputs[name], job.input_versions.get(name))


def again(folder: Path) -> str:
    """How an artifact is made again, by where it lies in the store.

    >>> again(Path("/store/saes/conv_x4_k0.05_lr0.003_s0/trained_sae"))
    'make it again: saeborzoi run conv_x4_k0.05_lr0.003_s0 --select trained_sae --again'
    >>> again(Path("/store/variants/traits/variant_effects"))
    'make it again: saeborzoi run --select variant_effects --again'
    """
    parts = folder.parts
    for place in reversed(range(len(parts))):
        below = parts[place + 1 :]
        nodes = ""
        if parts[place] == "project" and len(below) == 1:
            below = ("project", below[0])
        elif parts[place] == "browser" and len(below) == 1:
            below = (below[0], "feature_browser")
        elif parts[place] == "variants" and len(below) == 2:
            below = (set_key(below[0]), below[1])
        elif parts[place] == "saes" and len(below) == 3 and _is_of_set(below[1]):
            below = (f"{below[0]}|{set_key(below[2])}", below[1])
        elif parts[place] == "saes" and len(below) > 2:
            first, _, last = below[2].partition("_")[0].partition(".")[0].partition("-")
            nodes = "-".join(str(parse_node_key(key)) for key in (first, last) if key)
        elif parts[place] not in ("saes", "layers") or len(below) != 2:
            continue
        if below[1] in ARTIFACT:
            return f"make it again: {command_of(below[1], below[0], nodes, again=True)}"
    return "make it again with `saeborzoi run`"


def _is_of_set(asset: str) -> bool:
    """Whether an SAE has an artifact of this kind for each set of variants."""
    return asset in ARTIFACT and ARTIFACT[asset].grain == "sae_variants"


def _portable(job: Job) -> Any:
    """The job's document with paths beside the store relative to it."""
    store = job.settings.project.store

    def relative(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: relative(item) for name, item in value.items()}
        if isinstance(value, list):
            return [relative(item) for item in value]
        if isinstance(value, str) and value.startswith(f"{store.parent}{os.sep}"):
            return os.path.relpath(value, store)
        return value

    return relative(job.model_dump(mode="json"))


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
