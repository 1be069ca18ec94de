"""How well each node detects each class of annotation, and the best node and pair of each class."""

from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.jobs.job import Figures
from saeborzoi.jobs.provenance import require_whole
from saeborzoi.pipeline import ARTIFACT
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path, say, table
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
        the best node and the best two of each class."""
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            inputs = {
                name: platform.artifact(name, sae.key) for name in ARTIFACT["concept_scores"].inputs
            }
            version = platform.version_of("concept_scores", sae.key)
            output = platform.store.sae_artifact(sae.key, "concept_scores")
            job = platform.job(
                version,
                context.run.run_id,
                output=output,
                layer=sae.layer,
                sae=sae,
                inputs=inputs,
            )
            tables = ARTIFACT["concept_scores"].tables
            frames: dict[str, pd.DataFrame] = {}

            def catalogue(_: list[Figures]) -> None:
                whole = require_whole(output, version.digest)
                frames.update({name: pd.read_parquet(whole / f"{name}.parquet") for name in tables})
                platform.record(
                    made_by(context, version, output),
                    Scope(sae_key=sae.key),
                    frames,
                    partial(say, context),
                )

            figures = platform.compute.run(context, [job], catalogue)[0]
        shares = frames["concept_score"][["precision", "element_recall", "f1", "average_precision"]]
        shown = frames["concept"].sort_values("f1", ascending=False, na_position="last")
        return dg.MaterializeResult(
            metadata={
                **{name: value for name, value in figures.items() if value is not None},
                "best_of_each_class": table(shown, 30),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check("scores_in_range", not ((shares < 0) | (shares > 1 + 1e-9)).any(axis=None)),
            ],
        )

    return concept_scores
