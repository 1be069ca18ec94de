"""What would break for somebody whose results stand in the catalogue."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from saeborzoi.catalog import access
from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.schema import TABLES
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.errors import CatalogError
from saeborzoi.settings.hyperparameters import PartitionKey

KEY = "conv_x4_k0.05_lr0.003_s0"


def _made(asset: str = "umap_embedding", run: str = "run-1") -> Made:
    return Made(asset, run, "1", "abc", Path("somewhere"))


def _embedding(nodes: list[int], value: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame(
        {"node": nodes, "umap_1": value, "umap_2": value, "cluster": 0, "motif_family": 0}
    )


def test_replacing_some_nodes_leaves_the_others(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    everything = Scope(sae_key=KEY, nodes=(0, 1, 2))
    catalog.replace(_made(), everything, {"node_embedding": _embedding([0, 1, 2])})
    catalog.replace(
        _made(run="run-2"),
        Scope(sae_key=KEY, nodes=(1,)),
        {"node_embedding": _embedding([1], 9.0)},
    )
    assert catalog.rows("node_embedding", KEY)["umap_1"].tolist() == [0.0, 9.0, 0.0]
    runs = catalog.frame("SELECT run_id FROM materialization ORDER BY node")
    assert runs["run_id"].tolist() == ["run-1", "run-2", "run-1"]


def test_rerunning_gives_the_same_catalogue(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    for _ in range(3):
        catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0, 1])})
    assert len(catalog.rows("node_embedding", KEY)) == 2
    assert len(catalog.frame("SELECT * FROM materialization")) == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_embedding([0]).drop(columns="umap_1"), r"missing \['umap_1'\]"),
        (_embedding([0]).assign(colour="red"), r"unknown \['colour'\]"),
        (_embedding([0, 0]), "1 rows stand twice"),
        (_embedding([7]), r"nodes \[7\] are not of this partition"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_lost(
    tmp_path: Path, frame: pd.DataFrame, message: str
) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    scope = Scope(sae_key=KEY, nodes=(0, 1))
    catalog.replace(_made(), scope, {"node_embedding": _embedding([0, 1])})
    with pytest.raises(CatalogError, match=message):
        catalog.replace(_made(), scope, {"node_embedding": frame})
    assert len(catalog.rows("node_embedding", KEY)) == 2


def test_an_error_in_the_second_table_undoes_the_first(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0, 1])})
    clusters = pd.DataFrame(
        {"cluster": ["not a number"], "n_nodes": 1, "name": "x", "n_named_nodes": 1,
         "p_value": 0.1, "q_value": 0.1, "kind": "x", "n_on_map": 1, "unnamed_because": "x"}
    )  # fmt: skip
    with pytest.raises(duckdb.Error):
        catalog.replace(
            _made(),
            Scope(sae_key=KEY),
            {"node_embedding": _embedding([5]), "embedding_cluster": clusters},
        )
    assert catalog.rows("node_embedding", KEY)["node"].tolist() == [0, 1]


def test_every_table_and_column_is_documented(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0])})
    columns = catalog.frame("SELECT table_name, column_name, comment FROM duckdb_columns()")
    ours = columns[columns["table_name"].isin([table.name for table in TABLES])]
    assert len(ours) == sum(len(table.columns) for table in TABLES)
    assert ours["comment"].notna().all()


def test_removing_an_sae_leaves_the_others(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    other = KEY.replace("s0", "s1")
    for key in (KEY, other):
        catalog.replace(_made(), Scope(sae_key=key), {"node_embedding": _embedding([0])})
    assert catalog.remove(Scope(sae_key=KEY)) == 2
    assert catalog.rows("node_embedding", KEY).empty
    assert len(catalog.rows("node_embedding", other)) == 1


def test_a_missing_catalogue_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="materialize an asset first"):
        Catalog(tmp_path / "catalog.duckdb").frame("SELECT 1")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(CatalogError, match=r"is damaged.*catalogue rebuild`.*restore FILE"):
        Catalog(path).frame("SELECT 1")


def test_a_result_waits_for_a_reader_that_stays_and_tells_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten shell must not cost a finished training; what can be asked again gives up."""
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0])})
    started = multiprocessing.get_context("spawn").Event()
    reader = multiprocessing.get_context("spawn").Process(
        target=_hold_open, args=(str(catalog.path), started), daemon=True
    )
    reader.start()
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            reader.kill()

    try:
        assert started.wait(60)
        monkeypatch.setattr(access, "WRITER_PATIENCE_S", 0.3)
        monkeypatch.setattr(access, "TELL_S", 0.2)
        with pytest.raises(CatalogError, match=rf"PID {reader.pid}.*nothing was written"):
            catalog.remove(Scope(sae_key=KEY))
        rows = {"node_embedding": _embedding([1])}
        catalog.replace(_made(), Scope(sae_key=KEY), rows, tell)
    finally:
        reader.kill()
        reader.join()
    assert all(f"PID {reader.pid}" in line and str(catalog.path) in line for line in lines)
    assert "is finished and kept" in lines[0]
    assert catalog.rows("node_embedding", KEY)["node"].tolist() == [1]


