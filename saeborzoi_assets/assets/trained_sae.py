"""The trained (or imported) sparse autoencoder of one set of hyperparameters."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.catalog.store import TRAINING_LOG, relative_to_store
from saeborzoi.jobs.job import Figures, Job
from saeborzoi.jobs.provenance import require_whole
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Checks
from saeborzoi_assets.common import artifact, explained, made_by, require_partitions, run_result
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path, say
from saeborzoi_resources.platform import Platform, Sae, Version

_FIRST = ("validation_fvu", "fvu", "dead_fraction", "l0", "median_channel_explained_variance")
"""What is looked at first of a trained SAE."""
_THRESHOLDS = ("fvu", "dead_fraction")


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE; where several train in one pass, many in one run."""

    @artifact(
        partitions,
        backfill_policy=partitions.training,
        fvu_below_threshold="validation FVU is at most [checks] max_fvu",
        dead_fraction_below_threshold="dead nodes are at most [checks] max_dead_fraction",
    )
    def trained_sae(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """TopK SAE of the layer's activations: trained, imported from a checkpoint, or a baseline
        that is not trained."""
        with explained():
            saes = [platform.sae(key) for key in require_partitions(context)]
            platform.store.require_writable()
            versions = {sae.key: platform.version_of("trained_sae", sae.key) for sae in saes}
            groups = passes(saes, platform.settings)
            jobs = [_job(context, platform, group, versions) for group in groups]
            figures: dict[str, Figures] = {}
            logs: dict[str, pd.DataFrame] = {}

            def catalogue(of_jobs: list[Figures]) -> None:
                for group, group_figures in zip(groups, of_jobs, strict=True):
                    others = group_figures.pop("together", {})
                    figures.update({group[0].key: group_figures, **others})
                for sae in saes:
                    key = sae.key
                    logs[key] = _catalogue(context, platform, sae, versions[key], figures[key])

            platform.compute.run(context, jobs, catalogue)
        shown = {sae.key: _shown(platform, sae, figures[sae.key], logs[sae.key]) for sae in saes}
        digests = [version.digest for version in versions.values()]
        return run_result(context, digests, {}, shown, _checks(figures, platform.settings.checks))

    return trained_sae


def passes(saes: Sequence[Sae], settings: Settings) -> list[list[Sae]]:
    """SAEs that one job makes: of one layer and seed, `saes_per_pass` at most; those that are not
    trained here (imported, baselines) are alone."""
    alike: dict[tuple[str, ...], list[Sae]] = {}
    for sae in saes:
        h = sae.hyperparameters
        is_alone = h.is_baseline or settings.checkpoint_of(h) is not None
        alike.setdefault((h.key,) if is_alone else (h.layer, str(h.seed)), []).append(sae)
    size = settings.training.saes_per_pass
    return [group[i : i + size] for group in alike.values() for i in range(0, len(group), size)]


def _job(
    context: dg.AssetExecutionContext,
    platform: Platform,
    group: Sequence[Sae],
    versions: Mapping[str, Version],
) -> Job:
    first, *others = group
    constants = platform.artifact("normalization_constants", first.layer.name)
    return platform.job(
        versions[first.key],
        context.run.run_id,
        output=platform.store.sae_artifact(first.key, "trained_sae"),
        layer=first.layer,
        sae=first,
        inputs={"normalization_constants": constants},
        together={sae.key: versions[sae.key] for sae in others},
    )


def _catalogue(
    context: dg.AssetExecutionContext,
    platform: Platform,
    sae: Sae,
    version: Version,
    figures: Figures,
) -> pd.DataFrame:
    """Catalogue a trained SAE; its training log."""
    output = platform.store.sae_artifact(sae.key, "trained_sae")
    log = pd.read_parquet(require_whole(output, version.digest) / TRAINING_LOG)
    measured = (
        "n_positions", "fvu", "validation_fvu", "l0", "dead_fraction", "training_s",
    )  # fmt: skip
    row = {
        **sae.hyperparameters.model_dump(),
        "n_channels": sae.layer.n_channels,
        "n_nodes": sae.n_nodes,
        "k": sae.hyperparameters.k(sae.layer.n_channels),
        **{name: figures.get(name) for name in measured},
        "artifact": relative_to_store(output, platform.store.root),
    }
    platform.record(
        made_by(context, version, output),
        Scope(sae_key=sae.key),
        {"sae": pd.DataFrame([row]), "training_log": log},
        partial(say, context),
    )
    return log


def _shown(platform: Platform, sae: Sae, figures: Figures, log: pd.DataFrame) -> dict[str, object]:
    """What an SAE's partition shows."""
    from saeborzoi.plots import training_curves

    first = {name: figures[name] for name in _FIRST if figures.get(name) is not None}
    return {
        **first,
        "training_curves": image(training_curves(log)),
        "n_nodes": sae.n_nodes,
        **{name: value for name, value in figures.items() if value is not None},
        "files": path(platform.store.sae_artifact(sae.key, "trained_sae")),
    }


def _checks(figures: Mapping[str, Figures], limits: Checks) -> list[dg.AssetCheckResult]:
    """The worst SAE of the run decides; nobody asks a baseline to explain anything."""
    figures = {
        key: sae_figures
        for key, sae_figures in figures.items()
        if not Hyperparameters.from_key(key).is_baseline
    }
    if not figures:
        note = "a baseline is held to no threshold"
        return [check(f"{name}_below_threshold", True, note=note) for name in _THRESHOLDS]
    compared = {
        key: sae_figures["fvu"]
        if sae_figures.get("validation_fvu") is None
        else sae_figures["validation_fvu"]
        for key, sae_figures in figures.items()
    }
    worst_fvu = max(compared, key=lambda key: (not math.isfinite(compared[key]), compared[key]))
    worst_dead = max(figures, key=lambda key: figures[key]["dead_fraction"])
    fvu, dead = compared[worst_fvu], figures[worst_dead]["dead_fraction"]
    return [
        check(
            "fvu_below_threshold",
            math.isfinite(fvu) and fvu <= limits.max_fvu,
            fvu=float(fvu),
            max_fvu=limits.max_fvu,
            sae=worst_fvu,
        ),
        check(
            "dead_fraction_below_threshold",
            dead <= limits.max_dead_fraction,
            dead_fraction=float(dead),
            max_dead_fraction=limits.max_dead_fraction,
            sae=worst_dead,
        ),
    ]
