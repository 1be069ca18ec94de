"""How well each node detects each class of annotation, and the best node and pair of each class."""

import dagster as dg

from saeborzoi.pipeline import ARTIFACT
from saeborzoi_assets.common import artifact, explained
from saeborzoi_assets.jobs import run_stage
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path, table
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        scores_in_range="precision, recall, F1 and average precision lie between 0 and 1",
    )
    def concept_scores(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Precision, recall of elements, F1, average precision and lift of every node for every
        class of annotation: threshold chosen on training windows, figures of validation windows;
        the best node and the best two of each class. In the same pass, the mean activation of each
        node within 500 bp of its strongest positions, as far as their windows reach."""
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            inputs = {
                name: platform.artifact(name, sae.key) for name in ARTIFACT["concept_scores"].inputs
            }
            version = platform.version_of("concept_scores", sae.key)
            stage = run_stage(context, platform, version, sae.layer, sae, inputs=inputs)
        shares = stage.tables["concept_score"][
            ["precision", "element_recall", "f1", "average_precision"]
        ]
        shown = stage.tables["concept"].sort_values("f1", ascending=False, na_position="last")
        return dg.MaterializeResult(
            metadata={
                **{name: value for name, value in stage.figures.items() if value is not None},
                "best_of_each_class": table(shown, 30),
                "files": path(stage.output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check("scores_in_range", not ((shares < 0) | (shares > 1 + 1e-9)).any(axis=None)),
            ],
        )

    return concept_scores
