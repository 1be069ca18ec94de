"""Which packages an installation rests on, and under which licences they come."""

from __future__ import annotations

import importlib.metadata as metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_UNKNOWN = "not stated"


class Package(NamedTuple):
    """An installed package.

    Attributes
    ----------
    name, version
        As its own metadata has them.
    licence
        SPDX expression where it states one, else the licence's name; `not stated` where its
        metadata have none.
    url
        Its home page or source; empty where none is named.
    """

    name: str
    version: str
    licence: str
    url: str


def packages(root: str = "saeborzoi") -> list[Package]:
    """Installed packages that a package needs, directly or not, with those of its extras that are
    there; by name, without the package itself.

    Parameters
    ----------
    root
        Name of a distribution.
    """
    by_name: dict[str, Package] = {}
    # every extra of the root counts where its packages are installed
    extras = set(metadata.metadata(root).get_all("Provides-Extra") or ())
    todo = [(canonicalize_name(root), frozenset(extras))]
    visited = set()
    while todo:
        name, package_extras = todo.pop()
        if (name, package_extras) in visited:
            continue
        visited.add((name, package_extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        by_name.setdefault(name, _package(distribution))
        for text in distribution.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in (*package_extras, "")):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    by_name.pop(canonicalize_name(root))
    return [by_name[name] for name in sorted(by_name)]


def _package(distribution: metadata.Distribution) -> Package:
    about = distribution.metadata
    stated = (text.partition(",") for text in about.get_all("Project-URL") or ())
    urls = {label.strip().lower(): url.strip() for label, _, url in stated}
    home = [urls[label] for label in ("homepage", "source", "repository") if label in urls]
    return Package(
        about["Name"],
        distribution.version,
        _licence(about),
        next(iter([*home, about["Home-page"] or "", *urls.values()])),
    )


def _licence(about: metadata.PackageMetadata) -> str:
    """What the metadata say: the expression, else the classifiers, else a name without its text."""
    if expression := about["License-Expression"]:
        return expression
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier") or ()
        if text.startswith("License ::") and not text.endswith("OSI Approved")
    ]
    if classifiers:
        return " or ".join(classifiers)
    stated = (about["License"] or "").strip()
    # some name the file in which it stands
    is_named = stated and not stated.upper().startswith("LICENSE")
    return stated.splitlines()[0][:60] if is_named else _UNKNOWN
