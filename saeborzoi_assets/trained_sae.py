"""The trained (or imported) sparse autoencoder of one set of hyperparameters."""

import math
from collections.abc import Sequence

import dagster as dg
import pandas as pd

from saeborzoi_assets import input_files
from saeborzoi_assets.common import (
    OWNERS,
    check,
    check_specs,
    column_schema,
    explained,
    image,
    made_by,
    path,
)
from saeborzoi_assets.normalization_constants import NAME as NORMALIZATION_CONSTANTS
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform, Version
from saeborzoi_resources.scope import Scope

NAME = "trained_sae"
CODE_VERSION = "1"


def version_of(platform: Platform, key: str, nodes: Sequence[int] | None = None) -> Version:
    """What an SAE is trained or imported from now."""
    settings, sae = platform.settings, platform.sae(key)
    checkpoint = settings.checkpoint_of(sae.hyperparameters)
    shard_sets = [shards for shards in (sae.layer.train, sae.layer.validation) if shards]
    return platform.version(
        NAME,
        CODE_VERSION,
        key,
        sections={"training": settings.training.model_dump()},
        files=[
            *(file for shards in shard_sets for file in (shards.shards, shards.windows)),
            *([checkpoint] if checkpoint else []),
        ],
        inputs=[NORMALIZATION_CONSTANTS],
    )


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @dg.asset(
        name=NAME,
        partitions_def=partitions.sae,
        deps=[
            dg.AssetDep(NORMALIZATION_CONSTANTS, partition_mapping=dg.AllPartitionMapping()),
            input_files.of_every_layer(partitions),
        ],
        group_name="sae",
        kinds={"torch", "safetensors"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        metadata=column_schema("sae", "training_log"),
        pool=NAME,
        check_specs=check_specs(
            NAME,
            fvu_below_threshold="validation FVU is at most [checks] max_fvu",
            dead_fraction_below_threshold="dead nodes are at most [checks] max_dead_fraction",
        ),
    )
    def trained_sae(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """TopK SAE of the layer's activations, trained or imported from a checkpoint."""
        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            constants = platform.store.require_artifact(
                platform.store.layer_artifact(sae.layer.name, NORMALIZATION_CONSTANTS),
                NORMALIZATION_CONSTANTS,
                sae.layer.name,
            )
            version = version_of(platform, sae.key)
            output = platform.store.sae_artifact(sae.key, NAME)
            job = platform.job(
                version,
                context.run.run_id,
                output=output,
                layer=sae.layer,
                sae=sae,
                inputs={NORMALIZATION_CONSTANTS: constants},
            )
            figures = platform.compute.run(context, [job])[0]
            log = pd.read_parquet(output / "training_log.parquet")
            row = {
                **sae.hyperparameters.model_dump(),
                "n_channels": sae.layer.n_channels,
                "n_nodes": sae.n_nodes,
                "k": sae.hyperparameters.k(sae.layer.n_channels),
                **{
                    name: figures.get(name)
                    for name in (
                        "n_positions",
                        "fvu",
                        "validation_fvu",
                        "l0",
                        "dead_fraction",
                        "training_s",
                    )
                },
                "artifact": str(output),
            }
            platform.record(
                made_by(context, version, output),
                Scope(hyperparameters=sae.key),
                {"sae": pd.DataFrame([row]), "training_log": log},
            )
        from saeborzoi.plots import training_curves

        fvu = figures.get("validation_fvu")
        fvu = figures["fvu"] if fvu is None else fvu
        dead = figures["dead_fraction"]
        checks = settings.checks
        return dg.MaterializeResult(
            metadata={
                **{k: v for k, v in figures.items() if v is not None},
                "n_nodes": sae.n_nodes,
                "training_curves": image(training_curves(log)),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "fvu_below_threshold",
                    math.isfinite(fvu) and fvu <= checks.max_fvu,
                    fvu=float(fvu),
                    max_fvu=checks.max_fvu,
                ),
                check(
                    "dead_fraction_below_threshold",
                    dead <= checks.max_dead_fraction,
                    dead_fraction=float(dead),
                    max_dead_fraction=checks.max_dead_fraction,
                ),
            ],
        )

    return trained_sae
