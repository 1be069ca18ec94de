"""Catalogues that an earlier release made go on serving, with every row that they had."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.migrations import STEPS
from saeborzoi.catalog.questions import files_made_from
from saeborzoi.catalog.schema import SCHEMA_VERSION, TABLES
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.views import VIEWS
from saeborzoi.errors import CatalogError
from saeborzoi.settings.hyperparameters import PartitionKey

KEY = "conv1d_1_x4_k0.05_lr0.003_s1"
LONGER = "conv1d_1_x4_k0.05_lr0.003_s10"
_VERSION_1 = Path(__file__).parent / "data" / "catalogue_1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Catalog:
    """A catalogue of schema version 1: a layer, two SAEs of which one key begins the other, nodes
    and the comparison."""
    path = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(_VERSION_1.read_text())
    return Catalog(path)


def _rows(path: Path) -> dict[str, int]:
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = [
            name for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()
        ]
        return {
            name: connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in tables
        }


def test_every_version_has_a_step_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, SCHEMA_VERSION))


def test_a_reader_finds_owner_and_node_of_every_partition(old: Catalog) -> None:
    before = _rows(old.path)
    assert old.partitions_made("seqlets", KEY) == {
        PartitionKey(KEY, 0), PartitionKey(KEY, 1), PartitionKey(KEY, 12345)
    }  # fmt: skip
    assert old.partitions_made("seqlets", LONGER) == {PartitionKey(LONGER, 7)}
    assert old.partitions_made("trained_sae", KEY) == {PartitionKey(KEY)}
    assert old.partitions_made("normalization_constants", "conv1d_1") == {PartitionKey("conv1d_1")}
    assert old.partitions_made("sae_comparison", "project") == {PartitionKey("project")}
    after = _rows(old.path)
    assert {table: after[table] for table in before} == before


def test_what_made_the_rows_is_kept(old: Catalog) -> None:
    made = old.whole("materialization").set_index(["asset", "owner", "node"]).sort_index()
    row = made.loc[("seqlets", KEY, 12345)]
    assert (row["run_id"], row["code_version"], row["data_version"]) == ("run-3", "1", "v1")
    assert row["n_rows"] == 5
    assert row["artifact"] == "/data/store/seqlets"
    assert row["made_at"] == pd.Timestamp("2026-01-02T03:04:05Z")
    assert row["made_from"] == '{"files": "f2", "inputs": {"top_activations": ["v1"]}}'
    assert old.data_versions("seqlets", LONGER, [7]) == ["v2"]
    assert files_made_from(old)[["asset", "owner", "n_partitions"]].values.tolist() == [
        ["normalization_constants", "conv1d_1", 1], ["seqlets", KEY, 3]
    ]  # fmt: skip


def test_views_tables_and_comments_are_those_of_this_release(old: Catalog) -> None:
    summary = old.whole("sae_summary").set_index("hyperparameters")
    assert summary["n_nodes_done"].to_dict() == {KEY: 2, LONGER: 0}
    comments = old.frame("SELECT table_name, column_name, comment FROM duckdb_columns()")
    ours = comments[comments["table_name"].isin([table.name for table in TABLES])]
    assert len(ours) == sum(len(table.columns) for table in TABLES)
    assert ours["comment"].notna().all()
    views = old.frame("SELECT view_name FROM duckdb_views() WHERE NOT internal")
    assert set(views["view_name"]) == set(VIEWS)


def test_a_writer_migrates_and_replaces_just_its_partitions(old: Catalog) -> None:
    scope = Scope(sae_key=KEY, nodes=(1,))
    none = {name: old_rows(name) for name in ("seqlet", "node_selection")}
    old.replace(Made("seqlets", "run-9", "1", "v9", Path("/data/new")), scope, none)
    made = old.frame("SELECT owner, node, run_id FROM materialization WHERE asset = 'seqlets'")
    runs = {PartitionKey(o, int(n)): run for o, n, run in made.itertuples(index=False)}
    assert runs == {
        PartitionKey(KEY, 0): "run-3", PartitionKey(KEY, 1): "run-9",
        PartitionKey(KEY, 12345): "run-3", PartitionKey(LONGER, 7): "run-4",
    }  # fmt: skip
    assert old.rows("seqlet", KEY)["node"].tolist() == [0]


def old_rows(table: str) -> pd.DataFrame:
    """No rows of a table, with the columns that a result has."""
    (columns,) = [t.columns for t in TABLES if t.name == table]
    return pd.DataFrame({c.name: [] for c in columns if c.name != "hyperparameters"})


def test_families_say_of_what_they_are(old: Catalog) -> None:
    """Columns of 0.1.0 have their rows under the new names; views keep the old ones too."""
    with duckdb.connect(str(old.path)) as connection:
        for row in (
            "motif_match (hyperparameters, node, motif, target_family) VALUES (?, 0, 1, 'Ets')",
            "motif_evidence (hyperparameters, node, motif, family_id) VALUES (?, 0, 1, 7)",
            "embedding_cluster (hyperparameters, cluster, family) VALUES (?, 2, 'GATA')",
            "motif (hyperparameters, node, motif, artefact) VALUES (?, 0, 1, 'cpg')",
        ):
            connection.execute(f"INSERT INTO {row}", [KEY])
    assert "Ets" in old.rows("motif_match", KEY)["factor_family"].tolist()
    assert 7 in old.rows("motif_evidence", KEY)["motif_family"].tolist()
    assert "GATA" in old.rows("embedding_cluster", KEY)["name"].tolist()
    assert "cpg" in old.rows("motif", KEY)["suspect"].tolist()
    views = old.frame("FROM node_summary LIMIT 0"), old.frame("FROM transcription_factor LIMIT 0")
    assert {"artefact", "suspect", "family_id", "motif_family"} <= set(views[0])
    assert {"target_family", "factor_family"} <= set(views[1])


@pytest.mark.parametrize("sql", ["SELECT target_family FROM motif_match",
                                 "SELECT m.target_family FROM motif_match m"])  # fmt: skip
def test_a_query_for_a_former_name_is_told_the_new_one(old: Catalog, sql: str) -> None:
    with pytest.raises(duckdb.BinderException) as error:
        old.frame(sql)
    assert error.value.__notes__ == ["target_family of motif_match is called factor_family now"]


def test_removing_an_sae_after_the_migration_leaves_the_one_whose_key_it_begins(
    old: Catalog,
) -> None:
    old.remove(Scope(sae_key=KEY))
    owners = old.frame("SELECT DISTINCT owner FROM materialization ORDER BY owner")["owner"]
    assert owners.tolist() == ["conv1d_1", LONGER, "project"]


def test_a_migration_that_fails_leaves_the_catalogue_as_it_was(
    old: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: duckdb.DuckDBPyConnection) -> None:
        split(connection)
        raise RuntimeError("out of disk")

    split = STEPS[1]
    monkeypatch.setitem(STEPS, 1, fails)
    with pytest.raises(RuntimeError):
        old.frame("SELECT 1")
    monkeypatch.undo()
    with duckdb.connect(str(old.path), read_only=True) as connection:
        keys = connection.sql("SELECT partition_key FROM materialization").fetchall()
        assert (f"{KEY}|n12345",) in keys
    assert PartitionKey(KEY, 12345) in old.partitions_made("seqlets", KEY)


def test_readers_that_come_at_once_all_find_it_migrated(old: Catalog) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        nodes = list(pool.map(_nodes_of, [str(old.path)] * 3))
    assert nodes == [[0, 1, 12345]] * 3


def _nodes_of(path: str) -> list[int]:
    made = Catalog(Path(path)).partitions_made("seqlets", KEY)
    return sorted(key.node for key in made if key.node is not None)


def test_where_it_cannot_be_written_a_reader_is_told_what_to_do(
    old: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    # root may write everywhere, so that rights alone would not do here
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(CatalogError, match=r"of an earlier release.*read it once where it can be"):
        old.frame("SELECT 1")


def test_a_catalogue_of_a_later_release_is_refused_and_kept(old: Catalog) -> None:
    old.frame("SELECT 1")
    with duckdb.connect(str(old.path)) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    message = rf"schema version 99, this release knows {SCHEMA_VERSION} at most"
    with pytest.raises(CatalogError, match=message):
        old.frame("SELECT 1")
    with pytest.raises(CatalogError, match=message):
        old.remove(Scope(sae_key=KEY))
    assert _rows(old.path)["materialization"] > 0


def test_a_view_that_says_another_thing_is_made_anew(old: Catalog) -> None:
    old.frame("SELECT 1")
    with duckdb.connect(str(old.path)) as connection:
        connection.execute("CREATE OR REPLACE VIEW sae_summary AS SELECT 1 AS wrong")
        connection.execute("COMMENT ON VIEW sae_summary IS 'of an earlier release'")
    assert "n_nodes_done" in old.whole("sae_summary")


def test_artifacts_are_named_relative_to_the_store_wherever_it_was(tmp_path: Path) -> None:
    """The first release named them by absolute paths: a store that was moved lost them."""
    store = tmp_path / "moved"
    store.mkdir()
    then = "/old/saes/home/store"
    with duckdb.connect(str(store / "catalog.duckdb")) as connection:
        connection.execute(_VERSION_1.read_text())
        connection.execute("DELETE FROM materialization")
        for asset, partition, artifact in (
            ("normalization_constants", "conv1d_1", "layers/conv1d_1/normalization_constants"),
            ("trained_sae", KEY, f"saes/{KEY}/trained_sae"),
            ("seqlets", f"{KEY}|n0003", f"saes/{KEY}/seqlets/n0003_abc"),
            ("feature_browser", KEY, f"browser/{KEY}"),
            ("sae_comparison", "project", "project/sae_comparison"),
        ):
            connection.execute(
                "INSERT INTO materialization (asset, partition_key, artifact) VALUES (?, ?, ?)",
                [asset, partition, f"{then}/{artifact}"],
            )
        connection.execute(
            "UPDATE sae SET artifact = ? || hyperparameters || '/trained_sae'", [f"{then}/saes/"]
        )
    catalog = Catalog(store / "catalog.duckdb")
    named = catalog.artifacts_made().set_index("asset")["artifact"].to_dict()
    assert named == {
        "normalization_constants": str(store / "layers/conv1d_1/normalization_constants"),
        "trained_sae": str(store / f"saes/{KEY}/trained_sae"),
        "seqlets": str(store / f"saes/{KEY}/seqlets/n0003_abc"),
        "feature_browser": str(store / f"browser/{KEY}"),
        "sae_comparison": str(store / "project/sae_comparison"),
    }
    assert catalog.rows("sae", KEY)["artifact"].tolist() == [f"saes/{KEY}/trained_sae"]
    store.rename(tmp_path / "again")
    (path,) = Catalog(tmp_path / "again" / "catalog.duckdb").artifacts("trained_sae", KEY)
    assert path == tmp_path / "again" / "saes" / KEY / "trained_sae"


def test_only_what_the_transaction_replaced_is_removed(tmp_path: Path) -> None:
    """A batch that another run has written and not yet catalogued is nobody's to remove."""
    catalog = Catalog(tmp_path / "catalog.duckdb")
    folder = tmp_path / "saes" / KEY / "seqlets"
    batches = {name: folder / name for name in ("n0-1_a", "n0_b", "n5_being_written", "n1_c")}
    for batch in batches.values():
        batch.mkdir(parents=True)

    def record(name: str, nodes: tuple[int, ...]) -> None:
        made = Made("seqlets", "run", "1", "v", batches[name])
        catalog.replace(made, Scope(sae_key=KEY, nodes=nodes), {})

    record("n0-1_a", (0, 1))
    record("n0_b", (0,))
    assert all(batch.exists() for batch in batches.values()), "node 1 stands on the first"
    record("n1_c", (1,))
    assert sorted(entry.name for entry in folder.iterdir()) == ["n0_b", "n1_c", "n5_being_written"]
    assert set(catalog.artifacts("seqlets", KEY)) == {batches["n0_b"], batches["n1_c"]}


