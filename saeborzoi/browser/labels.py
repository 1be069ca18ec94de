"""What people call nodes, in a file beside the pages: it changes when somebody labels a node, and
the pages stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saeborzoi.browser.encoding import script
from saeborzoi.files import write_file

if TYPE_CHECKING:
    import pandas as pd


def labels_file(key: str) -> str:
    """Name of the file, in the folder that holds the pages of all SAEs."""
    return f"{key}.labels.js"


def write_labels(labels: pd.DataFrame, folder: Path, key: str) -> None:
    """Write the labels of an SAE.

    Parameters
    ----------
    labels
        node, label, author, labelled_at of those that hold.
    folder
        Folder of the pages of all SAEs.
    """
    nodes = {
        str(row.node): [row.label, row.author, row.labelled_at.date().isoformat()]
        for row in labels.itertuples()
    }
    with write_file(folder / labels_file(key)) as temporary:
        temporary.write_text(script("labels", nodes), encoding="utf-8", newline="\n")
