"""The catalogue: every result table in one DuckDB file.

SQL that reads is here, in `questions.py` and `views.py`; SQL that writes is in `rows.py`,
`scope.py` and `tables.py`.

How its file is opened and who waits for whom is in `access.py`. The catalogue lies at the store's
root and names artifacts relative to it, so that a store can be moved, copied, mounted elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saeborzoi.catalog import access
from saeborzoi.catalog.access import Tell, connected, writing
from saeborzoi.catalog.migrations import is_older
from saeborzoi.catalog.rows import (
    limit_record,
    nodes_standing,
    put_materialization,
    put_rows,
    remove_batches,
    write_record,
)
from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import (
    Made,
    Scope,
    belonging_to,
    fitted,
    where_of,
)
from saeborzoi.catalog.store import relative_to_store
from saeborzoi.catalog.tables import (
    make_tables,
    missing_parts,
    renamed,
    require_columns,
    require_table,
)
from saeborzoi.catalog.views import VIEWS
from saeborzoi.errors import CatalogError, StoreError
from saeborzoi.files import state
from saeborzoi.settings.command_lines import command_of
from saeborzoi.settings.hyperparameters import PartitionKey, partition_keys

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


class Catalog:
    """One catalogue file.

    Parameters
    ----------
    path
        The DuckDB file; made with all tables and views when first written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._known: tuple[int, ...] = ()

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
        patience_s = access.READER_PATIENCE_S
        with connected(self.path, read_only=True, patience_s=patience_s) as connection:
            # asked once of a file as it is: that takes longer than most queries
            now = state(self.path)
            if now == self._known or not (
                is_older(connection, self.path) or missing_parts(connection)
            ):
                self._known = now
                yield connection
                return
        self._bring_up_to_date()
        with connected(self.path, read_only=True, patience_s=patience_s) as connection:
            yield connection

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """For several questions at a time: to open the file takes longer than most questions.
        Whoever writes waits for the end of it, so that nothing may be written within. Without a
        catalogue it does nothing."""
        with self.read() if self.path.exists() else contextlib.nullcontext():
            yield

    def frame(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Result of a query; an error about a column that was renamed has the new name as note."""
        import duckdb

        with self.read() as connection:
            try:
                return connection.sql(sql, params=list(parameters)).to_arrow_table().to_pandas()
            except duckdb.BinderException as error:
                error.add_note(renamed(str(error)).lstrip("; "))
                raise

    def rows(
        self,
        table: str,
        sae_key: str,
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
        selected = "* EXCLUDE (hyperparameters)" if columns == "*" else columns
        condition, parameters = where_of(
            Scope(sae_key=sae_key, nodes=None if nodes is None else tuple(nodes))
        )
        with self.kept_open():
            if table in TABLE:
                order = ", ".join(TABLE[table].key)
                column_names = [column.name for column in TABLE[table].columns]
            else:
                order, column_names = "ALL", self.frame(f"FROM {table} LIMIT 0").columns.tolist()
            require_columns(
                table, column_names, ["hyperparameters", *([] if nodes is None else ["node"])]
            )
            return self.frame(
                f"SELECT {selected} FROM {table} WHERE {condition} ORDER BY {order}", parameters
            )

    def whole(self, table: str) -> pd.DataFrame:
        """Every row of a table or view; raises as `rows`."""
        require_table(table)
        return self.frame(f"SELECT * FROM {table}")

    def require_made(
        self,
        asset: str,
        owner: str,
        nodes: Sequence[int] | None = None,
        variant_set: str | None = None,
    ) -> None:
        """Refuse to go on without an asset's partition, those of some nodes, or that of a set.

        Raises
        ------
        CatalogError
            Names the asset and the first partition to materialize.
        """
        keys_made = self.partitions_made(asset, owner)
        of_set = [PartitionKey(owner, variant_set=variant_set)] if variant_set else None
        missing = [key for key in of_set or partition_keys(owner, nodes) if key not in keys_made]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise CatalogError(
                f"{asset} of {missing[0]}{more} is not made yet; materialize it first: "
                f"{command_of(asset, str(missing[0]))}"
            )

    def artifacts(self, asset: str, owner: str) -> list[Path]:
        """Files and folders that hold an asset's standing rows of one layer or SAE."""
        if not self.path.exists():
            return []
        artifacts = self.frame(
            "SELECT DISTINCT artifact FROM materialization WHERE asset = ? AND owner = ? "
            "ORDER BY artifact",
            [asset, owner],
        )
        return [self._absolute(name) for name in artifacts["artifact"]]

    def artifacts_made(self) -> pd.DataFrame:
        """Every artifact that rows stand on: asset, owner, first_node (NA for what is of the owner
        as a whole), variant_set (None where it is of none), n_partitions, artifact."""
        artifacts = self.frame(
            "SELECT asset, owner, min(node) AS first_node, min(variant_set) AS variant_set, "
            "count(*) AS n_partitions, artifact "
            "FROM materialization GROUP BY asset, owner, artifact ORDER BY ALL"
        )
        return self._with_paths(artifacts).astype({"first_node": "Int64"})

    def batches(self, sae_key: str) -> pd.DataFrame:
        """Every artifact that rows of an SAE's nodes stand on: asset, artifact, nodes."""
        batches = self.frame(
            "SELECT asset, artifact, list(node ORDER BY node) AS nodes "
            "FROM materialization WHERE owner = ? AND node IS NOT NULL "
            "GROUP BY asset, artifact ORDER BY asset, artifact",
            [sae_key],
        )
        return self._with_paths(batches)

    def partitions_made(self, asset: str, owner: str) -> set[PartitionKey]:
        """Partitions of one layer, SAE or set of variants whose rows stand in the catalogue."""
        if not self.path.exists():
            return set()
        with self.read() as connection:
            rows = connection.execute(
                "SELECT owner, node, variant_set FROM materialization "
                "WHERE asset = ? AND owner = ?",
                [asset, owner],
            ).fetchall()
        return {PartitionKey(*row) for row in rows}

    def data_versions(
        self,
        asset: str,
        owner: str,
        nodes: Sequence[int] | None = None,
        variant_set: str | None = None,
    ) -> list[str]:
        """Distinct data versions of an asset's standing rows of one layer, SAE or set of variants,
        and of some nodes of it or one set where those are given."""
        if not self.path.exists():
            return []
        versions = self.frame(
            "SELECT DISTINCT data_version FROM materialization WHERE asset = ? AND owner = ? "
            "AND (? OR node IS NULL OR list_contains(?::INTEGER[], node)) "
            "AND (?::VARCHAR IS NULL OR variant_set = ?) ORDER BY data_version",
            [asset, owner, nodes is None, list(map(int, nodes or ())), variant_set, variant_set],
        )
        return list(versions["data_version"])

    def standing(self, asset: str, owner: str) -> pd.DataFrame:
        """What made an asset's standing rows of one layer, SAE or set of variants: a row for each
        run and version.

        Returns
        -------
        DataFrame
            run_id, code_version, data_version, artifact, made_from, made_at, variant_set (None
            where it is of none), and nodes: those that were made together, sorted; None for what
            is of the owner as a whole.
        """
        standing_rows = self.frame(
            "SELECT run_id, code_version, data_version, artifact, made_from, variant_set, "
            "max(made_at) AS made_at, "
            "list(node ORDER BY node) FILTER (node IS NOT NULL) AS nodes "
            "FROM materialization WHERE asset = ? AND owner = ? "
            "GROUP BY ALL ORDER BY made_at, artifact",
            [asset, owner],
        )
        return self._with_paths(standing_rows)

    def _absolute(self, artifact: str) -> Path:
        """Where an artifact lies that the catalogue names relative to the store."""
        return self.path.parent / artifact

    def _with_paths(self, artifacts: pd.DataFrame) -> pd.DataFrame:
        """The frame with absolute paths in the column `artifact`."""
        paths = [str(self._absolute(name)) for name in artifacts["artifact"]]
        return artifacts.assign(artifact=paths)

    # -- writing -----------------------------------------------------------------------------

    def replace(
        self,
        made: Made,
        scope: Scope,
        tables: Mapping[str, pd.DataFrame],
        tell: Tell = print,
    ) -> int:
        """Put rows in the place of exactly those of `scope`, in one transaction.

        Waits as long as it takes for whoever has the catalogue open: the result may be hours of
        work. Batches of nodes that only the replaced rows stood on are removed before the lock is
        let go; one that another run has written and not yet catalogued is nobody's to remove.

        Parameters
        ----------
        made
            What made the rows.
        scope
            Whose rows: everything else stays as it is.
        tables
            Table name to its rows: every column of the table but the scope's own
            (`hyperparameters` or `layer`), which is filled in; for whole tables there is none.
        tell
            Gets a line each minute of waiting.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        CatalogError
            Where a column is missing or unknown, or a row is outside the scope or stands twice.
            The catalogue is then as it was.
        """
        complete = {name: fitted(name, frame, scope) for name, frame in tables.items()}
        n_rows = sum(len(frame) for frame in complete.values())
        root, made_at = self.path.parent, datetime.now(UTC)
        with writing(self.path, f"{made.asset} of {scope.owner}", None, tell):
            with self._transaction(None, tell) as connection:
                put_rows(connection, scope, complete)
                artifact = relative_to_store(made.artifact, root)
                superseded = put_materialization(connection, made, artifact, scope, n_rows, made_at)
                write_record(made, scope, tables, n_rows, made_at, root)
                standing = nodes_standing(connection, superseded.cut)
            if scope.nodes is not None:
                remove_batches(root, superseded.gone)
            for name, nodes in standing.items():
                limit_record(self._absolute(name), nodes)
        return n_rows

    def remove(self, *scopes: Scope) -> int:
        """Remove every row of layers, SAEs or nodes in one transaction; returns how many."""
        counted = 0
        with self._write(f"removal of {', '.join(scope.owner for scope in scopes)}") as connection:
            condition, parameters = belonging_to(scopes)["materialization"]
            touched = connection.execute(
                f"SELECT DISTINCT artifact FROM materialization WHERE {condition}", parameters
            ).fetchall()
            for table, (condition, parameters) in belonging_to(scopes).items():
                deleted = connection.execute(
                    f"DELETE FROM {table} WHERE {condition}", parameters
                ).fetchall()
                counted += deleted[0][0] if deleted else 0
            for name, nodes in nodes_standing(connection, (name for (name,) in touched)).items():
                limit_record(self._absolute(name), nodes)
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
        """A connection in a transaction under the lock, committed when the block ends well."""
        patience_s = access.WRITER_PATIENCE_S
        with writing(self.path, what, patience_s), self._transaction(patience_s) as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(
        self, patience_s: float | None, tell: Tell = print
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a transaction; the caller holds the lock."""
        is_known = self.path.exists() and state(self.path) == self._known
        with connected(self.path, read_only=False, patience_s=patience_s, tell=tell) as connection:
            connection.execute("BEGIN")
            if not is_known:
                is_older(connection, self.path)  # refuses one of a later release
                make_tables(connection)
            yield connection
            connection.execute("COMMIT")
        self._known = state(self.path)

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
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CatalogError(
                f"catalogue {self.path} is of an earlier release and cannot be written here "
                f"({reason}); to fix this, read it once where it can be, e.g. with "
                "`saeborzoi query 'FROM sae'` as its owner, or read a copy of it"
            ) from error
