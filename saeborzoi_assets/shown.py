"""How a result is shown in Dagster's interface: figures, tables, paths, outcomes of checks."""

from typing import Any

import dagster as dg

from saeborzoi_resources import markdown
from saeborzoi_resources.compute import follow


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
