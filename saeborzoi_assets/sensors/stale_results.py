"""Results made from other files than there are now, said where people look first.

Dagster marks a partition as unsynced on the partition's own page only, and only where it had looked
at the files before the result was made. A check of `input_files` says it on the lineage, in the
catalogue of assets and for every result, by the fingerprints in the project's catalogue. It starts
nothing.
"""

import json
from collections.abc import Mapping

import dagster as dg

from saeborzoi.catalog.questions import files_made_from
from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.jobs.fingerprint import SENSOR_S, StillReading, within
from saeborzoi.pipeline import Artifact
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi_assets.assets import input_files
from saeborzoi_resources.platform import Platform

CHECK = "results_are_of_these_files"
_SHOWN = 20


def stale_results(platform: Platform) -> dict[str, dict[str, int]]:
    """Asset to its layers or SAEs whose results were made from other files than there are now,
    and the number of their partitions.

    Only assets that read files are named. Assets that were made from their results are stale too,
    but are not listed again.
    """
    if not platform.catalog.path.exists():
        return {}
    stale: dict[str, dict[str, int]] = {}
    with platform.catalog.read():  # kept open: DuckDB opens it once, not for each question
        standing = files_made_from(platform.catalog)
        for asset in artifacts_of(platform.settings):
            now: dict[object, str | None] = {}
            rows = standing[standing["asset"] == asset.name]
            columns = ["owner", "variant_set", "files", "n_partitions"]
            for owner, of_set, files, n in rows[columns].itertuples(index=False):
                variant_set = of_set if isinstance(of_set, str) else None
                group = _readers(platform, owner), variant_set
                if group not in now:
                    now[group] = _fingerprint(platform, asset, owner, variant_set)
                if now[group] not in (None, files):
                    of_asset = stale.setdefault(asset.name, {})
                    of_asset[owner] = of_asset.get(owner, 0) + int(n)
    return stale


def _readers(platform: Platform, owner: str) -> object:
    """What tells apart layers and SAEs that read other files in the same asset: the layer, and
    the checkpoint that an SAE is imported from."""
    try:
        hyperparameters = platform.settings.parse_key(owner)
    except SaeBorzoiError:
        return owner
    return hyperparameters.layer, platform.settings.checkpoint_of(hyperparameters)


def _fingerprint(
    platform: Platform, asset: Artifact, owner: str, variant_set: str | None
) -> str | None:
    """Fingerprint of the files that an asset would be made from now, None where there are none."""
    try:
        version = platform.version_of(asset.name, owner, variant_set=variant_set)
        files: str | None = version.made_from["files"]
    except InputError:
        return "missing"
    except StillReading:
        raise
    except SaeBorzoiError:  # a layer, SAE or set that the settings no longer have
        return None
    return files


def outcome(stale: Mapping[str, Mapping[str, int]]) -> dg.AssetCheckEvaluation:
    """The check's outcome, with a line for each asset that has stale results."""
    metadata: dict[str, str] = {}
    for asset, owners in stale.items():
        more = f" and {len(owners) - _SHOWN} more" if len(owners) > _SHOWN else ""
        named = ", ".join(list(owners)[:_SHOWN])
        metadata[asset] = f"{sum(owners.values()):,} partitions, of {named}{more}"
    if stale:
        metadata["what_to_do"] = (
            "materialize them again, and then what rests on them; `saeborzoi trace KEY` says "
            "what changed"
        )
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(input_files.NAME),
        check_name=CHECK,
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description="made from other files: " + ", ".join(stale) if stale else None,
    )


def check() -> dg.AssetChecksDefinition:
    """The check, which can be executed by hand, too."""

    @dg.asset_check(
        asset=input_files.NAME,
        name=CHECK,
        description="Every result was made from the files as they are now.",
    )
    def results_are_of_these_files(platform: Platform) -> dg.AssetCheckResult:
        result = outcome(stale_results(platform))
        return dg.AssetCheckResult(
            passed=result.passed,
            severity=result.severity,
            metadata=result.metadata,
            description=result.description,
        )

    return results_are_of_these_files


def sensor() -> dg.SensorDefinition:
    """Tells the check's outcome when it is another than before."""

    @dg.sensor(
        name="compare_results_with_files",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks whether results were made from the files as they are now, and says so "
        "in the check of input_files. Starts no run.",
    )
    def compare_results_with_files(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            with within(SENSOR_S):
                stale = stale_results(platform)
        except StillReading as error:
            return dg.SkipReason(str(error))
        cursor = json.dumps(stale, sort_keys=True)
        if cursor == context.cursor:
            return dg.SkipReason("as before")
        return dg.SensorResult(asset_events=[outcome(stale)], cursor=cursor)

    return compare_results_with_files
