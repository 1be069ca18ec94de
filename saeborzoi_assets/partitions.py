"""The partition spaces: layers, SAEs (dynamic, keyed by hyperparameters), nodes of an SAE, sets of
variants, and these with an SAE."""

from collections.abc import Iterable
from typing import NamedTuple

import dagster as dg

from saeborzoi.errors import SaeBorzoiError
from saeborzoi.pipeline import Grain
from saeborzoi.settings.hyperparameters import node_key, set_key
from saeborzoi.settings.load import Settings
from saeborzoi_resources.widths import note_widths

HYPERPARAMETERS = "hyperparameters"
NODE = "node"
VARIANTS = "variants"
INPUT_FILES = "input_files"
"""The source asset that stands for the user's files, with a partition a group of them."""


class Partitions(NamedTuple):
    """Partition definitions of one project.

    The dimensions of `node` and `sae_variants` stand in alphabetical order in their keys, as
    `PartitionKey` has them.
    From a layer to its SAEs there is no built-in mapping, and Dagster's web server and daemon
    ignore custom ones; there every SAE is shown as depending on all layers, and the asset reads
    the constants of its own layer only.
    """

    layer: dg.StaticPartitionsDefinition
    sae: dg.DynamicPartitionsDefinition
    node: dg.MultiPartitionsDefinition
    variants: dg.StaticPartitionsDefinition
    sae_variants: dg.MultiPartitionsDefinition
    n_nodes: int
    """Of the widest SAE: so many nodes the second dimension of `node` has."""
    settings: Settings
    training: dg.BackfillPolicy | None
    """All SAEs that are asked for in one run, where several train in one pass; else a run each."""

    @classmethod
    def of(cls, settings: Settings) -> "Partitions":
        """Partitions of a project; nodes cover the widest SAE of the settings."""
        saes = settings.wanted()
        widest = max(
            (h.n_nodes(settings.layer_named(h.layer).n_channels) for h in saes),
            default=4 * max(layer.n_channels for layer in settings.layer),
        )
        sae = dg.DynamicPartitionsDefinition(name=HYPERPARAMETERS)
        nodes = dg.StaticPartitionsDefinition([node_key(node) for node in range(widest)])
        sets = dg.StaticPartitionsDefinition([set_key(each.name) for each in settings.variants])
        return cls(
            layer=dg.StaticPartitionsDefinition([layer.name for layer in settings.layer]),
            sae=sae,
            node=dg.MultiPartitionsDefinition({HYPERPARAMETERS: sae, NODE: nodes}),
            variants=sets,
            sae_variants=dg.MultiPartitionsDefinition({HYPERPARAMETERS: sae, VARIANTS: sets}),
            n_nodes=widest,
            settings=settings,
            training=(
                dg.BackfillPolicy.single_run() if settings.training.saes_per_pass > 1 else None
            ),
        )

    def of_grain(self, grain: Grain) -> dg.PartitionsDefinition | None:
        """Partitions of what has this grain; None for what is of the project."""
        of: dict[Grain, dg.PartitionsDefinition | None] = {
            "layer": self.layer, "sae": self.sae, "node": self.node, "project": None,
            "variants": self.variants, "sae_variants": self.sae_variants,
        }  # fmt: skip
        return of[grain]


def register(instance: dg.DagsterInstance, settings: Settings, keys: Iterable[str]) -> list[str]:
    """Add partitions of SAEs that Dagster does not know, and note the width of all.

    Returns
    -------
    The keys that were added.
    """
    known = list(instance.get_dynamic_partitions(HYPERPARAMETERS))
    new = [key for key in dict.fromkeys(keys) if key not in known]
    widths = {}
    for key in [*known, *new]:
        try:
            hyperparameters = settings.parse_key(key)
            layer = settings.layer_named(hyperparameters.layer)
        except SaeBorzoiError:  # a key that somebody typed, or of a layer that is gone
            continue
        widths[key] = hyperparameters.n_nodes(layer.n_channels)
    # before the partitions: whoever sees them sees how wide they are
    note_widths(instance, widths)
    if new:
        instance.add_dynamic_partitions(HYPERPARAMETERS, new)
    return new
