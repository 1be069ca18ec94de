"""The user's files as Dagster sees them: results made from files that have changed show as stale.

One source asset, a partition for each group of files, so that only what reads a group is shown as
stale when it changes. A sensor looks at the files and notes what changed; it starts nothing.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg

from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError
from saeborzoi.jobs.fingerprint import SENSOR_S, StillReading, fingerprint_files, within
from saeborzoi.settings.load import Settings
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform

NAME = "input_files"
GENOME, ANNOTATION, MOTIF_DATABASE = "genome", "annotation", "motif_database"
_MISSING = "missing"


def activations(layer: str) -> str:
    """The group of a layer's shards and windows."""
    return f"{layer} activations"


def groups(settings: Settings) -> dict[str, list[Path]]:
    """Group to its files and folders."""
    data = settings.data
    found = {
        GENOME: [data.genome],
        ANNOTATION: [annotation.path for annotation in data.annotation],
        MOTIF_DATABASE: [database.file for database in data.motif_database if database.file],
    }
    for layer in settings.layer:
        found[activations(layer.name)] = [
            *(
                file
                for shards in (layer.train, layer.validation)
                if shards
                for file in (shards.shards, shards.windows)
            ),
            *([layer.channel_max] if layer.channel_max else []),
        ]
    return found


def versions(settings: Settings) -> dict[str, str]:
    """Group to the fingerprint of its files; `missing` where one is not there."""
    found = {}
    cache = Store(settings.project.store).fingerprints
    for group, files in groups(settings).items():
        try:
            found[group] = fingerprint_files(files, cache)
        except InputError:
            found[group] = _MISSING
    return found


def observations(seen: Mapping[str, str]) -> list[dg.AssetObservation]:
    """What Dagster is told of groups and their fingerprints."""
    return [
        dg.AssetObservation(NAME, partition=group, tags={"dagster/data_version": version})
        for group, version in seen.items()
    ]


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The source asset; a group can be observed by hand, too."""
    layers = partitions.layer.get_partition_keys()
    keys = [*map(activations, layers), GENOME, ANNOTATION, MOTIF_DATABASE]
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


def of_layer(partitions: Partitions) -> dg.AssetDep:
    """Dependence of an asset of the layer on its activations."""
    layers = partitions.layer.get_partition_keys()
    mapping = dg.StaticPartitionMapping({activations(layer): layer for layer in layers})
    return dg.AssetDep(NAME, partition_mapping=mapping)


def of_every_layer(partitions: Partitions) -> dg.AssetDep:
    """Dependence of an asset of an SAE on activations: of its layer, but Dagster cannot know of
    which, so that a change to any layer's shows; `saeborzoi trace` tells them apart."""
    return of_group(*map(activations, partitions.layer.get_partition_keys()))


def of_group(*names: str) -> dg.AssetDep:
    """Dependence on some groups of files."""
    return dg.AssetDep(NAME, partition_mapping=dg.SpecificPartitionsPartitionMapping(list(names)))


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
