"""How heavy stages are run as jobs, and what they wrote is catalogued."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import Scope
from saeborzoi.catalog.store import Store, batch_name
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Figures
from saeborzoi.jobs.provenance import provenance, require_whole
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.sections import Layer
from saeborzoi_assets.common import made_by
from saeborzoi_assets.shown import say
from saeborzoi_resources.platform import Platform, Sae, Version, write_tables


class StageResult(NamedTuple):
    """What a stage made: figures of its job, its catalogue tables, and the folder of both."""

    figures: Figures
    tables: dict[str, pd.DataFrame]
    output: Path


def run_stage(
    context: dg.AssetExecutionContext,
    platform: Platform,
    version: Version,
    layer: Layer,
    sae: Sae | None = None,
    *,
    variant_set: str | None = None,
    inputs: Mapping[str, Path] | None = None,
    files: Mapping[str, str] | None = None,
    lay_out: Callable[[], None] | None = None,
    own_input: Path | None = None,
) -> StageResult:
    """Run the stage of a layer's, an SAE's or a set of variants' artifact as one job, and catalogue
    the tables that it wrote.

    Parameters
    ----------
    version
        What the result is made from; names the artifact.
    layer
        What the job works on; of an SAE its layer.
    variant_set
        The set of variants that it is about, with the SAE or by itself.
    inputs
        Artifacts and files that the job reads.
    files
        Catalogue table to its file in the artifact, where that is not ``<table>.parquet``.
    lay_out
        Writes inputs, once it is known that the job has to run.
    own_input
        The input that it writes: removed when the result is catalogued.
    """
    asset, store = version.asset, platform.store
    scope = Scope(
        layer=layer.name if ARTIFACT[asset].grain == "layer" else None,
        sae_key=sae.key if sae else None,
        variant_set=variant_set,
    )
    output = _place(store, asset, scope)
    job = platform.job(
        version,
        context.run.run_id,
        output=output,
        layer=layer,
        sae=sae,
        variant_set=variant_set,
        inputs=inputs,
    )
    tables: dict[str, pd.DataFrame] = {}

    def catalogue(_: list[Figures]) -> None:
        whole = require_whole(output, version.digest)
        for table in ARTIFACT[asset].tables:
            file = (files or {}).get(table, f"{table}.parquet")
            tables[table] = pd.read_parquet(whole / file)
        platform.record(made_by(context, version, output), scope, tables, partial(say, context))
        if own_input is not None:
            own_input.unlink(missing_ok=True)

    figures = platform.compute.run(context, [job], catalogue, lay_out)[0]
    return StageResult(figures, tables, output)


def _place(store: Store, asset: str, scope: Scope) -> Path:
    """Folder of an artifact whose rows are those of a scope."""
    if scope.layer is not None:
        return store.layer_artifact(scope.layer, asset)
    if scope.sae_key is None:
        assert scope.variant_set is not None, "a stage is of a layer, an SAE or a set of variants"
        return store.set_artifact(scope.variant_set, asset)
    if scope.variant_set is None:
        return store.sae_artifact(scope.sae_key, asset)
    return store.sae_set_artifact(scope.sae_key, asset, scope.variant_set)


def nodes_of_jobs(platform: Platform, stage: str, nodes: Sequence[int]) -> list[Sequence[int]]:
    """Nodes of each job of a stage over nodes: `sae_nodes_per_job` of its profile, else all."""
    size = platform.settings.compute.profile_of(stage).sae_nodes_per_job or max(1, len(nodes))
    return [nodes[i : i + size] for i in range(0, len(nodes), size)]


class NodeStage(NamedTuple):
    """What a heavy stage over nodes of one SAE made: its rows, and the folder that holds them."""

    frame: pd.DataFrame
    output: Path


def run_node_stage(
    context: dg.AssetExecutionContext,
    platform: Platform,
    version: Version,
    sae: Sae,
    nodes: tuple[int, ...],
    active: Sequence[int],
    table: str,
    result: str,
) -> NodeStage:
    """Run a heavy stage over nodes, in as many jobs as its profile wants, and catalogue its rows.

    Parameters
    ----------
    version
        What the result is made from; names the stage.
    nodes
        Nodes of the run's partitions.
    active
        Those of them that have something to work on; may be none.
    table
        Catalogue table whose rows of these nodes are the stage's input.
    result
        Catalogue table that the stage's rows are for; its columns where there are no nodes.
    """
    stage = version.asset
    folder = platform.store.batch(sae.key, stage, nodes, version.digest, context.run.run_id)
    work = platform.store.work(sae.key, stage)
    jobs = []
    for chunk in nodes_of_jobs(platform, stage, active):
        name = batch_name(chunk)
        job = platform.job(
            version,
            context.run.run_id,
            output=work / f"{name}_{version.digest}.result.parquet",
            layer=sae.layer,
            sae=sae,
            nodes=chunk,
            inputs={table: work / f"{name}_{version.digest}.parquet"},
        )
        jobs.append(job)

    def lay_out() -> None:
        for job in jobs:
            with write_file(job.inputs[table]) as temporary:
                rows = platform.catalog.rows(table, sae.key, nodes=job.nodes)
                rows.to_parquet(temporary, index=False)

    made_rows: list[pd.DataFrame] = []

    def catalogue(figures: list[Figures]) -> None:
        frames = [pd.read_parquet(job.output) for job in jobs]
        # without nodes to work on: no rows, but the columns' types
        frame = pd.concat(frames) if frames else platform.catalog.rows(result, sae.key, nodes=[])
        documents = [
            provenance(job, figures=job_figures)
            for job, job_figures in zip(jobs, figures, strict=True)
        ]
        write_tables(folder, {result: frame}, version, {"jobs": documents})
        materialization = made_by(context, version, folder)
        scope = Scope(sae_key=sae.key, nodes=nodes)
        platform.record(materialization, scope, {result: frame}, partial(say, context))
        for job in jobs:
            shutil.rmtree(job.work, ignore_errors=True)
            job.inputs[table].unlink(missing_ok=True)
            job.output.unlink(missing_ok=True)
        made_rows.append(frame)

    if jobs:
        platform.compute.run(context, jobs, catalogue, lay_out)
    else:
        catalogue([])
    return NodeStage(made_rows[0], folder)
