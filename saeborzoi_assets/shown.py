"""How a result is shown in Dagster's interface: figures, tables, paths, outcomes of checks."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import dagster as dg

from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_resources import markdown
from saeborzoi_resources.compute import follow

PAGES = "/pages"
"""Where `saeborzoi ui` serves the pages of the nodes, under the interface's own address."""


def say(context: dg.AssetExecutionContext, text: str) -> None:
    """Tell the run's log and the terminal, whose logger shows warnings only."""
    context.log.info(text)
    follow.show(text)


def image(figure: Any) -> dg.MarkdownMetadataValue:
    """A Matplotlib figure as a PNG for the UI's metadata."""
    from saeborzoi.figures import as_markdown_image

    return dg.MetadataValue.md(as_markdown_image(figure))


def table(frame: Any, n: int = 10) -> dg.MarkdownMetadataValue:
    """The first rows of a table for the UI's metadata."""
    return markdown.table(
        frame.columns,
        (
            (f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row)
            for row in frame.head(n).itertuples(index=False)
        ),
    )


def path(value: Any) -> dg.PathMetadataValue:
    """A path for the UI's metadata."""
    return dg.MetadataValue.path(str(value))


def check(name: str, passed: bool, **metadata: Any) -> dg.AssetCheckResult:
    """One asset check's outcome."""
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), metadata=metadata)


def page(key: PartitionKey | None = None) -> dg.UrlMetadataValue:
    """Link to the pages of an SAE or to a node's; without a key to the list of all SAEs."""
    if key is None:
        return dg.MetadataValue.url(f"{PAGES}/index.html")
    node = "" if key.node is None else f"#node={key.node}"
    return dg.MetadataValue.url(f"{PAGES}/{quote(key.owner)}/index.html{node}")


def in_one_line(figures: Mapping[str, object]) -> str:
    """Figures as a line of words, for a partition among thousands: each entry of metadata of its
    own takes a tenth of a kilobyte beside what it says.

    >>> in_one_line({"state": "motif", "consensus": "TGACTCA", "log10_e_value": -120.25})
    'motif, consensus TGACTCA, log10 e value -120.2'
    """
    words = []
    for name, value in figures.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        words.append(text if name in _SAY_THEMSELVES else f"{name.replace('_', ' ')} {text}")
    return ", ".join(words)


_SAY_THEMSELVES = ("state", "selection")
