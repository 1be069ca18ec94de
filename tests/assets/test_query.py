"""`saeborzoi query` and the command line's manners: whole results, one line for an error."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.cli import main
from tests.assets.small_project import make_small_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose catalogue has its tables and no rows."""
    settings_file = make_small_project(tmp_path_factory.mktemp("query") / "project")
    store = Store(load_settings(settings_file).project.store)
    with Catalog(store.catalog)._write("an empty catalogue"):
        pass
    return settings_file


SQL = "SELECT range AS node, 'n' || range AS name, [range, 1] AS pair, CASE WHEN range > 0 THEN \
range / 2 ELSE 'nan'::DOUBLE END AS x FROM range(3000)"


def run(project: Path, *arguments: str) -> int:
    """The command's exit code."""
    return main(["--project", str(project), "query", *arguments])


def test_results_are_whole_in_every_format(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3,000 rows and a list column: nothing is shortened, what is not finite is null in JSON."""
    assert run(project, SQL, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3000
    assert json.loads(rows[-1]["pair"]) == [2999, 1]
    assert run(project, SQL, "--json") == 0
    documents = json.loads(capsys.readouterr().out)
    assert len(documents) == 3000
    assert documents[0] == {"node": 0, "name": "n0", "pair": [0, 1], "x": None}
    assert run(project, SQL, "--format", "parquet", "--output", str(tmp_path / "a.parquet")) == 0
    assert pd.read_parquet(tmp_path / "a.parquet")["node"].sum() == 2999 * 1500
    capsys.readouterr()
    assert run(project, SQL) == 0
    assert "n2999" in capsys.readouterr().out
    assert run(project, "SELECT 1 AS a WHERE false", "--format", "csv") == 0
    assert capsys.readouterr().out == "a\n"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("FROM no_such_table", "no_such_table does not exist"),
        ("SELECT no_column FROM sae", "no_column"),
        (
            "SELECT family FROM embedding_cluster",
            "is called name now",
        ),
        ("DROP TABLE sae", "read-only"),
        ("", "no result"),
    ],
)
def test_a_mistake_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], sql: str, message: str
) -> None:
    """Exit code 2 and what DuckDB says, without a traceback."""
    assert run(project, sql) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(project: Path) -> None:
    """`saeborzoi query ... | head`."""
    ended = subprocess.run(
        f"{sys.executable} -c 'import sys; from saeborzoi_assets.cli import main; "
        f"sys.exit(main())' query 'FROM range(2000000)' --format csv | head -n 2",
        shell=True, capture_output=True, text=True,
        env={**os.environ, "SAEBORZOI_PROJECT": str(project)},
    )  # fmt: skip
    assert ended.stdout == "range\n0\n"
    assert ended.stderr == ""


def test_a_misspelt_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["qurey", "FROM sae"]) == 2
    assert "Did you mean 'query'" in capsys.readouterr().err


def test_parquet_needs_a_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "FROM sae", "--format", "parquet") == 2
    assert "--output" in capsys.readouterr().err
