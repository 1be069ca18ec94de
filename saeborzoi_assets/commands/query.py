"""Results of `saeborzoi query`: all rows and columns, as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.tables import renamed
from saeborzoi.errors import CatalogError
from saeborzoi.files import write_file
from saeborzoi_assets.commands.terminal import plain

if TYPE_CHECKING:
    import duckdb

_ALL_ROWS = 2**31 - 1
_WIDE = 1_000_000
_BATCH = 10_000


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def write_result(catalog: Catalog, sql: str, format: Format, output: Path | None) -> None:
    """Run one statement and write all of its result.

    Parameters
    ----------
    catalog
        Opened read-only.
    sql
        A statement with a result.
    format
        JSON is a list of objects, one a row.
    output
        File to write, whole or not at all; None writes to standard output.

    Raises
    ------
    CatalogError
        Where the statement is wrong or has no result, or Parquet has no file to go to.
    """
    import duckdb

    if format is Format.PARQUET and output is None:
        raise CatalogError("Parquet needs a file: add --output result.parquet")
    with catalog.read() as connection:
        try:
            relation = connection.sql(sql)
            if relation is None:
                raise CatalogError('the statement has no result; query reads only, e.g. "FROM sae"')
            if output is None:
                _print(relation, format)
                return
            with write_file(output) as temporary:
                _write(relation, format, temporary)
        except duckdb.Error as error:
            raise CatalogError(f"query: {_one_line(error)}{renamed(str(error))}") from None
        except UnicodeEncodeError as error:
            raise CatalogError(
                f"query: the terminal's encoding {error.encoding} cannot show the result; set "
                "PYTHONIOENCODING=utf-8 or use --output"
            ) from None


def _one_line(error: Exception) -> str:
    """What DuckDB says, without the repeated statement and its line breaks."""
    text = re.split(r"\n\s*LINE \d+:", str(error))[0]
    return re.sub(r"\s*\n\s*", " ", text).strip()


def _print(relation: duckdb.DuckDBPyRelation, format: Format) -> None:
    if format is Format.TABLE:
        relation.show(max_rows=_ALL_ROWS, max_width=_WIDE)
    elif format is Format.CSV:
        for part in _csv(relation):
            sys.stdout.write(part)
    else:
        for part in _json(relation):
            sys.stdout.write(part)
    sys.stdout.flush()


def _write(relation: duckdb.DuckDBPyRelation, format: Format, path: Path) -> None:
    if format is Format.PARQUET:
        relation.write_parquet(str(path))
        return
    with path.open("w", encoding="utf-8") as file:
        if format is Format.TABLE:
            file.write(relation.to_arrow_table().to_pandas().to_string(index=False) + "\n")
        for part in _csv(relation) if format is Format.CSV else ():
            file.write(part)
        for part in _json(relation) if format is Format.JSON else ():
            file.write(part)


def _csv(relation: duckdb.DuckDBPyRelation) -> Iterator[str]:
    """Text of a CSV, batch by batch; lists and matrices as JSON."""
    import pandas as pd

    yield pd.DataFrame(columns=relation.columns).to_csv(index=False)
    for batch in relation.to_arrow_reader(_BATCH):
        columns = {
            name: [json.dumps(plain(v)) if isinstance(v, list | dict) else v for v in values]
            for name, values in batch.to_pydict().items()
        }
        frame = pd.DataFrame(columns, dtype=object)
        yield frame.to_csv(index=False, header=False)


def _json(relation: duckdb.DuckDBPyRelation) -> Iterator[str]:
    """Text of a JSON list of objects, row by row."""
    yield "["
    separator = "\n"
    for batch in relation.to_arrow_reader(_BATCH):
        for row in batch.to_pylist():
            yield separator + json.dumps(plain(row), default=str, ensure_ascii=False)
            separator = ",\n"
    yield "\n]\n"
