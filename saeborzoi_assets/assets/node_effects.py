"""What each selected node does to the model's outputs."""

import shutil
from functools import partial

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.catalog.store import batch_name
from saeborzoi.jobs.job import Figures, Job
from saeborzoi.jobs.provenance import provenance
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.jobs import nodes_of_jobs
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, image, path, say, table
from saeborzoi_resources.platform import Platform, Sae, Version, write_tables


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE: what is significant is so among all of its nodes. Its jobs
    take `sae_nodes_per_job` nodes each."""

    @artifact(
        partitions,
        nodes_active="at least half of the selected nodes are active on the sequences",
        beyond_controls="a node moves a track significantly more than the controls do",
    )
    def node_effects(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """Each selected node ablated and doubled on held-out sequences, with the strongest other
        nodes at the same positions as control, and the published shuffle of the locus beside it."""
        from saeborzoi.effects.node_effects import COLUMNS, significance, strongest, summary

        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            platform.catalog.require_made("seqlets", sae.key, range(sae.n_nodes))
            selection = platform.catalog.rows("node_selection", sae.key)
            nodes = sorted(selection.loc[selection["selected"], "node"].tolist())
            version = platform.version_of("node_effects", sae.key)
            output = platform.store.sae_artifact(sae.key, "node_effects")
            jobs = _jobs(context, platform, sae, version, nodes)
            tables: dict[str, pd.DataFrame] = {}
            of_jobs: list[Figures] = []

            def catalogue(figures: list[Figures]) -> None:
                of_jobs.extend(figures)
                effects = platform.settings.effects
                frames = [pd.read_parquet(job.output) for job in jobs]
                frames = [frame for frame in frames if len(frame)]
                whole = pd.concat(frames) if frames else pd.DataFrame(columns=list(COLUMNS))
                if len(whole):
                    whole = significance(whole, effects.max_q_value)
                    tables["node_effect"] = strongest(whole, effects.n_kept)
                    tables["node_effect_summary"] = summary(whole)
                else:
                    for name in ("node_effect", "node_effect_summary"):
                        tables[name] = platform.catalog.rows(name, sae.key, nodes=[])
                documents = [provenance(j, figures=f) for j, f in zip(jobs, figures, strict=True)]
                write_tables(output, tables, version, {"jobs": documents})
                materialization = made_by(context, version, output)
                scope = Scope(sae_key=sae.key)
                platform.record(materialization, scope, tables, partial(say, context))
                for job in jobs:
                    shutil.rmtree(job.work, ignore_errors=True)
                    job.output.unlink(missing_ok=True)

            if jobs:
                platform.compute.run(context, jobs, catalogue)
            else:
                catalogue([])
        from saeborzoi.plots import effects_on_tracks

        effects, each = tables["node_effect"], tables["node_effect_summary"]
        n_active = int(each["node"].nunique())
        significant = effects[effects["is_significant"].astype(bool)]
        largest = significant.reindex(significant["ablated"].abs().sort_values().index[::-1])
        return dg.MaterializeResult(
            metadata={
                "n_nodes": n_active,
                "n_not_active": len(nodes) - n_active,
                "n_nodes_significant": int(each.loc[each["n_significant"] > 0, "node"].nunique()),
                "n_predictions": sum(int(figures["n_predictions"]) for figures in of_jobs),
                "largest": table(largest[_SHOWN]),
                "tracks": image(effects_on_tracks(effects)),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "nodes_active",
                    2 * n_active >= len(nodes),
                    n_active=n_active,
                    n_selected=len(nodes),
                ),
                check(
                    "beyond_controls",
                    len(significant) > 0 or not nodes,
                    n_significant=len(significant),
                ),
            ],
        )

    return node_effects


_SHOWN = ["node", "track", "ablated", "ablated_std", "control", "control_std", "z", "q_value"]


def _jobs(
    context: dg.AssetExecutionContext,
    platform: Platform,
    sae: Sae,
    version: Version,
    nodes: list[int],
) -> list[Job]:
    """A job for each `sae_nodes_per_job` of the nodes."""
    work = platform.store.work(sae.key, "node_effects")
    trained = platform.artifact("trained_sae", sae.key)
    return [
        platform.job(
            version,
            context.run.run_id,
            output=work / f"{batch_name(chunk)}_{version.digest}.parquet",
            layer=sae.layer,
            sae=sae,
            nodes=chunk,
            inputs={"trained_sae": trained},
        )
        for chunk in nodes_of_jobs(platform, version.asset, nodes)
    ]
