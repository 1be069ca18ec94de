"""What each variant does to the model's outputs."""

import dagster as dg

from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path, say, table
from saeborzoi_resources.platform import Platform

_SHOWN = ["variant", "name", "kind", "effect_norm", "p_value", "q_value"]


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a set of variants."""

    @artifact(partitions, all_used="every variant of the file was used, see variant_skipped")
    def variant_effects(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Score of both alleles of each variant on the model's tracks, the most moved ones kept,
        against neutral changes in the same windows; what the file holds and cannot be used."""
        settings = platform.settings
        with explained():
            platform.store.require_writable()
            key = PartitionKey.parse(context.partition_key)
            version = platform.version_of("variant_effects", key.owner)
            layers = [
                layer
                for layer in settings.layer
                if version.asset in (a.name for a in artifacts_of(settings, layer))
            ]
            stage = run_stage(context, platform, version, layers[0], variant_set=key.of_set)
        figures, tables = stage.figures, stage.tables
        for note in figures.pop("notes"):
            say(context, note)
        variants, skipped = tables["variant"], tables["variant_skipped"]
        reasons = skipped.groupby("reason").size().rename("n").reset_index()
        largest = variants.sort_values("effect_norm", ascending=False)
        return dg.MaterializeResult(
            metadata={
                **{name: value for name, value in figures.items() if value is not None},
                "largest": table(largest[_SHOWN]),
                "skipped": table(reasons.sort_values("n", ascending=False)),
                "files": path(stage.output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[check("all_used", skipped.empty, n_skipped=len(skipped))],
        )

    return variant_effects
