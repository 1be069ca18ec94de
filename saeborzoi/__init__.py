"""Named, checkable features from a DNA sequence model's activations.

What a notebook needs is here: `open` a project, `load_sae` from a file. Everything else is in the
modules of this package, which are there without a further import: `saeborzoi.plots`,
`saeborzoi.motifs`. Nothing is imported before it is used, and nothing here needs Dagster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saeborzoi.activations.shards import ShardFolder
    from saeborzoi.catalog.catalog import Catalog
    from saeborzoi.project import Motif, Node, Project, Sae
    from saeborzoi.project import open_project as open
    from saeborzoi.sae.checkpoint import load_sae
    from saeborzoi.sae.model import SparseAutoencoder
    from saeborzoi.settings.load import load_settings

from saeborzoi.caches import find_caches

__version__ = "0.1.0"

# before numba is imported, which reads its variable then
find_caches()

__all__ = [
    "Catalog",
    "Motif",
    "Node",
    "Project",
    "Sae",
    "ShardFolder",
    "SparseAutoencoder",
    "__version__",
    "load_sae",
    "load_settings",
    "open",
]

_HOME = {
    "Catalog": "saeborzoi.catalog.catalog",
    "Motif": "saeborzoi.project",
    "Node": "saeborzoi.project",
    "Project": "saeborzoi.project",
    "Sae": "saeborzoi.project",
    "ShardFolder": "saeborzoi.activations.shards",
    "SparseAutoencoder": "saeborzoi.sae.model",
    "load_sae": "saeborzoi.sae.checkpoint",
    "load_settings": "saeborzoi.settings.load",
    "open": "saeborzoi.project",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        return getattr(home, "open_project" if name == "open" else name)
    if name in _modules():
        return importlib.import_module(f"saeborzoi.{name}")
    import difflib

    nearest = difflib.get_close_matches(name, __dir__(), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise AttributeError(f"module 'saeborzoi' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_modules()})


def _modules() -> list[str]:
    import pkgutil

    return [module.name for module in pkgutil.iter_modules(__path__)]
