"""Maximum of each channel of a layer over all shards: what its activations are divided by."""

from collections.abc import Sequence
from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.jobs.job import Figures
from saeborzoi.jobs.provenance import require_whole
from saeborzoi_assets.assets import input_files
from saeborzoi_assets.common import (
    OWNERS,
    check,
    check_specs,
    column_schema,
    explained,
    made_by,
    path,
    say,
)
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform, Version

NAME = "normalization_constants"
CODE_VERSION = "1"
FILE = "channel_normalization.parquet"


def version_of(platform: Platform, key: str, nodes: Sequence[int] | None = None) -> Version:
    """What a layer's constants are made from now; `key` is the layer's name."""
    layer = platform.settings.layer_named(key)
    return platform.version(
        NAME,
        CODE_VERSION,
        layer.name,
        sections={"n_channels": layer.n_channels},
        files=[layer.channel_max or layer.train.shards],
    )


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a layer."""

    @dg.asset(
        name=NAME,
        partitions_def=partitions.layer,
        deps=[input_files.of_layer(partitions)],
        group_name="sae",
        kinds={"hdf5", "python"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        metadata=column_schema("channel_normalization"),
        pool=NAME,
        check_specs=check_specs(
            NAME,
            constants_positive="no channel is divided by 0 or turned over by a negative constant",
            channels_alive="channels that never rise above 0 are few",
        ),
    )
    def normalization_constants(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Maximum of each channel over all positions of the training shards, or as imported from
        sae-borzoi's `<layer>_max.json`."""
        with explained():
            layer = platform.settings.layer_named(context.partition_key)
            platform.store.require_writable()
            version = version_of(platform, layer.name)
            output = platform.store.layer_artifact(layer.name, NAME)
            job = platform.job(version, context.run.run_id, output=output, layer=layer)

            def catalogue(_: list[Figures]) -> None:
                whole = require_whole(output, version.digest)
                platform.record(
                    made_by(context, version, output),
                    Scope(layer=layer.name),
                    {"channel_normalization": pd.read_parquet(whole / FILE)},
                    partial(say, context),
                )

            figures = platform.compute.run(context, [job], catalogue)[0]
            frame = pd.read_parquet(output / FILE)
        not_alive = frame.loc[frame["activation_max_seen"] <= 0, "channel"].tolist()
        return dg.MaterializeResult(
            metadata={**figures, "files": path(output)},
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
