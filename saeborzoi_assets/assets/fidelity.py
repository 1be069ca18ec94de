"""How far the model's outputs stay as they are with the SAE in it."""

import dagster as dg

from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path, table
from saeborzoi_resources.platform import Platform

_SHOWN = [
    "splice", "r", "r_log", "r_published", "r_target", "loss", "recovered_mean", "recovered_zero",
]  # fmt: skip


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        recovered="loss recovered against mean ablation is at least [checks] min_recovered",
        error_completes="with its error added, the SAE is the model but for rounding",
    )
    def fidelity(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """The model's outputs on held-out windows with the SAE spliced in: Pearson r, and loss
        recovered against zero and mean ablation, for each track and over all."""
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            version = platform.version_of("fidelity", sae.key)
            trained = platform.artifact("trained_sae", sae.key)
            stage = run_stage(
                context, platform, version, sae.layer, sae, inputs={"trained_sae": trained}
            )
        figures, tables = stage.figures, stage.tables
        over_all = tables["fidelity"]
        from saeborzoi.plots import recovered_by_track

        recovered = figures["recovered_mean"]
        complete = float(over_all.set_index("splice").loc["sae_with_error", "r"])
        least = platform.settings.checks.min_recovered
        return dg.MaterializeResult(
            metadata={
                **{k: v for k, v in figures.items() if v is not None and v == v},
                "splices": table(over_all[_SHOWN].dropna(axis=1, how="all")),
                "tracks": image(recovered_by_track(tables["fidelity_track"])),
                "files": path(stage.output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                # NaN, where an ablation costs nothing, is no pass: the layer hardly matters
                check(
                    "recovered",
                    # nobody asks a baseline to keep anything
                    recovered >= least or sae.hyperparameters.is_baseline,
                    recovered=recovered,
                    min_recovered=least,
                ),
                check("error_completes", complete != complete or complete > 0.999, r=complete),
            ],
        )

    return fidelity
