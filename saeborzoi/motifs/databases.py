"""Known motifs to match against: JASPAR (offline, through pyjaspar) and MEME-format files.

Also what is known of a factor: its structural class and family, from JASPAR's annotation, and the
cluster names of motif archetypes.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.motifs.meme_format import read_meme
from saeborzoi.settings.sections import MotifDatabase

_JASPAR_ID = re.compile(r"(?:MA|UN)[0-9]{4}\.[0-9]+")
_ARCHETYPE = re.compile(r"(?P<id>AC[0-9]{4}):(?P<name>[^:]+):(?P<family>.+)")


class Target(NamedTuple):
    """One known motif.

    Attributes
    ----------
    identifier, name
        E.g. `MA0139.2` and `CTCF`; for an archetype its number and the name of its cluster.
    family, structural_class
        Of the factor, None where not known.
    matrix
        (width, 4) float64, rows sum to 1.
    n_sites
        Sites that it was made from.
    """

    identifier: str
    name: str
    family: str | None
    structural_class: str | None
    matrix: NDArray[np.float64]
    n_sites: float


class Database(NamedTuple):
    """A named set of known motifs; identifiers are unique in it."""

    name: str
    motifs: tuple[Target, ...]


def load_databases(wanted: Iterable[MotifDatabase]) -> list[Database]:
    """Read every database of the settings.

    Raises
    ------
    InputError
        Where one is missing, malformed, empty, or names what JASPAR does not have.
    """
    return [load_database(database) for database in wanted]


def check_databases(wanted: Iterable[MotifDatabase]) -> dict[str, int]:
    """Number of motifs of each database; raises as `load_databases`."""
    return {database.name: len(database.motifs) for database in load_databases(wanted)}


def database_files(wanted: Iterable[MotifDatabase]) -> list[Path]:
    """The files among the databases, for fingerprints."""
    return [Path(d.source) for d in wanted if not d.source.startswith("jaspar:")]


@functools.lru_cache(maxsize=8)
def load_database(wanted: MotifDatabase) -> Database:
    """Read one database of the settings; raises as `load_databases`."""
    targets = _from_jaspar(wanted) if wanted.source.startswith("jaspar:") else _from_file(wanted)
    seen: set[str] = set()
    for target in targets:
        # one NaN would spoil the p-values of every other motif
        if not (np.isfinite(target.matrix).all() and np.isfinite(target.n_sites)):
            raise InputError(
                f"motif database {wanted.name!r} ({wanted.source}): motif {target.identifier!r} "
                "holds values that are no numbers; leave it out of the database"
            )
        if target.identifier in seen:
            raise InputError(
                f"motif database {wanted.name!r} ({wanted.source}): motif {target.identifier!r} "
                "stands twice; give each its own identifier"
            )
        seen.add(target.identifier)
    return Database(wanted.name, tuple(targets))


def _from_file(wanted: MotifDatabase) -> list[Target]:
    motifs = read_meme(Path(wanted.source))
    known = _jaspar_annotation(
        tuple(m.identifier for m in motifs if _JASPAR_ID.fullmatch(m.identifier))
    )
    targets = []
    for motif in motifs:
        identifier, name = motif.identifier, motif.name or motif.identifier
        family, structural_class = known.get(identifier, (None, None))
        archetype = _ARCHETYPE.fullmatch(identifier)
        if archetype:
            identifier, name, family = archetype.groups()
        targets.append(
            Target(identifier, name, family, structural_class, motif.matrix, motif.n_sites)
        )
    return targets


def _from_jaspar(wanted: MotifDatabase) -> list[Target]:
    from pyjaspar import jaspar_releases

    parts = wanted.source.split(":")
    if len(parts) != 4:
        raise InputError(
            f"motif database {wanted.name!r}: source {wanted.source!r}; needed is "
            "jaspar:<release>:<collection>:<taxonomic group>, e.g. "
            "'jaspar:JASPAR2024:CORE:vertebrates' ('all' for every group)"
        )
    _, release, collection, group = parts
    if release not in jaspar_releases:
        raise InputError(
            f"motif database {wanted.name!r}: no JASPAR release {release!r}; pyjaspar carries "
            f"{', '.join(sorted(jaspar_releases))}"
        )
    with _jaspar(release) as database:
        collections = _distinct(database, "SELECT DISTINCT COLLECTION FROM MATRIX")
        groups = _distinct(
            database, "SELECT DISTINCT VAL FROM MATRIX_ANNOTATION WHERE TAG = 'tax_group'"
        )
        for what, value, known in (
            ("collection", collection, collections),
            ("taxonomic group", group, [*groups, "all"]),
        ):
            if value not in known:
                raise InputError(
                    f"motif database {wanted.name!r}: {release} has no {what} {value!r}; it has "
                    f"{', '.join(known)}"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is none is said below, as an error
            motifs = database.fetch_motifs(
                collection=collection, tax_group=None if group == "all" else [group]
            )
    if not motifs:
        raise InputError(
            f"motif database {wanted.name!r}: {wanted.source} holds no motif; choose another "
            "collection or taxonomic group"
        )
    return [_jaspar_target(motif) for motif in motifs]


def _jaspar_target(motif: Any) -> Target:
    counts = np.array([motif.counts[a] for a in "ACGT"], np.float64).T
    # of two unvalidated motifs some columns hold no site at all
    counts[counts.sum(axis=1) == 0] = 1
    family, structural_class = _family_and_class(motif)
    return Target(
        motif.matrix_id,
        motif.name,
        family,
        structural_class,
        counts / counts.sum(axis=1, keepdims=True),
        float(counts.sum(axis=1).max()),
    )


def _family_and_class(motif: Any) -> tuple[str | None, str | None]:
    """JASPAR's annotation; a dimer of two families has both, joined by `::` as in its name."""
    return (
        "::".join(dict.fromkeys(motif.tf_family or ())) or None,
        "::".join(dict.fromkeys(motif.tf_class or ())) or None,
    )


@functools.lru_cache(maxsize=8)
def _jaspar_annotation(
    identifiers: tuple[str, ...],
) -> dict[str, tuple[str | None, str | None]]:
    """Family and class of JASPAR matrices that came in a file, from the newest release."""
    if not identifiers:
        return {}
    from pyjaspar import JASPAR_LATEST_RELEASE

    with _jaspar(JASPAR_LATEST_RELEASE) as database, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not every identifier must be known
        motifs = database.fetch_motifs(matrix_id=list(identifiers), all_versions=True)
    return {motif.matrix_id: _family_and_class(motif) for motif in motifs}


class _jaspar:
    """A JASPAR database, closed after use."""

    def __init__(self, release: str) -> None:
        from pyjaspar import jaspardb

        self.database = jaspardb(release=release)

    def __enter__(self) -> Any:
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.conn.close()


def _distinct(database: Any, query: str) -> list[str]:
    rows = database.conn.execute(query).fetchall()
    return sorted(row[0] for row in rows if row[0])
