"""What people call nodes: kept as an artifact of the SAE, so that copies of the store and a
catalogue that is made again have it; cleaning the SAE removes it, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError
from saeborzoi.files import lock_file
from saeborzoi.jobs.fingerprint import fingerprint_of
from saeborzoi.jobs.provenance import write_artifact

if TYPE_CHECKING:
    import pandas as pd

ASSET, TABLE = "node_labels", "node_label"
MAX_LETTERS = 200
VERSION = "1"


def put_label(
    catalog: Catalog, store: Store, key: str, node: int, text: str, author: str
) -> pd.DataFrame:
    """Label a node; the former label of it goes.

    Parameters
    ----------
    key, node
        The SAE and its node.
    text
        What the node is called; '' takes its label away.
    author
        Who says so.

    Returns
    -------
    Every label of the SAE that holds, columns of table `node_label` but the key of the SAE.

    Raises
    ------
    InputError
        Where the text has several lines, or more letters than `MAX_LETTERS`.
    """
    import pandas as pd

    text = text.strip()
    if len(text) > MAX_LETTERS or not text.isprintable():
        raise InputError(
            f"the label has {len(text):,} letters; a label is one line of at most {MAX_LETTERS}, "
            "as it stands in titles: shorten it"
        )
    catalog.require_made("trained_sae", key)
    (trained,) = catalog.data_versions("trained_sae", key)
    with lock_file(store.root / f"{ASSET}.lock"):
        rows = catalog.rows(TABLE, key)
        rows = rows[rows["node"] != node]
        if text:
            moment = pd.Timestamp(datetime.now(UTC))
            mine = pd.DataFrame([[node, text, author, moment, trained]], columns=rows.columns)
            rows = pd.concat([rows, mine], ignore_index=True) if len(rows) else mine
        rows = rows.sort_values("node", ignore_index=True)
        version = fingerprint_of([ASSET, key, rows.astype(str).to_dict("records")])
        output = store.sae_artifact(key, ASSET)
        with write_artifact(output, version, {"job": None}) as folder:
            rows.to_parquet(folder / f"{TABLE}.parquet", index=False)
        made = Made(ASSET, "", VERSION, version, output)
        catalog.replace(made, Scope(sae_key=key), {TABLE: rows})
    return rows[rows["trained_version"] == trained].reset_index(drop=True)
