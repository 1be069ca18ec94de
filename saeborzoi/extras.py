"""Packages that only an extra of the installation brings, and which extra that is.

An import of such a package stands in ``with extra("name"):``, so that where it is missing the
message says what to install. A test holds that every import of another package is a dependency or
stands so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from saeborzoi.errors import MissingPackageError


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages that the extra `name` of pyproject.toml brings.

    Raises
    ------
    MissingPackageError
        Where one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("saeborzoi"):
            raise
        raise MissingPackageError(missing(error, name), name=error.name) from None


def missing(error: ModuleNotFoundError, name: str) -> str:
    """What to say of a package that is not there.

    >>> missing(ModuleNotFoundError(name="umap.umap_"), "platform").partition(";")[0]
    "the package 'umap' is not installed"
    """
    package = (error.name or str(error)).partition(".")[0]
    return (
        f"the package {package!r} is not installed; fix: install saeborzoi with its extra "
        f"`{name}`, `pip install -c constraints.txt '.[{name}]'` in the checkout or "
        f"'saeborzoi-….whl[{name}]' from a wheel, with {sys.executable}"
    )
