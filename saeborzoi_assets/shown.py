"""How a result is shown in Dagster's interface: figures, tables, paths, outcomes of checks."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import dagster as dg

from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi.worker import duration
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


def table(frame: Any, n: int = 10) -> dg.MarkdownMetadataValue | None:
    """The first rows of a table for the UI's metadata; None, which is left out, without rows."""
    if not len(frame):
        return None
    shown = frame.head(n).astype(object)
    # pandas' own missing value is neither true nor false
    rows = shown.where(shown.notna(), None).itertuples(index=False)
    return markdown.table(frame.columns, ((_cell(cell) for cell in row) for row in rows))


def _cell(cell: Any) -> object:
    if cell is None:  # what is not known is left empty
        return ""
    return f"{cell:.3g}" if isinstance(cell, float) else cell


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as people read it: four digits, no empty values, and what a job used in words, last.

    >>> rounded({"fvu": 0.09902002871838841, "compute": {"backend": "local", "elapsed_s": 12.61}})
    {'fvu': 0.09902, 'took': '13 s, local'}
    """
    shown = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None and name != "compute"
    }
    if "compute" in figures:
        shown["took"] = _used(figures["compute"])
    return shown


def _used(compute: Mapping[str, Any]) -> str:
    """What a job used, in words."""
    parts = [duration(compute["elapsed_s"])] if "elapsed_s" in compute else []
    if "cpu_s" in compute:
        parts.append(f"{duration(compute['cpu_s'])} of CPU")
    if "peak_memory_mb" in compute:
        parts.append(f"{compute['peak_memory_mb']:,.0f} MB")
    parts += [str(compute[name]) for name in ("gpu", "host", "backend") if name in compute]
    if "slurm_job_id" in compute:
        parts.append(f"job {compute['slurm_job_id']}")
    return ", ".join(parts)


def path(value: Any) -> dg.PathMetadataValue:
    """A path for the UI's metadata."""
    return dg.MetadataValue.path(str(value))


def check(name: str, passed: bool, **metadata: Any) -> dg.AssetCheckResult:
    """One asset check's outcome."""
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), metadata=rounded(metadata))


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
