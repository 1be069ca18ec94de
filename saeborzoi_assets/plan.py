"""What one SAE takes, in order, and what of it is missing."""

from typing import NamedTuple

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.settings.hyperparameters import Hyperparameters, node_key
from saeborzoi.settings.load import Settings


class Step(NamedTuple):
    """Assets that share a partition space, and the partition or range of it to materialize."""

    name: str
    assets: tuple[str, ...]
    first: str
    last: str

    @property
    def partition(self) -> str:
        """The partition, or the range as `dagster asset materialize` takes it."""
        return self.first if self.first == self.last else f"{self.first}...{self.last}"


def steps(settings: Settings, hyperparameters: Hyperparameters) -> list[Step]:
    """Every step of one SAE, in order."""
    layer = settings.layer_named(hyperparameters.layer)
    key = hyperparameters.key
    nodes = (
        f"{key}|{node_key(0)}",
        f"{key}|{node_key(hyperparameters.n_nodes(layer.n_channels) - 1)}",
    )
    return [
        Step("normalization", ("normalization_constants",), layer.name, layer.name),
        Step("training", ("trained_sae",), key, key),
        Step("inference", ("top_activations",), key, key),
        Step("nodes", ("seqlets", "meme_motifs", "tomtom_matches"), *nodes),
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
        wanted = _partitions(step)
        owner = step.first.partition("|")[0]
        made = {asset: catalog.partitions_made(asset, owner) for asset in step.assets}
        lacking = [key for key in wanted if any(key not in made[asset] for asset in step.assets)]
        if lacking:
            assets = tuple(
                asset for asset in step.assets if any(key not in made[asset] for key in wanted)
            )
            return step._replace(assets=assets, first=lacking[0], last=lacking[-1])
    return None


def _partitions(step: Step) -> list[str]:
    """Every partition of a step."""
    if step.first == step.last:
        return [step.first]
    key, _, last = step.last.partition("|")
    return [f"{key}|{node_key(node)}" for node in range(int(last[1:]) + 1)]
