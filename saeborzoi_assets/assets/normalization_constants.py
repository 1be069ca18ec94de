"""Maximum of each channel of a layer over all shards: what its activations are divided by."""

import dagster as dg

from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a layer."""

    @artifact(
        partitions,
        constants_positive="no channel is divided by 0 or turned over by a negative constant",
        channels_alive="channels that never rise above 0 are few",
    )
    def normalization_constants(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Maximum of each channel over all positions of the training shards, or as imported from
        sae-borzoi's `<layer>_max.json`."""
        with explained():
            layer = platform.settings.layer_named(context.partition_key)
            platform.store.require_writable()
            version = platform.version_of("normalization_constants", layer.name)
            stage = run_stage(context, platform, version, layer)
        frame = stage.tables["channel_normalization"]
        not_alive = frame.loc[frame["activation_max_seen"] <= 0, "channel"].tolist()
        return dg.MaterializeResult(
            metadata={**stage.figures, "files": path(stage.output)},
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "constants_positive",
                    (frame["activation_max"] > 0).all(),
                    smallest=float(frame["activation_max"].min()),
                ),
                check(
                    "channels_alive",
                    len(not_alive) <= 0.1 * len(frame),
                    n_channels=len(frame),
                    not_above_0=str(not_alive[:50]),
                ),
            ],
        )

    return normalization_constants
