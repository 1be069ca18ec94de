"""An asset's description: what it is, what it costs, what changes it, where to read on."""

from __future__ import annotations

import inspect

from saeborzoi.pipeline import Artifact
from saeborzoi_assets.costs import cost_of

_GRAIN = {
    "layer": "one a layer",
    "sae": "one an SAE",
    "node": "one a node of an SAE",
    "variants": "one a set of variants",
    "sae_variants": "one an SAE and set of variants",
    "project": "one for the project",
}
_PAGE = {
    "trained_sae": "docs/artifacts.md#the-sae-checkpoint",
    "feature_browser": "docs/browser.md",
    "sae_comparison": "docs/comparison.md",
}
"""Pages of artifacts that have one of their own."""


def description_of(artifact: Artifact, what: str) -> str:
    """Markdown for Dagster's page of an asset.

    Parameters
    ----------
    artifact
        As `saeborzoi.pipeline` declares it; all but the first sentence follows from it.
    what
        What it is.
    """
    settings = dict.fromkeys(_setting(path) for path in artifact.settings.values())
    if artifact.grain in ("sae", "node", "sae_variants"):
        settings = {"`[[sae]]`": None, **settings}
    files = dict.fromkeys(reads.group.replace("_", " ") for reads in artifact.reads)
    step = f"in the step `{artifact.step}` of `saeborzoi run`"
    job = f"; a job with `[compute.profile.{artifact.name}]`" if artifact.is_job else ""
    lines = [
        inspect.cleandoc(what),
        f"**Made** {_GRAIN[artifact.grain]}, {step}{job}.",
        f"**Costs** on two cores, its whole step: {cost_of(artifact.step)}.",
        f"**Changes with** {', '.join(settings) or 'no setting'}"
        + (f", and the files: {', '.join(files)}" if files else "")
        + (f"; made from {', '.join(artifact.inputs)}" if artifact.inputs else "")
        + ".",
        f"**Read on** in {_PAGE.get(artifact.name, 'docs/artifacts.md')}; settings: "
        "docs/settings.md.",
    ]
    return "\n\n".join(lines)


def _setting(path: str) -> str:
    """A path in the settings as a user writes it.

    >>> _setting("data.annotation"), _setting("layer.pad_bp"), _setting("motifs")
    ('`[data]` annotation', '`[[layer]]` pad_bp', '`[motifs]`')
    """
    section, _, name = path.partition(".")
    table = "`[[layer]]`" if section == "layer" else f"`[{section}]`"
    return f"{table} {name}" if name else table
