"""Making the catalogue again from the artifacts of the store, and copies of it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from saeborzoi.catalog import access
from saeborzoi.catalog.access import connected, writing
from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.rows import RECORD, Record, put_materialization, put_rows, read_record
from saeborzoi.catalog.schema import FORMER_NAMES, TABLE
from saeborzoi.catalog.scope import Scope, fitted
from saeborzoi.catalog.tables import make_tables
from saeborzoi.errors import CatalogError, StoreError
from saeborzoi.files import fsync, write_file
from saeborzoi.jobs.provenance import again
from saeborzoi.pipeline import ARTIFACT

if TYPE_CHECKING:
    import pandas as pd

_PLACES = (
    "layers/*/*", "variants/*/*", "saes/*/*", "saes/*/*/*", "project/*", "browser/*",
)  # fmt: skip
_IN_FOLDERS = ("node", "sae_variants")
"""Of these the folder of an SAE's artifact holds one of its own for each batch or set."""


class Rebuilt(NamedTuple):
    """What a catalogue was made of: artifacts, rows, what could not be read, and the name that the
    former file has now (None where there was none)."""

    n_artifacts: int
    n_rows: int
    problems: tuple[str, ...]
    former: Path | None


def rebuild(catalog: Catalog) -> Rebuilt:
    """Make the catalogue again from the artifacts alone; the former file is kept beside it.

    Raises
    ------
    CatalogError
        Where another process writes into it and does not let go.
    """
    root = catalog.path.parent
    new = root / f".catalog.{secrets.token_hex(6)}.duckdb"
    with writing(catalog.path, "rebuilding it", access.WRITER_PATIENCE_S):
        records, problems = _records(root)
        n_rows = 0
        try:
            with connected(new, read_only=False, patience_s=0) as connection:
                connection.execute("BEGIN")
                make_tables(connection)
                for record in records:
                    put_rows(connection, record.scope, record.tables)
                    put_materialization(
                        connection, record.made, record.artifact, record.scope, record.n_rows,
                        record.made_at,
                    )  # fmt: skip
                    n_rows += sum(map(len, record.tables.values()))
                connection.execute("COMMIT")
                connection.execute("CHECKPOINT")
            former = _put_in_place(new, catalog.path)
        finally:
            for left in (new, Path(f"{new}.wal")):
                left.unlink(missing_ok=True)
    return Rebuilt(len(records), n_rows, tuple(problems), former)


def _records(root: Path) -> tuple[list[Record], list[str]]:
    """Records of the store's artifacts in the order in which they were catalogued."""
    records, problems = [], []
    for folder in _artifacts(root):
        if not (folder / RECORD).exists():
            problems.append(
                f"{folder}: has no record of its rows (an earlier release made it, or it was never "
                f"catalogued); where it is wanted, {again(folder)}"
            )
            continue
        try:
            record = read_record(folder, root)
            if _is_of_every_set(record):
                problems.append(
                    f"{folder}: holds every set of variants at once, as an earlier release made "
                    "it, and is left out; make it again with `saeborzoi run`"
                )
                continue
            tables = {
                name: _rows(name, frame, record.scope) for name, frame in record.tables.items()
            }
            records.append(record._replace(tables=tables))
        except StoreError as error:
            problems.append(str(error))
        except CatalogError as error:
            problems.append(f"{folder}: {error}; {again(folder)}")
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{folder}: its record is of no use ({error!r}); {again(folder)}")
    return sorted(records, key=lambda record: record.made_at), problems


def _is_of_every_set(record: Record) -> bool:
    """Whether an artifact of one set of variants was made before it was of one set."""
    asset = ARTIFACT.get(record.made.asset)
    is_of_set = asset is not None and asset.grain in ("variants", "sae_variants")
    return is_of_set and record.scope.variant_set is None


def _rows(table: str, frame: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    """Rows of a record as the table wants them: columns that it gained since are NULL."""
    scope_columns = list(scope.columns)
    frame = frame.drop(columns=scope_columns, errors="ignore").rename(
        columns=FORMER_NAMES.get(table, {})
    )
    expected = [column.name for column in TABLE[table].columns if column.name not in scope_columns]
    gained = set(expected) - set(frame.columns) - set(TABLE[table].key)
    return fitted(table, frame.assign(**dict.fromkeys(gained)), scope)


def _artifacts(root: Path) -> Iterator[Path]:
    """Folders of artifacts: those of nodes hold one for each batch, those of sets of variants one
    for each set."""
    for place in _PLACES:
        for folder in sorted(root.glob(place)):
            if place.startswith("saes/"):
                is_batch = place.count("*") == 3
                asset = ARTIFACT.get(folder.parent.name if is_batch else folder.name)
                in_folders = asset is not None and asset.grain in _IN_FOLDERS
                if is_batch != in_folders and not (folder / RECORD).exists():
                    continue
            if folder.is_dir() and not folder.name.startswith("."):
                yield folder


def _put_in_place(new: Path, path: Path) -> Path | None:
    """Put a database in the catalogue's place; what was there is kept under another name."""
    former = None
    if path.exists():
        former = path.with_name(f"{path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        os.rename(path, former)
        log = Path(f"{path}.wal")
        if log.exists():
            os.rename(log, f"{former}.wal")
    os.rename(new, path)
    fsync(path.parent)
    return former


def backup(catalog: Catalog, file: Path) -> None:
    """Copy the catalogue, whole and with its last write, while nobody writes.

    Raises
    ------
    CatalogError
        Where there is none, it is damaged, somebody has it open, or `file` is the catalogue itself.
    """
    if not catalog.path.exists():
        raise CatalogError(f"there is no catalogue at {catalog.path}, so there is nothing to copy")
    if file.exists() and file.samefile(catalog.path):
        raise CatalogError(f"{file} is the catalogue itself; name another file for the copy")
    patience_s = access.WRITER_PATIENCE_S
    with writing(catalog.path, "copying it", patience_s):
        with connected(catalog.path, read_only=False, patience_s=patience_s) as connection:
            connection.execute("CHECKPOINT")
        with write_file(file) as temporary:
            shutil.copyfile(catalog.path, temporary)


def restore(catalog: Catalog, file: Path) -> Path | None:
    """Put a copy in the catalogue's place; returns the name that the former file has now.

    Raises
    ------
    CatalogError
        Where the copy cannot be read as a catalogue; nothing is changed then.
    """
    if not file.is_file():
        raise CatalogError(f"{file}: no such file; name one that `saeborzoi catalogue backup` made")
    new = catalog.path.parent / f".catalog.{secrets.token_hex(6)}.duckdb"
    try:
        with write_file(new) as temporary:
            shutil.copyfile(file, temporary)
        with Catalog(new).read() as connection:
            for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                # a damaged block is found only where it is read
                connection.execute(f"SELECT count(COLUMNS(*)) FROM {name}").fetchall()
        with writing(catalog.path, "bringing a copy back", access.WRITER_PATIENCE_S):
            return _put_in_place(new, catalog.path)
    except CatalogError as error:
        raise CatalogError(str(error).replace(str(new), str(file))) from error
    finally:
        for left in (new, *(Path(f"{new}{end}") for end in (".wal", ".lock", ".holder"))):
            left.unlink(missing_ok=True)
