"""What happens by itself: partitions that follow the settings file."""

import dagster as dg

from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_resources.platform import Platform


def sensors(partitions: Partitions) -> list[dg.SensorDefinition]:
    """The project's sensors."""

    @dg.sensor(
        name="register_hyperparameters",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds a partition for each SAE that dagster_project.toml asks for.",
    )
    def register_hyperparameters(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        known = set(context.instance.get_dynamic_partitions(HYPERPARAMETERS))
        missing = [h.key for h in platform.settings.wanted() if h.key not in known]
        if not missing:
            return dg.SkipReason("every [[sae]] of the settings has its partition")
        return dg.SensorResult(
            dynamic_partitions_requests=[partitions.sae.build_add_request(missing)]
        )

    return [register_hyperparameters]
