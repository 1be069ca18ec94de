"""Known motifs to match against: JASPAR (offline, through pyjaspar) and MEME-format files.

Also what is known of a factor: its structural class and family, from JASPAR's annotation, and the
cluster names of motif archetypes.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.extras import extra
from saeborzoi.files import state
from saeborzoi.motifs.meme_format import read_meme

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
    archetype
        Cluster of like motifs that the database itself puts it into; None where it says none, see
        `archetypes.archetypes`.
    """

    identifier: str
    name: str
    family: str | None
    structural_class: str | None
    matrix: NDArray[np.float64]
    n_sites: float
    archetype: str | None = None


class Database(NamedTuple):
    """A named set of known motifs; identifiers are unique in it."""

    name: str
    motifs: tuple[Target, ...]


def load_databases(sources: Mapping[str, str | Path]) -> list[Database]:
    """Read several databases: name to source, as `load_database` takes them."""
    return [load_database(name, source) for name, source in sources.items()]


def load_database(name: str, source: str | Path) -> Database:
    """Read a database.

    Parameters
    ----------
    name
        What matches call it.
    source
        A MEME-format file, plain or gzipped, or
        ``jaspar:<release>:<collection>:<taxonomic group>`` for what pyjaspar carries, such as
        ``jaspar:JASPAR2024:CORE:vertebrates``.

    Raises
    ------
    InputError
        Where it is missing, malformed, empty, or names what JASPAR does not have.
    """
    source = str(source)
    return _load(name, source, () if source.startswith("jaspar:") else state(Path(source)))


@functools.lru_cache(maxsize=8)
def _load(name: str, source: str, _state: tuple[int, ...]) -> Database:
    in_words = f"motif database {name!r}"
    targets = _from_jaspar(in_words, source) if source.startswith("jaspar:") else _from_file(source)
    identifiers: set[str] = set()
    for target in targets:
        # one NaN would spoil the p-values of every other motif
        if not (np.isfinite(target.matrix).all() and np.isfinite(target.n_sites)):
            raise InputError(
                f"{in_words} ({source}): motif {target.identifier!r} "
                "holds values that are no numbers; leave it out of the database"
            )
        if target.identifier in identifiers:
            raise InputError(
                f"{in_words} ({source}): motif {target.identifier!r} "
                "stands twice; give each its own identifier"
            )
        identifiers.add(target.identifier)
    return Database(name, tuple(targets))


def _from_file(source: str) -> list[Target]:
    motifs = read_meme(source)
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
            Target(
                identifier, name, family, structural_class, motif.matrix, motif.n_sites,
                name if archetype else None,
            )
        )  # fmt: skip
    return targets


def _from_jaspar(in_words: str, source: str) -> list[Target]:
    with extra("jaspar"):
        from pyjaspar import jaspar_releases

    parts = source.split(":")
    if len(parts) != 4:
        raise InputError(
            f"{in_words}: source {source!r}; needed is "
            "jaspar:<release>:<collection>:<taxonomic group>, e.g. "
            "'jaspar:JASPAR2024:CORE:vertebrates' ('all' for every group)"
        )
    _, release, collection, group = parts
    if release not in jaspar_releases:
        raise InputError(
            f"{in_words}: no JASPAR release {release!r}; pyjaspar carries "
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
                    f"{in_words}: {release} has no {what} {value!r}; it has {', '.join(known)}"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is none is said below, as an error
            motifs = database.fetch_motifs(
                collection=collection, tax_group=None if group == "all" else [group]
            )
    if not motifs:
        raise InputError(
            f"{in_words}: {source} holds no motif; choose another collection or taxonomic group"
        )
    return [_jaspar_target(motif) for motif in motifs]


def _jaspar_target(motif: Any) -> Target:
    counts = np.array([motif.counts[a] for a in "ACGT"], np.float64).T
    # of two unvalidated motifs some columns hold no site at all
    counts[counts.sum(axis=1) == 0] = 1
    return Target(
        motif.matrix_id,
        motif.name,
        _joined(motif.tf_family),
        _joined(motif.tf_class),
        counts / counts.sum(axis=1, keepdims=True),
        float(counts.sum(axis=1).max()),
    )


def _joined(names: list[str] | None) -> str | None:
    """JASPAR's annotation; a dimer of two families has both, joined by `::` as in its name."""
    return "::".join(dict.fromkeys(names or ())) or None


@functools.lru_cache(maxsize=8)
def _jaspar_annotation(
    identifiers: tuple[str, ...],
) -> dict[str, tuple[str | None, str | None]]:
    """Family and class of JASPAR matrices that came in a file, from the newest release."""
    if not identifiers:
        return {}
    with extra("jaspar"):
        from pyjaspar import JASPAR_LATEST_RELEASE, jaspardb

    # pyjaspar would read every matrix of these factors, one by one: a second for a collection
    with contextlib.closing(jaspardb(release=JASPAR_LATEST_RELEASE).conn) as file:
        rows = file.execute(
            "SELECT BASE_ID || '.' || VERSION, TAG, VAL FROM MATRIX JOIN MATRIX_ANNOTATION "
            "USING (ID) WHERE TAG IN ('family', 'class') ORDER BY LOCAL_ID"
        ).fetchall()
    known: dict[str, dict[str, list[str]]] = {name: {} for name in identifiers}
    for identifier, tag, value in rows:
        if identifier in known:
            known[identifier].setdefault(tag, []).append(value)
    return {
        identifier: (_joined(tags.get("family")), _joined(tags.get("class")))
        for identifier, tags in known.items()
    }


_ASKED_BY = (
    "MATRIX (BASE_ID)",
    "MATRIX (ID COLLATE NOCASE)",
    "MATRIX_PROTEIN (ID COLLATE NOCASE)",
    "MATRIX_SPECIES (ID)",
)


class _jaspar:
    """A JASPAR database in memory, closed after use."""

    def __init__(self, release: str) -> None:
        with extra("jaspar"):
            from pyjaspar import jaspardb

        self.database = jaspardb(release=release)
        file = self.database.conn
        self.database.conn = sqlite3.connect(":memory:")
        file.backup(self.database.conn)
        file.close()
        # pyjaspar asks for each motif one by one, and its files lack these, or the collation
        for number, column in enumerate(_ASKED_BY):
            self.database.conn.execute(f"CREATE INDEX asked_by_{number} ON {column}")

    def __enter__(self) -> Any:
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.conn.close()


def _distinct(database: Any, query: str) -> list[str]:
    rows = database.conn.execute(query).fetchall()
    return sorted(row[0] for row in rows if row[0])
