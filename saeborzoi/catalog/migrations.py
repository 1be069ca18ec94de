"""Bringing a catalogue that an earlier release made up to this one, in place.

A step changes what stands: a column that is split, renamed or computed anew. What is only added (a
table, a column, a view, another wording of a view) needs none, `tables.py` does it. A step names
columns as they were then and calls nothing that changes later, so that it goes on working.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from saeborzoi.catalog.schema import SCHEMA_VERSION
from saeborzoi.errors import CatalogError

if TYPE_CHECKING:
    import duckdb


def version_of(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Schema version of a catalogue; None where it has no tables yet."""
    rows = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'"
    ).fetchall()
    if not rows[0][0]:
        return None
    # fetched whole: a connection with an unread result refuses further work
    version = connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0]
    return None if version is None else int(version)


def is_older(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether an earlier release made the catalogue at a path.

    Raises
    ------
    CatalogError
        Where a later one did.
    """
    version = version_of(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise CatalogError(
            f"catalogue {path} has schema version {version}, this release knows "
            f"{SCHEMA_VERSION} at most; install the release that made it, or a newer one"
        )
    return version is not None and version < SCHEMA_VERSION


def migrate(connection: duckdb.DuckDBPyConnection) -> bool:
    """Take the steps that a catalogue lacks, in the caller's transaction; whether there were any.

    A catalogue without tables, of this version or of a later one stays as it is.
    """
    version = version_of(connection)
    if version is None or version >= SCHEMA_VERSION:
        return False
    for step in range(version, SCHEMA_VERSION):
        STEPS[step](connection)
    connection.execute("UPDATE schema_version SET version = ?", [SCHEMA_VERSION])
    return True


def _owner_and_node(connection: duckdb.DuckDBPyConnection) -> None:
    """1 to 2: `partition_key` of `materialization`, ``OWNER`` or ``OWNER|n0003``, becomes the
    columns `owner` and `node`.

    The table is made anew, as DuckDB can neither drop a column nor add one at a place in a
    transaction that wrote to it.
    """
    known = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = 'materialization'"
    ).fetchall()
    # of the first releases; came without a new version
    made_from = "made_from" if ("made_from",) in known else "NULL::VARCHAR AS made_from"
    connection.execute("ALTER TABLE materialization RENAME TO materialization_1")
    connection.execute(
        rf"""
        CREATE TABLE materialization AS
        SELECT asset, regexp_extract(partition_key, '^([^|]*)', 1) AS owner,
               nullif(regexp_extract(partition_key, '\|n([0-9]+)$', 1), '')::INTEGER AS node,
               run_id, code_version, data_version, artifact, n_rows, made_at, {made_from}
        FROM materialization_1
        """
    )
    connection.execute("DROP TABLE materialization_1")


def _relative_artifacts(connection: duckdb.DuckDBPyConnection) -> None:
    """2 to 3: artifacts are named relative to the store, wherever it was when they were made.

    What has not the store's layout stays as it is.
    """
    for table, owner in (("materialization", "owner"), ("sae", "hyperparameters")):
        for below in (
            f"'/saes/' || {owner} || '/'",
            f"'/layers/' || {owner} || '/'",
            f"'/browser/' || {owner}",
            "'/project/'",
        ):
            connection.execute(
                f"UPDATE {table} SET artifact = substr({below}, 2) || "
                f"split_part(artifact, {below}, -1) "
                f"WHERE starts_with(artifact, '/') AND contains(artifact, {below})"
                + (f" AND {owner} = 'project'" if "project" in below else "")
            )


def _suspect_motifs(connection: duckdb.DuckDBPyConnection) -> None:
    """3 to 4: `artefact` of `motif` becomes `suspect`."""
    connection.execute("ALTER TABLE motif RENAME COLUMN artefact TO suspect")


def _families(connection: duckdb.DuckDBPyConnection) -> None:
    """4 to 5: a family says of what it is, of factors or of motifs."""
    for table, before, now in (
        ("motif_evidence", "family_id", "motif_family"),
        ("motif_match", "target_family", "factor_family"),
        ("embedding_cluster", "family", "name"),
        ("embedding_cluster", "n_family_nodes", "n_named_nodes"),
    ):
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN {before} TO {now}")
    connection.execute("DROP VIEW IF EXISTS factor_by_sae")
    # what counted names of factors; archetypes are counted when the comparison is made next
    for column in ("n_factors", "n_best_factors", "n_factors_only_here"):
        connection.execute(f"ALTER TABLE sae_comparison DROP COLUMN IF EXISTS {column}")


def _sets_of_variants(connection: duckdb.DuckDBPyConnection) -> None:
    """5 to 6: what was made of every set of variants at once becomes a line for each set.

    What such a line was made from stays as it is, so that it shows as stale.
    """
    tables = {
        name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }

    def rows_of(columns: str, *names: str) -> str:
        selects = [f"SELECT {columns} FROM {name}" for name in names if name in tables]
        nothing = "SELECT NULL::VARCHAR AS variant_set, NULL::VARCHAR AS hyperparameters"
        rows = " UNION ALL ".join(selects) or f"{nothing} WHERE FALSE"
        return f"(SELECT {columns}, count(*) AS n FROM ({rows}) GROUP BY ALL)"

    of_effects = rows_of("variant_set", "variant", "variant_track", "variant_skipped")
    of_nodes = rows_of("hyperparameters, variant_set", "variant_node")
    connection.execute("ALTER TABLE materialization RENAME TO materialization_5")
    connection.execute(
        f"""
        CREATE TABLE materialization AS
        SELECT asset, coalesce('variants=' || e.variant_set, owner) AS owner, node, s.variant_set,
               run_id, code_version, data_version, artifact, coalesce(e.n, s.n, n_rows) AS n_rows,
               made_at, made_from
        FROM materialization_5 m
        LEFT JOIN {of_effects} e ON m.asset = 'variant_effects'
        LEFT JOIN {of_nodes} s ON m.asset = 'variant_nodes' AND s.hyperparameters = m.owner
        WHERE (m.asset <> 'variant_effects' OR e.variant_set IS NOT NULL)
          AND (m.asset <> 'variant_nodes' OR s.variant_set IS NOT NULL)
        """
    )
    connection.execute("DROP TABLE materialization_5")


STEPS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {
    1: _owner_and_node,
    2: _relative_artifacts,
    3: _suspect_motifs,
    4: _families,
    5: _sets_of_variants,
}
"""Version to the step that leads to the next one."""