def test_what_was_made_of_every_set_of_variants_is_told_apart(tmp_path: Path) -> None:
    """A catalogue of version 5 has one line for all sets; each set gets one of its own, which is
    what it was made from then, so that it shows as stale."""
    path = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"""
            CREATE TABLE schema_version AS SELECT 5 AS version;
            CREATE TABLE variant AS SELECT * FROM (VALUES ('traits', 'a'), ('traits', 'b'),
                ('matched', 'c')) t(variant_set, variant);
            CREATE TABLE variant_skipped AS SELECT 'empty' AS variant_set, 0 AS number;
            CREATE TABLE variant_node AS SELECT '{KEY}' AS hyperparameters, 'traits' AS variant_set;
            CREATE TABLE materialization AS SELECT asset, owner, node::INTEGER AS node, 'r' AS
                run_id, '1' AS code_version, 'v' AS data_version, artifact, 4::BIGINT AS n_rows,
                TIMESTAMPTZ '2026-01-02 03:04:05Z' AS made_at, '{{}}' AS made_from
            FROM (VALUES ('variant_effects', 'project', NULL, 'project/variant_effects'),
                ('variant_nodes', '{KEY}', NULL, 'saes/{KEY}/variant_nodes'),
                ('trained_sae', '{KEY}', NULL, 'saes/{KEY}/trained_sae'),
                ('seqlets', '{KEY}', 3, 'saes/{KEY}/seqlets/n0003_v_r')
            ) t(asset, owner, node, artifact);
            """
        )
    catalog = Catalog(path)
    lines = catalog.frame(
        "SELECT asset, owner, variant_set, n_rows, artifact FROM materialization ORDER BY ALL"
    ).astype(object)
    assert lines.where(lines.notna(), None).values.tolist() == [
        ["seqlets", KEY, None, 4, f"saes/{KEY}/seqlets/n0003_v_r"],
        ["trained_sae", KEY, None, 4, f"saes/{KEY}/trained_sae"],
        ["variant_effects", "variants=empty", None, 1, "project/variant_effects"],
        ["variant_effects", "variants=matched", None, 1, "project/variant_effects"],
        ["variant_effects", "variants=traits", None, 2, "project/variant_effects"],
        ["variant_nodes", KEY, "traits", 1, f"saes/{KEY}/variant_nodes"],
    ]
    assert catalog.partitions_made("seqlets", KEY) == {PartitionKey(KEY, 3)}
    # one set made anew leaves the line of the other
    made = Made("variant_effects", "r2", "1", "v2", tmp_path / "variants" / "traits")
    catalog.replace(made, Scope(variant_set="traits"), {})
    assert catalog.data_versions("variant_effects", "variants=traits") == ["v2"]
    assert catalog.data_versions("variant_effects", "variants=matched") == ["v"]
