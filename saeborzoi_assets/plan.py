"""What one SAE takes, in order, and what of it is missing."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import PROJECT
from saeborzoi.pipeline import Artifact, Grain
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.hyperparameters import (
    Hyperparameters,
    PartitionKey,
    partition_keys,
    set_key,
)
from saeborzoi.settings.load import Settings
from saeborzoi_resources.runs import RANGE_TAGS


class PipelineStep(NamedTuple):
    """Assets that share a partition space, and the partition or range of it to materialize."""

    name: str
    assets: tuple[str, ...]
    first: PartitionKey
    last: PartitionKey

    @property
    def label(self) -> str:
        """Its name, and the set of variants that it is of."""
        variant_set = self.first.of_set
        return self.name if variant_set is None else f"{self.name} of {variant_set}"

    @property
    def partition(self) -> str:
        """The partition, or the range as `dagster asset materialize` takes it."""
        return str(self.first) if self.first == self.last else f"{self.first}...{self.last}"

    @property
    def range_tags(self) -> dict[str, str]:
        """Tags of a run over all of the step's partitions."""
        return dict(zip(RANGE_TAGS, (str(self.first), str(self.last)), strict=True))

    @property
    def partitions(self) -> list[PartitionKey]:
        """Every partition of the step."""
        if self.first.node is None or self.last.node is None:
            return [self.first]
        return partition_keys(self.first.owner, range(self.first.node, self.last.node + 1))


def command_of(step: PipelineStep) -> list[str]:
    """Dagster's own command for a step, as a person types it."""
    option = "--partition" if step.first == step.last else "--partition-range"
    return [
        "dagster", "asset", "materialize", "-m", "saeborzoi_assets.definitions",
        "--select", ",".join(step.assets), option, step.partition,
    ]  # fmt: skip


def steps(settings: Settings, hyperparameters: Hyperparameters) -> list[PipelineStep]:
    """Every step of one SAE, in order; those of variants once for each set."""
    layer = settings.layer_named(hyperparameters.layer)
    of_layer, of_sae = PartitionKey(layer.name), PartitionKey(hyperparameters.key)
    last = hyperparameters.n_nodes(layer.n_channels) - 1
    sets = [each.name for each in settings.variants]
    of_sets = [PartitionKey(set_key(name)) for name in sets]
    of_sae_sets = [of_sae._replace(variant_set=name) for name in sets]
    partitions: dict[str, list[tuple[PartitionKey, PartitionKey]]] = {
        "layer": [(of_layer, of_layer)],
        "sae": [(of_sae, of_sae)],
        "node": [(of_sae._replace(node=0), of_sae._replace(node=last))],
        "variants": [(key, key) for key in of_sets],
        "sae_variants": [(key, key) for key in of_sae_sets],
    }
    return [
        PipelineStep(name, assets, *first_and_last)
        for name, grain, assets in _assets_by_step(artifacts_of(settings, layer))
        for first_and_last in partitions.get(grain, ())
    ]


def project_steps(settings: Settings) -> list[PipelineStep]:
    """Steps that are about all SAEs, in order."""
    whole = PartitionKey(PROJECT)
    return [
        PipelineStep(name, assets, whole, whole)
        for name, grain, assets in _assets_by_step(artifacts_of(settings))
        if grain == "project"
    ]


def _assets_by_step(
    artifacts: Sequence[Artifact],
) -> list[tuple[str, Grain, tuple[str, ...]]]:
    """Name, grain and artifacts of each step, in order."""
    grouped = groupby(artifacts, lambda artifact: (artifact.step, artifact.grain))
    return [(*of_step, tuple(each.name for each in each_of)) for of_step, each_of in grouped]


def next_step(
    settings: Settings, catalog: Catalog, hyperparameters: Hyperparameters
) -> PipelineStep | None:
    """The first step that is not whole, cut to what it lacks; None where the SAE is complete."""
    return next(next_steps(settings, catalog, hyperparameters), None)


def next_steps(
    settings: Settings, catalog: Catalog, hyperparameters: Hyperparameters
) -> Iterator[PipelineStep]:
    """The first step that is not whole, cut to what it lacks; after one of a set of variants, those
    that need not wait for that set."""
    sets_lacking: set[str] = set()
    for step in steps(settings, hyperparameters):
        variant_set = step.first.of_set
        if variant_set in sets_lacking:
            continue
        keys = step.partitions
        made_keys = {
            asset: catalog.partitions_made(asset, step.first.owner) for asset in step.assets
        }
        lacking = [key for key in keys if any(key not in made_keys[asset] for asset in step.assets)]
        if lacking:
            assets = tuple(
                asset for asset in step.assets if any(key not in made_keys[asset] for key in keys)
            )
            yield step._replace(assets=assets, first=lacking[0], last=lacking[-1])
            if variant_set is None:
                return
            sets_lacking.add(variant_set)
