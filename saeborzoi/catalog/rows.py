"""Putting a result's rows into the catalogue, and the record of them beside the artifact.

The record says what the catalogue says of an artifact, so that a catalogue can be made again from
the artifacts alone (`rebuild.py`). It is written in the same transaction, and follows where nodes
of a batch are replaced or removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope, of_partitions, where_of
from saeborzoi.catalog.store import relative_to_store
from saeborzoi.errors import StoreError
from saeborzoi.files import write_file
from saeborzoi.jobs.fingerprint import digest_of
from saeborzoi.jobs.provenance import PROVENANCE, again, read_sealed, write_sealed

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

RECORD = "catalogued.json"
_ROWS = "catalogued"


def put_rows(
    connection: duckdb.DuckDBPyConnection, scope: Scope, tables: Mapping[str, pd.DataFrame]
) -> None:
    """Put rows in the place of exactly those of a scope."""
    condition, parameters = where_of(scope)
    for name, frame in tables.items():
        connection.execute(f"DELETE FROM {name} WHERE {condition}", parameters)
        if len(frame):
            connection.register("incoming", frame)
            columns = ", ".join(column.name for column in TABLE[name].columns)
            connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")
            connection.unregister("incoming")


class Superseded(NamedTuple):
    """Artifacts that rows stood on before: `gone` none stands on any more, `cut` some do."""

    gone: list[str]
    cut: list[str]


def put_materialization(
    connection: duckdb.DuckDBPyConnection,
    made: Made,
    artifact: str,
    scope: Scope,
    n_rows: int,
    made_at: datetime,
) -> Superseded:
    """Note what made the rows of a scope; `artifact` is relative to the store."""
    condition, parameters = of_partitions(scope)
    arguments = [made.asset, *parameters]
    before = connection.execute(
        f"SELECT DISTINCT artifact FROM materialization WHERE asset = ? AND {condition}", arguments
    ).fetchall()
    connection.execute(f"DELETE FROM materialization WHERE asset = ? AND {condition}", arguments)
    connection.execute(
        "INSERT INTO materialization (asset, owner, node, variant_set, run_id, code_version, "
        "data_version, artifact, n_rows, made_at, made_from) "
        "SELECT ?, ?, unnest(?::INTEGER[]), ?, ?, ?, ?, ?, ?, ?, ?",
        [
            made.asset,
            scope.owner,
            [None] if scope.nodes is None else list(map(int, scope.nodes)),
            scope.partition_keys[0].variant_set if scope.nodes is None else None,
            made.run_id,
            made.code_version,
            made.data_version,
            artifact,
            n_rows,
            made_at,
            _text(made.made_from),
        ],
    )
    names = {name for (name,) in before} - {artifact}
    standing = set(nodes_standing(connection, names))
    return Superseded(sorted(names - standing), sorted(names & standing))


def nodes_standing(
    connection: duckdb.DuckDBPyConnection, artifacts: Iterable[str]
) -> dict[str, list[int]]:
    """Artifacts that rows stand on, of some, and the nodes that do."""
    rows = connection.execute(
        "SELECT artifact, list(node ORDER BY node) FILTER (node IS NOT NULL) FROM materialization "
        "WHERE list_contains(?, artifact) GROUP BY artifact",
        [sorted(artifacts)],
    ).fetchall()
    return {name: list(nodes or ()) for name, nodes in rows}


def remove_batches(root: Path, artifacts: Iterable[str]) -> None:
    """Remove folders of this store that no row stands on; the caller holds the lock."""
    for name in artifacts:
        # what an earlier release named by an absolute path may be another store's
        if not Path(name).is_absolute() and ".." not in Path(name).parts:
            shutil.rmtree(root / name, ignore_errors=True)


def _text(made_from: Mapping[str, Any] | None) -> str | None:
    return None if made_from is None else json.dumps(made_from, sort_keys=True, default=str)


# -- the record beside the artifact ---------------------------------------------------------------


def write_record(
    made: Made,
    scope: Scope,
    tables: Mapping[str, pd.DataFrame],
    n_rows: int,
    made_at: datetime,
    root: Path,
    *,
    beside: bool = False,
) -> None:
    """Write beside an artifact of the store what the catalogue says of it.

    Rows that no file `<table>.parquet` of the artifact holds are written there, too; with `beside`
    all of them, whatever the artifact's own files hold.
    """
    folder = made.artifact
    if not (folder.is_dir() and folder != root and folder.is_relative_to(root)):
        return
    files = {}
    for name, frame in tables.items():
        file = folder / f"{name}.parquet"
        if beside or not file.exists():
            file = folder / _ROWS / f"{name}.parquet"
            with write_file(file) as temporary:
                frame.to_parquet(temporary, index=False)
        files[name] = {"file": file.relative_to(folder).as_posix(), "xxh3": digest_of(file)}
    document = {
        **made._asdict(),
        "artifact": relative_to_store(folder, root),
        "made_from": _text(made.made_from),
        "scope": scope._asdict(),
        "n_rows": n_rows,
        "made_at": made_at.isoformat(),
        "files": files,
    }
    with write_file(folder / RECORD) as temporary:
        write_sealed(temporary, document)


def limit_record(folder: Path, nodes: Iterable[int]) -> None:
    """Only these nodes' rows stand on a batch any more."""
    record = folder / RECORD
    if record.exists():
        document = read_sealed(record)
        document["scope"]["nodes"] = list(nodes)
        with write_file(record) as temporary:
            write_sealed(temporary, document)


