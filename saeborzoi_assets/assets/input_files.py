"""The user's files as Dagster sees them: results made from files that have changed show as stale.

One source asset, a partition for each group of files, so that only what reads a group is shown as
stale when it changes. A sensor looks at the files and notes what changed; it starts nothing.
"""

import json
import warnings
from collections.abc import Iterator, Mapping

import dagster as dg

from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError
from saeborzoi.jobs.fingerprint import SENSOR_S, StillReading, fingerprint_files, within
from saeborzoi.settings.load import Settings
from saeborzoi.settings.user_files import observed_groups
from saeborzoi_assets.partitions import INPUT_FILES, Partitions
from saeborzoi_resources.platform import Platform

NAME = INPUT_FILES
_MISSING = "missing"


def versions(settings: Settings) -> dict[str, str]:
    """Group to the fingerprint of its files; `missing` where one is not there."""
    fingerprints = {}
    cache = Store(settings.project.store).fingerprints
    for group, files in observed_groups(settings).items():
        try:
            fingerprints[group] = fingerprint_files(files, cache)
        except InputError:
            fingerprints[group] = _MISSING
    return fingerprints


def observations(fingerprints: Mapping[str, str]) -> list[dg.AssetObservation]:
    """What Dagster is told of groups and their fingerprints."""
    return [
        dg.AssetObservation(NAME, partition=group, tags={"dagster/data_version": version})
        for group, version in fingerprints.items()
    ]


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The source asset; a group can be observed by hand, too."""
    keys = list(observed_groups(partitions.settings))
    spec = dg.AssetSpec(
        NAME,
        group_name="inputs",
        partitions_def=dg.StaticPartitionsDefinition(keys),
        description="The user's files: shards and windows of each layer, genome, annotation, "
        "motif databases. Its data versions are their fingerprints.",
    )

    def input_files(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> Iterator[dg.ObserveResult]:
        version = versions(platform.settings)[context.partition_key]
        yield dg.ObserveResult(NAME, data_version=dg.DataVersion(version))

    with warnings.catch_warnings():
        # in beta, and the one way to stale partitions; Dagster's version is pinned
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.multi_observable_source_asset(specs=[spec], name=NAME)(input_files)


def sensor() -> dg.SensorDefinition:
    """Notes which groups of files changed since it looked last."""

    @dg.sensor(
        name="observe_input_files",
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks whether shards, genome, annotation or motif databases changed, so "
        "that what was made from them shows as stale. Starts no run.",
    )
    def observe_input_files(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        before = json.loads(context.cursor) if context.cursor else {}
        try:
            with within(SENSOR_S):
                now = versions(platform.settings)
        except StillReading as error:
            return dg.SkipReason(str(error))
        changed = {group: version for group, version in now.items() if before.get(group) != version}
        if not changed:
            return dg.SkipReason("no file changed")
        return dg.SensorResult(asset_events=observations(changed), cursor=json.dumps(now))

    return observe_input_files
