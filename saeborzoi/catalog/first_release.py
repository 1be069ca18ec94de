"""Taking over what the first release made, so that it need not be made again.

The first release noted a file's size and times where the content is noted now, and left neither a
record of the rows beside an artifact (`rows.py`) nor checksums of its files. Whether files are
still the ones that it saw is found in `saeborzoi_resources.upkeep.first_release`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from saeborzoi.catalog import access
from saeborzoi.catalog.access import connected, writing
from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.rows import RECORD, write_record
from saeborzoi.catalog.scope import Made, Scope, where_of
from saeborzoi.errors import StoreError
from saeborzoi.jobs.provenance import PROVENANCE, read_sealed, seal
from saeborzoi.pipeline import ARTIFACT

_OF_TIMES = "^[0-9a-f]{16}$"
"""A fingerprint of sizes and times; one of content begins with an x."""


_SCOPES: dict[str, Callable[[str, Any], Scope]] = {
    "layer": lambda owner, _: Scope(layer=owner),
    "sae": lambda owner, _: Scope(sae_key=owner),
    "node": lambda owner, nodes: Scope(
        sae_key=owner, nodes=None if nodes is None else tuple(map(int, nodes))
    ),
    "project": lambda *_: Scope(),
}
"""Grain to the rows of an artifact; the first release knew no variants."""


class OfTimes(NamedTuple):
    """Results of one asset of one layer or SAE, and the fingerprint that the first release made of
    the files that they are made from."""

    asset: str
    owner: str
    files: str


def of_times(catalog: Catalog) -> list[OfTimes]:
    """Standing results of the first release that are made from files of the user."""
    rows = catalog.frame(
        "SELECT DISTINCT asset, owner, made_from->>'$.files' AS files FROM materialization "
        "WHERE regexp_matches(made_from->>'$.files', ?) ORDER BY ALL",
        [_OF_TIMES],
    )
    return [OfTimes(*row) for row in rows.itertuples(index=False)]


def take_over(catalog: Catalog, same: Mapping[OfTimes, str]) -> int:
    """Note the content of files that are the same as then, and give the artifacts of the first
    release their checksums and the record of their rows.

    A process that is killed here leaves artifacts and rows that go together; the next one goes on.

    Parameters
    ----------
    same
        Results to the fingerprint of the content of their files.

    Returns
    -------
    int
        Artifacts that were given them.

    Raises
    ------
    CatalogError, StoreError
        Where they cannot be written.
    """
    rows = [
        (row, content)
        for row in _rows(catalog)
        if (content := same.get(OfTimes(row["asset"], row["owner"], row["files"])))
        or _lacks_record(catalog.path.parent / row["artifact"])
    ]
    if not rows:
        return 0
    patience_s = access.WRITER_PATIENCE_S
    with writing(catalog.path, "taking over results of the first release", patience_s):
        n_recorded = sum(_record(catalog, row, content) for row, content in rows)
        with connected(catalog.path, read_only=False, patience_s=patience_s) as connection:
            connection.execute("BEGIN")
            for (asset, owner, files), content in same.items():
                connection.execute(
                    "UPDATE materialization SET made_from = replace(made_from, ?, ?) "
                    "WHERE asset = ? AND owner = ? AND made_from->>'$.files' = ?",
                    [_noted(files), _noted(content), asset, owner, files],
                )
            connection.execute("COMMIT")
    return n_recorded


def _noted(fingerprint: str) -> str:
    """A fingerprint as it stands in `made_from`."""
    return f'"files": "{fingerprint}"'


def _lacks_record(folder: Path) -> bool:
    return (folder / PROVENANCE).exists() and not (folder / RECORD).exists()


def _rows(catalog: Catalog) -> list[dict[str, Any]]:
    """What made each artifact, with its nodes and the fingerprint of its files."""
    artifacts = catalog.frame(
        "SELECT asset, owner, artifact, run_id, code_version, data_version, made_from, n_rows, "
        "made_from->>'$.files' AS files, max(made_at) AS made_at, "
        "list(node ORDER BY node) FILTER (node IS NOT NULL) AS nodes "
        "FROM materialization GROUP BY ALL ORDER BY made_at"
    )
    return [
        {str(name): value for name, value in row.items()} for row in artifacts.to_dict("records")
    ]


def _record(catalog: Catalog, row: Mapping[str, Any], content: str | None) -> bool:
    """Seal an artifact and write what the catalogue says of it beside it, with the fingerprint of
    the content of its files where that is known; whether it could be done."""
    root, artifact = catalog.path.parent, ARTIFACT.get(row["asset"])
    folder = root / row["artifact"]
    try:
        read_sealed(folder / PROVENANCE)
    except StoreError:
        return False  # missing or damaged, which tracing says
    if artifact is None or artifact.grain not in _SCOPES or not seal(folder, row["data_version"]):
        return False
    owner, nodes = row["owner"], row["nodes"]
    scope = _SCOPES[artifact.grain](owner, nodes)
    condition, parameters = where_of(scope)
    tables = {
        name: catalog.frame(f"SELECT * FROM {name} WHERE {condition}", parameters)
        for name in artifact.tables
    }
    text = row["made_from"]
    if content is not None:
        text = text.replace(_noted(row["files"]), _noted(content))
    origin = Made(
        artifact.name,
        row["run_id"],
        row["code_version"],
        row["data_version"],
        folder,
        json.loads(text) if isinstance(text, str) else None,
    )
    made_at = row["made_at"].to_pydatetime()
    # its own files have the columns of that time
    write_record(origin, scope, tables, int(row["n_rows"]), made_at, root, beside=True)
    return True
