"""How a result is shown in Dagster's interface: figures, tables, paths, outcomes of checks."""

from typing import Any

import dagster as dg


def say(context: dg.AssetExecutionContext, text: str) -> None:
    """Tell the run's log and the terminal, whose logger shows warnings only."""
    context.log.info(text)
    print(text, flush=True)


def image(figure: Any) -> dg.MarkdownMetadataValue:
    """A Matplotlib figure as a PNG for the UI's metadata."""
    from saeborzoi.figures import as_markdown_image

    return dg.MetadataValue.md(as_markdown_image(figure))


def table(frame: Any, n: int = 10) -> dg.MarkdownMetadataValue:
    """The first rows of a table for the UI's metadata."""
    lines = [" | ".join(map(str, frame.columns)), " | ".join("---" for _ in frame.columns)]
    for row in frame.head(n).itertuples(index=False):
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append(" | ".join(cell.replace("|", "\\|") for cell in cells))
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def path(value: Any) -> dg.PathMetadataValue:
    """A path for the UI's metadata."""
    return dg.MetadataValue.path(str(value))


def check(name: str, passed: bool, **metadata: Any) -> dg.AssetCheckResult:
    """One asset check's outcome."""
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), metadata=metadata)
