"""The catalogue's tables and views in a DuckDB file: made, completed, asked for by name."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from saeborzoi.catalog.migrations import migrate
from saeborzoi.catalog.schema import FORMER_NAMES, SCHEMA_VERSION, TABLES
from saeborzoi.catalog.views import VIEW_COMMENTS, VIEWS
from saeborzoi.errors import CatalogError

if TYPE_CHECKING:
    import duckdb


def missing_parts(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Columns of this release's tables that are not there, as (table, column), and views that are
    not there or say another thing, as (view, "")."""
    rows = connection.execute("SELECT table_name, column_name FROM duckdb_columns()").fetchall()
    comments = dict(
        connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal")
        .fetchall()
    )  # fmt: skip
    existing = set(rows)
    expected = [(table.name, column.name) for table in TABLES for column in table.columns]
    return [
        *(name for name in expected if name not in existing),
        *((view, "") for view in VIEWS if comments.get(view) != _comment_of(view)),
    ]


def make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables, columns, views and their comments, where they are not there yet.

    A catalogue of an earlier version is migrated. One of the same version that an earlier release
    made gains what came since; a column that is new is NULL in the rows that stand.
    """
    migrated = migrate(connection)
    missing = missing_parts(connection)
    if not missing and not migrated:
        return
    rows = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    tables = {name for (name,) in rows}
    if "schema_version" not in tables:
        connection.execute("CREATE TABLE schema_version (version INTEGER)")
        connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
    for table in TABLES:
        absent = [column for column in table.columns if (table.name, column.name) in missing]
        if not (absent or migrated):
            continue
        if table.name not in tables:
            # no PRIMARY KEY: an index over hundreds of millions of seqlets costs more than the
            # check of each incoming frame, and rows are only ever replaced by whole partitions
            columns = ", ".join(f"{column.name} {column.type}" for column in absent)
            connection.execute(f"CREATE TABLE {table.name} ({columns})")
        else:
            for column in absent:
                connection.execute(
                    f"ALTER TABLE {table.name} ADD COLUMN {column.name} {column.type}"
                )
        for column in table.columns if migrated else absent:
            connection.execute(
                f"COMMENT ON COLUMN {table.name}.{column.name} IS {_quoted(column.comment)}"
            )
        grain = f"{table.grain}; unique: {', '.join(table.key)}"
        connection.execute(f"COMMENT ON TABLE {table.name} IS {_quoted(grain)}")
    for name, sql in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")
        connection.execute(f"COMMENT ON VIEW {name} IS {_quoted(_comment_of(name))}")


def _comment_of(view: str) -> str:
    """A view's grain, and a digest of its SQL, by which another wording is told."""
    digest = hashlib.blake2b(VIEWS[view].encode(), digest_size=4).hexdigest()
    return f"{VIEW_COMMENTS[view]} [{digest}]"


def require_table(name: str) -> None:
    """Refuse a name that is no table or view.

    Raises
    ------
    CatalogError
        Names the nearest, and all that there are.
    """
    known = sorted([*(table.name for table in TABLES), *VIEWS])
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        raise CatalogError(
            f"the catalogue has no table or view {name!r}; the nearest is {nearest!r}; there are "
            f"{', '.join(known)}"
        )


def require_columns(table: str, column_names: Collection[str], columns: Iterable[str]) -> None:
    """Refuse to choose rows by a column that a table or view does not have.

    Raises
    ------
    CatalogError
        Names the column, and how to have every row.
    """
    for column in columns:
        if column not in column_names:
            raise CatalogError(
                f"{table} has no column {column!r}, so rows of it cannot be chosen by that; take "
                f"all of them: whole({table!r})"
            )


def renamed(message: str) -> str:
    """What a column that a statement asks for in vain is called now; empty where none is."""
    asked = re.search(r'column (?:named )?"(?:\w+\.)?(\w+)"', message)
    name = asked[1] if asked else ""
    return "".join(
        f"; {name} of {table} is called {names[name]} now"
        for table, names in FORMER_NAMES.items()
        if name in names
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