def reseal(folder: Path) -> None:
    """Write the checksums of an artifact anew, some of whose rows were taken out on purpose."""
    for name in (PROVENANCE, RECORD):
        if not (folder / name).exists():
            continue
        document = read_sealed(folder / name)
        for file, written in document.get("files", {}).items():
            path = folder / (file if name == PROVENANCE else written["file"])
            written["xxh3"] = digest_of(path)
            if "bytes" in written:
                written["bytes"] = path.stat().st_size
        if "files" in document:
            with write_file(folder / name) as temporary:
                write_sealed(temporary, document)


def _scope_of(written: Mapping[str, Any]) -> Scope:
    """The scope of a record; earlier releases called the SAE's key `hyperparameters`."""
    key = written["sae_key"] if "sae_key" in written else written["hyperparameters"]
    nodes = written["nodes"]
    return Scope(
        written["layer"], key, None if nodes is None else tuple(nodes), written.get("variant_set")
    )


class Record(NamedTuple):
    """What a record says, with its rows."""

    made: Made
    artifact: str
    scope: Scope
    tables: dict[str, pd.DataFrame]
    n_rows: int
    made_at: datetime


def read_record(folder: Path, root: Path) -> Record:
    """The record of an artifact.

    Raises
    ------
    StoreError
        Where it, or a file that holds its rows, is damaged.
    """
    import pandas as pd

    document = read_sealed(folder / RECORD)
    scope = _scope_of(document["scope"])
    tables = {}
    for name, written in document["files"].items():
        file = folder / written["file"]
        if not file.exists() or digest_of(file) != written["xxh3"]:
            raise StoreError(f"{file}: is missing or damaged; {again(folder)}")
        frame = pd.read_parquet(file)
        if scope.nodes is not None:
            frame = frame[frame["node"].isin(scope.nodes)]
        tables[name] = frame
    made_from = document["made_from"]
    origin = Made(
        document["asset"],
        document["run_id"],
        document["code_version"],
        document["data_version"],
        folder,
        None if made_from is None else json.loads(made_from),
    )
    return Record(
        origin,
        # where it lies now, whatever it was called
        relative_to_store(folder, root),
        scope,
        tables,
        document["n_rows"],
        datetime.fromisoformat(document["made_at"]),
    )
