"""Opening a project of the first release: what was made from files that are still the same stays.

The first release compared sizes, times and samples of the files. Where these agree today, the files
are the ones that it read, and their content is noted in the place of the times.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from saeborzoi.catalog import first_release
from saeborzoi.errors import SaeBorzoiError
from saeborzoi_resources.platform import Platform

_BLOCK = 65536


def take_over(platform: Platform, tell: Callable[[str], None] | None = None) -> None:
    """Take over what the first release made; where there is nothing of it, nothing happens.

    Parameters
    ----------
    platform
        The project.
    tell
        Gets a line of what was done; left out, it goes to standard error.
    """
    tell = tell or partial(print, file=sys.stderr)
    if not platform.catalog.path.exists():
        return
    standing = first_release.of_times(platform.catalog)
    if not standing:
        return
    same = {each: content for each in standing if (content := _content(platform, each))}
    try:
        n_artifacts = first_release.take_over(platform.catalog, same)
    except (SaeBorzoiError, OSError) as error:
        tell(f"results of an earlier release show as stale, as they cannot be taken over: {error}")
        return
    if n_artifacts:
        tell(
            f"taken over from an earlier release: {n_artifacts} artifacts have checksums and a "
            f"record of their rows now; {len(same)} of {len(standing)} results were made from "
            "files that are still the same"
        )


def _content(platform: Platform, each: first_release.OfTimes) -> str | None:
    """Fingerprint of the content of a result's files; None where they are not those of then."""
    try:
        if former_fingerprint(platform.files_of(each.asset, each.owner)) != each.files:
            return None
        content: str = platform.version_of(each.asset, each.owner).made_from["files"]
    except (SaeBorzoiError, OSError):
        return None  # a file is gone, or the settings no longer have the SAE
    return content


def former_fingerprint(paths: Iterable[Path]) -> str:
    """Fingerprint of files as the first release made it, of names, sizes, times and samples.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            status = file.stat()
            size = status.st_size
            digest.update(f"{file.name}\0{size}\0{status.st_mtime_ns}\0".encode())
            with file.open("rb") as stream:
                for offset in sorted({0, size // 2, max(0, size - _BLOCK)}):
                    stream.seek(offset)
                    digest.update(stream.read(_BLOCK))
    return digest.hexdigest()
