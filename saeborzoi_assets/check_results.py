"""Asset checks that tell which SAE they are about: the check's page shows the result of each.

Where a run makes one layer's or SAE's partition, the check has partitions as the asset has, and
Dagster keeps a result for each. Checks of nodes, and of several SAEs that one run trains, have one
result a run; it carries a table with the last result of every SAE.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from saeborzoi.pipeline import Artifact
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_resources import markdown
from saeborzoi_resources.dagster_runs import earlier_evaluations

_SAES = "saes"
_FIGURES = "figures"
_TABLE = "each_sae"
ABOUT_SAES = frozenset({_SAES, _FIGURES, _TABLE})
"""Metadata of a result that is no figure of its own."""
_HISTORY = 300
"""Results that are looked at for the last one of each SAE."""


def check_specs(
    declared: Artifact, partitions: Partitions, checks: Mapping[str, str]
) -> list[dg.AssetCheckSpec]:
    """Checks of an artifact by name and what must hold, a result for each partition where its runs
    make one partition each."""
    partitions_def = (
        partitions.of_grain(declared.grain) if _is_of_one(declared, partitions) else None
    )
    with warnings.catch_warnings():
        # partitions of checks are a preview in Dagster 1.13; the tests hold that they work
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name, asset=declared.name, description=what, partitions_def=partitions_def
            )
            for name, what in checks.items()
        ]


def _is_of_one(declared: Artifact, partitions: Partitions) -> bool:
    several = declared.name == "trained_sae" and partitions.training is not None
    return declared.grain not in ("node", "project") and not several


def told_by_sae(
    context: dg.AssetExecutionContext,
    declared: Artifact,
    partitions: Partitions,
    results: Sequence[dg.AssetCheckResult],
) -> list[dg.AssetCheckResult]:
    """Results of a run's checks, with those of other SAEs beside them where Dagster shows the last
    run's only."""
    if declared.grain == "project" or _is_of_one(declared, partitions):
        return list(results)
    saes = sorted({PartitionKey.parse(str(key)).owner for key in context.partition_keys})
    return [_with_others(context, result, saes) for result in results]


def _with_others(
    context: dg.AssetExecutionContext, result: dg.AssetCheckResult, saes: Sequence[str]
) -> dg.AssetCheckResult:
    figures = ", ".join(f"{name} {_said(value)}" for name, value in result.metadata.items())
    last: dict[str, tuple[bool, str]] = dict.fromkeys(saes, (result.passed, figures))
    assert result.check_name is not None, "checks are given by name"
    key = dg.AssetCheckKey(context.asset_key, result.check_name)
    for earlier in earlier_evaluations(context.instance, key, _HISTORY):
        earlier_figures = {name: value.value for name, value in earlier.metadata.items()}
        for sae in str(earlier_figures.get(_SAES, "")).split(", "):
            last.setdefault(sae, (earlier.passed, str(earlier_figures.get(_FIGURES, ""))))
    known = {*context.instance.get_dynamic_partitions(HYPERPARAMETERS), *saes}
    last = {sae: last[sae] for sae in sorted(last) if sae in known}
    failing = [sae for sae, (holds, _) in last.items() if not holds]
    metadata: dict[str, Any] = {
        _SAES: ", ".join(saes),
        _FIGURES: figures,
        **result.metadata,
        _TABLE: markdown.table(
            ("SAE", "result", "figures"),
            ((sae, "holds" if holds else "FAILS", said) for sae, (holds, said) in last.items()),
        ),
    }
    description = f"fails for {', '.join(failing)}" if failing else f"holds for {', '.join(last)}"
    return dg.AssetCheckResult(
        check_name=result.check_name,
        passed=result.passed,
        severity=result.severity,
        metadata=metadata,
        description=description,
    )


def _said(value: dg.MetadataValue[Any]) -> str:
    plain = value.value
    return f"{plain:.3g}" if isinstance(plain, float) else str(plain)
