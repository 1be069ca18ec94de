"""What one SAE takes, in order, and what of it is missing."""

from typing import NamedTuple

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, partition_keys
from saeborzoi.settings.load import Settings


class Step(NamedTuple):
    """Assets that share a partition space, and the partition or range of it to materialize."""

    name: str
    assets: tuple[str, ...]
    first: PartitionKey
    last: PartitionKey

    @property
    def partition(self) -> str:
        """The partition, or the range as `dagster asset materialize` takes it."""
        return str(self.first) if self.first == self.last else f"{self.first}...{self.last}"

    @property
    def partitions(self) -> list[PartitionKey]:
        """Every partition of the step."""
        if self.first.node is None or self.last.node is None:
            return [self.first]
        return partition_keys(self.first.owner, range(self.first.node, self.last.node + 1))


def steps(settings: Settings, hyperparameters: Hyperparameters) -> list[Step]:
    """Every step of one SAE, in order."""
    layer = settings.layer_named(hyperparameters.layer)
    of_layer, key = PartitionKey(layer.name), PartitionKey(hyperparameters.key)
    last = key._replace(node=hyperparameters.n_nodes(layer.n_channels) - 1)
    return [
        Step("normalization", ("normalization_constants",), of_layer, of_layer),
        Step("training", ("trained_sae",), key, key),
        Step("inference", ("top_activations",), key, key),
        Step("nodes", ("seqlets", "meme_motifs", "tomtom_matches"), key._replace(node=0), last),
        Step(
            "fan-in",
            ("motif_evidence", "umap_embedding", "annotation_overlaps", "jaccard_matrix"),
            key,
            key,
        ),
        Step("pages", ("feature_browser",), key, key),
    ]


def next_step(
    settings: Settings, catalog: Catalog, hyperparameters: Hyperparameters
) -> Step | None:
    """The first step that is not whole, cut to what it lacks; None where the SAE is complete."""
    for step in steps(settings, hyperparameters):
        wanted = step.partitions
        made = {asset: catalog.partitions_made(asset, step.first.owner) for asset in step.assets}
        lacking = [key for key in wanted if any(key not in made[asset] for asset in step.assets)]
        if lacking:
            assets = tuple(
                asset for asset in step.assets if any(key not in made[asset] for key in wanted)
            )
            return step._replace(assets=assets, first=lacking[0], last=lacking[-1])
    return None
