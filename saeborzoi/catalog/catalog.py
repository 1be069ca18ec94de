"""The catalogue: every result table in one DuckDB file. SQL is here, in `views.py`, `tables.py`.

DuckDB lets one process write, or several read. Writers queue on a lock file beside the database
and hold it for one short transaction; readers open read-only and retry for a moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from saeborzoi.catalog.migrations import version_of
from saeborzoi.catalog.schema import SCHEMA_VERSION, TABLE
from saeborzoi.catalog.scope import (
    PROJECT,
    Made,
    Scope,
    belonging_to,
    fitted,
    of_partitions,
    where_of,
)
from saeborzoi.catalog.tables import make_tables, missing_parts, require_columns, require_table
from saeborzoi.catalog.views import VIEWS
from saeborzoi.errors import CatalogError
from saeborzoi.pipeline import MAKER
from saeborzoi.settings.hyperparameters import PartitionKey, partition_keys

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

WRITER_PATIENCE_S = 300.0
READER_PATIENCE_S = 60.0
_RETRY_S = 0.05


class Catalog:
    """One catalogue file.

    Parameters
    ----------
    path
        The DuckDB file; made with all tables and views when first written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        if not self.path.exists():
            return f"Catalog({self.path}, not made yet)"
        megabytes = self.path.stat().st_size / 1e6
        return f"Catalog({self.path}, {megabytes:,.1f} MB, {len(TABLE)} tables, {len(VIEWS)} views)"

    # -- reading -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection, for a short time: an open reader keeps writers waiting.

        Raises
        ------
        CatalogError
            Where there is no catalogue, it is of another version, or a writer does not let go.
        """
        if not self.path.exists():
            raise CatalogError(
                f"there is no catalogue at {self.path}; materialize an asset first (`make demo`)"
            )
        connection = self._connect(read_only=True, patience_s=READER_PATIENCE_S)
        try:
            if self._is_older(connection) or missing_parts(connection):
                connection.close()
                self._bring_up_to_date()
                connection = self._connect(read_only=True, patience_s=READER_PATIENCE_S)
            yield connection
        finally:
            connection.close()

    def frame(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Result of a query."""
        with self.read() as connection:
            return connection.sql(sql, params=list(parameters)).to_arrow_table().to_pandas()

    def rows(
        self,
        table: str,
        hyperparameters: str,
        columns: str = "*",
        nodes: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Rows of one SAE, or of some of its nodes, of a table or view; in key order, without
        `hyperparameters`.

        Raises
        ------
        CatalogError
            Where there is no such table (names the nearest), or its rows are of no single SAE or
            node.
        """
        require_table(table)
        if table in TABLE:
            order, there = ", ".join(TABLE[table].key), [c.name for c in TABLE[table].columns]
        else:
            order, there = "ALL", self.frame(f"FROM {table} LIMIT 0").columns.tolist()
        require_columns(table, there, ["hyperparameters", *([] if nodes is None else ["node"])])
        selected = "* EXCLUDE (hyperparameters)" if columns == "*" else columns
        condition, parameters = where_of(
            Scope(hyperparameters=hyperparameters, nodes=None if nodes is None else tuple(nodes))
        )
        return self.frame(
            f"SELECT {selected} FROM {table} WHERE {condition} ORDER BY {order}", parameters
        )

    def whole(self, table: str) -> pd.DataFrame:
        """Every row of a table or view; raises as `rows`."""
        require_table(table)
        return self.frame(f"SELECT * FROM {table}")

    def require_made(self, asset: str, owner: str, nodes: Sequence[int] | None = None) -> None:
        """Refuse to go on without an asset's partition, or those of some nodes.

        Raises
        ------
        CatalogError
            Names the asset and the first partition to materialize.
        """
        made = self.partitions_made(asset, owner)
        missing = [key for key in partition_keys(owner, nodes) if key not in made]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise CatalogError(
                f"{asset} of {missing[0]}{more} is not made yet; materialize it first: "
                f"dagster asset materialize --select {asset} --partition '{missing[0]}'"
            )

    def artifacts(self, asset: str, owner: str) -> list[Path]:
        """Files and folders that hold an asset's standing rows of one layer or SAE."""
        if not self.path.exists():
            return []
        found = self.frame(
            "SELECT DISTINCT artifact FROM materialization WHERE asset = ? AND owner = ? "
            "ORDER BY artifact",
            [asset, owner],
        )
        return [Path(name) for name in found["artifact"]]

    def artifacts_made(self) -> pd.DataFrame:
        """Every artifact that rows stand on: asset, owner, first_node (NA for what is of the owner
        as a whole), n_partitions, artifact."""
        return self.frame(
            "SELECT asset, owner, min(node) AS first_node, count(*) AS n_partitions, artifact "
            "FROM materialization GROUP BY asset, owner, artifact ORDER BY ALL"
        ).astype({"first_node": "Int64"})

    def batches(self, hyperparameters: str) -> pd.DataFrame:
        """Every artifact that rows of an SAE's nodes stand on: asset, artifact, nodes."""
        return self.frame(
            "SELECT asset, artifact, list(node ORDER BY node) AS nodes "
            "FROM materialization WHERE owner = ? AND node IS NOT NULL "
            "GROUP BY asset, artifact ORDER BY asset, artifact",
            [hyperparameters],
        )

    def resting_on(self, assets: Iterable[str], hyperparameters: str) -> list[str]:
        """Results of an SAE or the whole project that were made from some assets' partitions of
        it, directly or not."""
        found = self.frame(
            "SELECT asset, json_keys(made_from, '$.inputs') AS inputs FROM materialization "
            "WHERE list_contains(?, owner) AND node IS NULL",
            [[hyperparameters, PROJECT]],
        )
        inputs = {
            row.asset: set(() if row.inputs is None else row.inputs) for row in found.itertuples()
        }
        touched = set(assets)
        while more := {name for name, own in inputs.items() if own & touched} - touched:
            touched |= more
        return sorted(touched & set(inputs))

    def partitions_made(self, asset: str, owner: str) -> set[PartitionKey]:
        """Partitions of one layer or SAE whose rows stand in the catalogue."""
        if not self.path.exists():
            return set()
        with self.read() as connection:
            found = connection.execute(
                "SELECT owner, node FROM materialization WHERE asset = ? AND owner = ?",
                [asset, owner],
            ).fetchall()
        return {PartitionKey(*row) for row in found}

    def data_versions(
        self, asset: str, owner: str, nodes: Sequence[int] | None = None
    ) -> list[str]:
        """Distinct data versions of an asset's standing rows of one layer or SAE; where it is
        partitioned by node and `nodes` are given, of those nodes."""
        if not self.path.exists():
            return []
        found = self.frame(
            "SELECT DISTINCT data_version FROM materialization WHERE asset = ? AND owner = ? "
            "AND (? OR node IS NULL OR list_contains(?::INTEGER[], node)) ORDER BY data_version",
            [asset, owner, nodes is None, list(map(int, nodes or ()))],
        )
        return list(found["data_version"])

    def training_hours_since(self, moment: datetime) -> float:
        """Hours that the trainings took that were catalogued since a moment."""
        if not self.path.exists():
            return 0.0
        found = self.frame(
            "SELECT coalesce(sum(training_s), 0) / 3600 AS hours FROM sae "
            "JOIN materialization ON asset = ? AND owner = hyperparameters "
            "WHERE made_at >= ?",
            [MAKER["sae"], moment],
        )
        return float(found["hours"].iloc[0])

    def versions_by_owner(self, asset: str) -> dict[str, dict[str, int]]:
        """Layer or SAE to the data versions of an asset's standing rows, and how many partitions
        have each."""
        if not self.path.exists():
            return {}
        found = self.frame(
            "SELECT owner, data_version, count(*) AS n "
            "FROM materialization WHERE asset = ? GROUP BY ALL ORDER BY ALL",
            [asset],
        )
        versions: dict[str, dict[str, int]] = {}
        for owner, version, n in found.itertuples(index=False):
            versions.setdefault(owner, {})[version] = int(n)
        return versions

    def files_made_from(self) -> pd.DataFrame:
        """Fingerprint of the user's files that standing rows were made from, where they were: a
        row for each asset, owner and fingerprint, with n_partitions."""
        return self.frame(
            "SELECT asset, owner, files, sum(n)::BIGINT AS n_partitions FROM (SELECT asset, "
            "owner, count(*) AS n, any_value(made_from)->>'$.files' AS files FROM materialization "
            "GROUP BY asset, owner, data_version) WHERE files IS NOT NULL GROUP BY ALL ORDER BY ALL"
        )

    def standing(self, asset: str, owner: str) -> pd.DataFrame:
        """What made an asset's standing rows of one layer or SAE: a row for each run and version.

        Returns
        -------
        DataFrame
            run_id, code_version, data_version, artifact, made_from, made_at, and nodes: those
            that were made together, sorted; None for what is of the owner as a whole.
        """
        return self.frame(
            "SELECT run_id, code_version, data_version, artifact, made_from, "
            "max(made_at) AS made_at, "
            "list(node ORDER BY node) FILTER (node IS NOT NULL) AS nodes "
            "FROM materialization WHERE asset = ? AND owner = ? "
            "GROUP BY ALL ORDER BY made_at, artifact",
            [asset, owner],
        )

    # -- writing -----------------------------------------------------------------------------

    def replace(self, made: Made, scope: Scope, tables: Mapping[str, pd.DataFrame]) -> int:
        """Put rows in the place of exactly those of `scope`, in one transaction.

        Parameters
        ----------
        made
            What made the rows.
        scope
            Whose rows: everything else stays as it is.
        tables
            Table name to its rows: every column of the table but the scope's own
            (`hyperparameters` or `layer`), which is filled in; for whole tables there is none.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        CatalogError
            Where a column is missing or unknown, a row is outside the scope or stands twice, or
            the catalogue stays locked. The catalogue is then as it was.
        """
        complete = {name: fitted(name, frame, scope) for name, frame in tables.items()}
        n_rows = sum(len(frame) for frame in complete.values())
        condition, parameters = where_of(scope)
        with self._write(f"{made.asset} of {scope.owner}") as connection:
            for name, frame in complete.items():
                connection.execute(f"DELETE FROM {name} WHERE {condition}", parameters)
                if len(frame):
                    connection.register("incoming", frame)
                    columns = ", ".join(column.name for column in TABLE[name].columns)
                    connection.execute(
                        f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming"
                    )
                    connection.unregister("incoming")
            condition, parameters = of_partitions(scope)
            connection.execute(
                f"DELETE FROM materialization WHERE asset = ? AND {condition}",
                [made.asset, *parameters],
            )
            connection.execute(
                "INSERT INTO materialization (asset, owner, node, run_id, code_version, "
                "data_version, artifact, n_rows, made_at, made_from) "
                "SELECT ?, ?, unnest(?::INTEGER[]), ?, ?, ?, ?, ?, ?, ?",
                [
                    made.asset,
                    scope.owner,
                    [None] if scope.nodes is None else list(map(int, scope.nodes)),
                    made.run_id,
                    made.code_version,
                    made.data_version,
                    str(made.artifact),
                    n_rows,
                    datetime.now(UTC),
                    None
                    if made.made_from is None
                    else json.dumps(made.made_from, sort_keys=True, default=str),
                ],
            )
        return n_rows

    def remove(self, *scopes: Scope) -> int:
        """Remove every row of layers, SAEs or nodes in one transaction; returns how many."""
        counted = 0
        with self._write(f"removal of {', '.join(scope.owner for scope in scopes)}") as connection:
            for table, (condition, parameters) in belonging_to(scopes).items():
                deleted = connection.execute(
                    f"DELETE FROM {table} WHERE {condition}", parameters
                ).fetchall()
                counted += deleted[0][0] if deleted else 0
        return counted

    def count(self, *scopes: Scope) -> dict[str, int]:
        """Rows in each table that has any: what `remove` would remove."""
        with self.read() as connection:
            counts = {
                table: connection.execute(
                    f"SELECT count(*) FROM {table} WHERE {condition}", parameters
                ).fetchall()[0][0]
                for table, (condition, parameters) in belonging_to(scopes).items()
            }
        return {table: n for table, n in counts.items() if n}

    @contextlib.contextmanager
    def _write(self, what: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a transaction, committed when the block ends without error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{self.path}.lock")
        holder = Path(f"{self.path}.holder")
        try:
            lock.acquire(timeout=WRITER_PATIENCE_S, poll_interval=_RETRY_S)
        except filelock.Timeout:
            raise CatalogError(
                f"catalogue {self.path} is held by {_read_holder(holder)}; waited "
                f"{WRITER_PATIENCE_S:.0f} s. Wait for that process or end it, then run again; "
                "nothing was written"
            ) from None
        try:
            holder.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "what": what})
            )
            connection = self._connect(read_only=False, patience_s=WRITER_PATIENCE_S)
            try:
                connection.execute("BEGIN")
                self._is_older(connection)  # refuses one of a later release
                make_tables(connection)
                yield connection
                connection.execute("COMMIT")
            finally:
                # an open transaction is rolled back by closing
                connection.close()
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def _connect(self, *, read_only: bool, patience_s: float) -> duckdb.DuckDBPyConnection:
        import duckdb

        deadline = time.monotonic() + patience_s
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only)
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                message = str(error)
                if "lock" not in message and "different configuration" not in message:
                    raise CatalogError(
                        f"catalogue {self.path} cannot be opened: {message}. Put a copy of it in "
                        "its place, or move it away and `saeborzoi run`"
                    ) from error
                if time.monotonic() > deadline:
                    raise CatalogError(
                        f"catalogue {self.path} stays locked after {patience_s:.0f} s: {message}. "
                        "Close the program that has it open, then run again"
                    ) from error
                time.sleep(_RETRY_S * (1 + random.random()))

    def _is_older(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether an earlier release made the catalogue; one of a later release is refused."""
        version = version_of(connection)
        if version is not None and version > SCHEMA_VERSION:
            raise CatalogError(
                f"catalogue {self.path} has schema version {version}, this release knows "
                f"{SCHEMA_VERSION} at most; install the release that made it, or a newer one"
            )
        return version is not None and version < SCHEMA_VERSION

    def _bring_up_to_date(self) -> None:
        """Migrate a catalogue, and make tables and views that came since, under the lock.

        Raises
        ------
        CatalogError
            Where it cannot be written here.
        """
        try:
            with self._write("bringing it up to this release"):
                pass
        except OSError as error:
            raise CatalogError(
                f"catalogue {self.path} is of an earlier release and cannot be written here "
                f"({error.strerror}); to fix this, read it once where it can be, e.g. with "
                "`saeborzoi query 'FROM sae'` as its owner, or read a copy of it"
            ) from error


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']} ({holder['what']})"
    except (OSError, ValueError, KeyError):
        return "another process"