@pytest.mark.parametrize(
    ("n_writers", "n_kills"), [(2, 1), pytest.param(8, 10, marks=pytest.mark.slow)]
)
def test_writers_of_which_one_is_killed_lose_nothing(
    tmp_path: Path, n_writers: int, n_kills: int
) -> None:
    """Processes write at once; one more is killed again and again."""
    path = tmp_path / "catalog.duckdb"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_many, args=(str(path), i, 5)) for i in range(n_writers)]
    for writer in writers:
        writer.start()
    while not path.exists():
        assert any(writer.is_alive() for writer in writers), "no writer got as far as the file"
        time.sleep(0.05)
    for attempt in range(n_kills):
        victim = spawn.Process(target=_write_many, args=(str(path), 100 + attempt, 10_000))
        victim.start()
        time.sleep(2.0 + 0.1 * attempt)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    catalog = Catalog(path)
    for i in range(n_writers):
        assert catalog.rows("node_embedding", f"{KEY}{i}")["node"].tolist() == list(range(200))
    whole = catalog.frame("SELECT hyperparameters, count(*) AS n FROM node_embedding GROUP BY ALL")
    assert (whole["n"] == 200).all()


def _hold_open(path: str, started: multiprocessing.synchronize.Event) -> None:
    with Catalog(Path(path)).read() as connection:
        connection.execute("SELECT 1")
        started.set()
        time.sleep(60)


def _write_many(path: str, writer: int, times: int) -> None:
    catalog = Catalog(Path(path))
    for time_ in range(times):
        catalog.replace(
            _made(run=f"run-{writer}-{time_}"),
            Scope(sae_key=f"{KEY}{writer}"),
            {"node_embedding": _embedding(list(range(200)), float(time_))},
        )


def test_a_catalogue_of_an_earlier_release_gains_what_came_since(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = Catalog(path)
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0])})
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE materialization DROP COLUMN made_from")
        connection.execute("DROP TABLE node_jaccard")
        connection.execute("DROP VIEW transcription_factor")
    other = KEY.replace("s0", "s1")
    made = _made()._replace(made_from={"code": "1"})
    catalog.replace(made, Scope(sae_key=other), {"node_embedding": _embedding([0])})
    rows = catalog.frame("SELECT made_from FROM materialization ORDER BY owner")
    assert rows["made_from"].isna().tolist() == [True, False]
    assert catalog.rows("node_jaccard", KEY).empty
    assert catalog.frame("SELECT * FROM transcription_factor").empty
    assert len(catalog.rows("node_embedding", KEY)) == 1


def test_reading_a_catalogue_of_an_earlier_release_makes_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = Catalog(path)
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0])})
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE sae_comparison")
        connection.execute("DROP VIEW sae_summary")
    assert catalog.count(Scope(sae_key=KEY)) == {"node_embedding": 1, "materialization": 1}
    assert catalog.whole("sae_summary").empty


def test_a_scope_of_nothing_is_the_whole_table_and_no_other(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.replace(_made(), Scope(sae_key=KEY), {"node_embedding": _embedding([0])})
    for value in (1.0, 2.0):
        normalization = pd.DataFrame(
            {"layer": ["a", "b"], "channel": 0, "activation_max": value, "activation_max_seen": 1.0}
        )
        catalog.replace(_made("whole"), Scope(), {"channel_normalization": normalization})
    rows = catalog.frame("SELECT activation_max FROM channel_normalization ORDER BY layer")
    assert rows["activation_max"].tolist() == [2.0, 2.0]
    assert len(catalog.rows("node_embedding", KEY)) == 1
    assert catalog.partitions_made("whole", "project") == {PartitionKey("project")}
