"""How every artifact becomes an asset, is run, written and catalogued."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.errors import PartitionKeyError, SaeBorzoiError
from saeborzoi.jobs.provenance import provenance
from saeborzoi.pipeline import ARTIFACT, Artifact
from saeborzoi.settings.artifacts import inputs_of
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi.settings.user_files import activations, observed_by, variant_file
from saeborzoi_assets.check_results import check_specs, told_by_sae
from saeborzoi_assets.described import description_of
from saeborzoi_assets.partitions import HYPERPARAMETERS, INPUT_FILES, Partitions
from saeborzoi_assets.shown import in_one_line, page, rounded, say
from saeborzoi_resources.compute.follow import DagsterRun
from saeborzoi_resources.dagster_runs import add_partition_metadata
from saeborzoi_resources.platform import Platform, Sae, Version, write_tables
from saeborzoi_resources.runs import RANGE_TAGS

_OWNERS = ["team:saeborzoi"]
_FEW_PARTITIONS = 20
"""Up to so many node partitions in a run, each gets its figures one by one; beyond, in one line, or
the event log would grow by megabytes for what the catalogue holds anyway."""


def artifact(
    partitions: Partitions, *, backfill_policy: dg.BackfillPolicy | None = None, **checks: str
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """Make a function the asset of the artifact of its name, as `saeborzoi.pipeline` declares it.

    Parameters
    ----------
    partitions
        The project's partitions.
    backfill_policy
        Whether many partitions are made in one run; left out: of nodes they are.
    checks
        Name of each of the asset's checks to what must hold.
    """

    def made_asset(body: Callable[..., dg.MaterializeResult]) -> dg.AssetsDefinition:
        declared = ARTIFACT[body.__name__]
        of_nodes = dg.BackfillPolicy.single_run() if declared.grain == "node" else None
        return dg.asset(
            name=declared.name,
            description=description_of(declared, body.__doc__ or ""),
            partitions_def=partitions.of_grain(declared.grain),
            deps=[
                *(
                    _input(declared, ARTIFACT[name])
                    for name in inputs_of(declared, partitions.settings)
                ),
                *depends_on_files(declared, partitions),
            ],
            backfill_policy=backfill_policy or of_nodes,
            group_name=declared.group,
            kinds=set(declared.kinds),
            owners=_OWNERS,
            code_version=declared.code_version,
            metadata=_column_schema(declared.tables),
            pool=declared.name if declared.is_job or declared.grain == "project" else None,
            check_specs=check_specs(declared, partitions, checks),
        )(_completed(body, declared, partitions))

    return made_asset


def _completed(
    body: Callable[..., dg.MaterializeResult], declared: Artifact, partitions: Partitions
) -> Callable[..., dg.MaterializeResult]:
    """The asset's function, which does not start in a run that is asked to end; its result is
    rounded and links to the pages of its SAE or of all, its checks tell which SAE they are about.
    """

    @wraps(body)
    def completed(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        DagsterRun(context).stop_if_canceling()
        result = body(context, platform)
        checks = told_by_sae(context, declared, partitions, result.check_results or [])
        metadata = rounded(result.metadata or {})
        if declared.grain == "project":
            metadata["page"] = page()
        elif declared.grain in ("sae", "sae_variants") and context.has_partition_key:
            key = PartitionKey.parse(context.partition_key)
            metadata["page"] = page(PartitionKey(key.owner))
        return result._replace(metadata=metadata, check_results=checks)

    return completed


def _input(artifact: Artifact, before: Artifact) -> dg.AssetDep:
    """Dependence on another artifact; on one of a layer, whichever it is, and of a set's effects
    with an SAE on every node of that SAE. The others Dagster infers."""
    mapping: dg.PartitionMapping | None = None
    if before.grain == "layer" != artifact.grain:
        mapping = dg.AllPartitionMapping()
    elif (artifact.grain, before.grain) == ("sae_variants", "node"):
        same = dg.DimensionPartitionMapping(HYPERPARAMETERS, dg.IdentityPartitionMapping())
        with warnings.catch_warnings():
            # in beta, and the one way to some nodes of one SAE; Dagster's version is pinned
            warnings.simplefilter("ignore", dg.BetaWarning)
            mapping = dg.MultiPartitionMapping({HYPERPARAMETERS: same})
    return dg.AssetDep(before.name, partition_mapping=mapping)


def depends_on_files(artifact: Artifact, partitions: Partitions) -> list[dg.AssetDep]:
    """Dependence on the groups of the user's files that an artifact is made from. What a set's
    variants do with an SAE depends on the set's file through `variant_effects`."""
    of_set = {variant_file(each.name): each.name for each in partitions.settings.variants}
    groups = observed_by(artifact, partitions.settings)
    if artifact.grain == "sae_variants":
        groups = [group for group in groups if group not in of_set]
    if not groups:
        return []
    if artifact.grain == "layer":
        of_layer = {activations(layer.name): layer.name for layer in partitions.settings.layer}
        mapping: dg.PartitionMapping = dg.StaticPartitionMapping(of_layer)
    elif artifact.grain == "variants":
        every = partitions.variants.get_partition_keys()
        mapping = dg.StaticPartitionMapping(
            {group: set_key(of_set[group]) if group in of_set else every for group in groups}
        )
    else:
        mapping = dg.SpecificPartitionsPartitionMapping(groups)
    return [dg.AssetDep(INPUT_FILES, partition_mapping=mapping)]


def _column_schema(tables: Sequence[str]) -> dict[str, dg.TableSchema]:
    """Definition metadata: the columns of the asset's tables, with type and meaning."""
    columns = [
        dg.TableColumn(
            name=column.name if len(tables) == 1 else f"{table}.{column.name}",
            type=column.type,
            description=column.comment,
        )
        for table in tables
        for column in TABLE[table].columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)} if columns else {}


_NO_NODE = {"state": "the SAE has no such node"}


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """An error that a user can fix becomes a Failure that says how, and is not retried."""
    try:
        yield
    except SaeBorzoiError as error:
        raise dg.Failure(
            description=str(error), metadata={"kind": type(error).__name__}, allow_retries=False
        ) from error


def require_partitions(context: dg.AssetExecutionContext) -> list[str]:
    """The run's partitions.

    Raises
    ------
    PartitionKeyError
        Where it was started for a range that holds none, as one that ends before it begins.
    """
    keys = [str(key) for key in context.partition_keys]
    if not keys:
        first, last = (context.run.tags.get(tag) for tag in RANGE_TAGS)
        raise PartitionKeyError(
            f"the range {first}...{last} is empty: {first} comes after {last}; write the earlier "
            "one first"
        )
    return keys


def node_batches(
    context: dg.AssetExecutionContext, platform: Platform
) -> list[tuple[Sae, tuple[int, ...]]]:
    """The run's node partitions by SAE, each checked against the settings. Nodes that an SAE does
    not have are refused, or left out where others are asked for."""
    nodes: dict[str, list[int]] = {}
    for partition in require_partitions(context):
        owner, node, _ = PartitionKey.parse(str(partition))
        assert node is not None, "assets of nodes have partitions of nodes"
        nodes.setdefault(owner, []).append(node)
    batches = []
    for key, numbers in nodes.items():
        sae = platform.sae(key)
        existing = [node for node in numbers if node < sae.n_nodes]
        if existing and len(existing) < len(numbers):
            # "all" in the interface, or a backfill from the SAE: Dagster has the widest's nodes
            say(context, f"{key} has {sae.n_nodes:,} nodes; those beyond are left out")
            numbers = existing
        batches.append((sae, sae.require_nodes(numbers)))
    return batches


def made_by(context: dg.AssetExecutionContext, version: Version, artifact: Path) -> Made:
    """The line of `materialization` for this run."""
    return Made(
        version.asset,
        context.run.run_id,
        version.made_from["code"],
        version.digest,
        artifact,
        version.made_from,
    )


def keep(
    context: dg.AssetExecutionContext,
    platform: Platform,
    version: Version,
    sae: Sae,
    tables: Mapping[str, pd.DataFrame],
    *,
    nodes: tuple[int, ...] | None = None,
    inputs: Mapping[str, Path] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """Write what this process made of an SAE, and catalogue it.

    Parameters
    ----------
    version
        What the result is made from; names the asset.
    tables
        Catalogue tables of the result.
    nodes
        Where it is of some nodes only: a batch, which does not replace those of other nodes.
    inputs
        Artifacts that it was made from, for its provenance.
    more
        Further files by their names.

    Returns
    -------
    The artifact's folder.
    """
    store, asset = platform.store, version.asset
    output = (
        store.sae_artifact(sae.key, asset)
        if nodes is None
        else store.batch(sae.key, asset, nodes, version.digest, context.run.run_id)
    )
    job = platform.job(
        version,
        context.run.run_id,
        output=output,
        layer=sae.layer,
        sae=sae,
        nodes=nodes or (),
        inputs=inputs,
    )
    write_tables(output, tables, version, provenance(job), more)
    materialization = made_by(context, version, output)
    scope = Scope(sae_key=sae.key, nodes=nodes)
    platform.record(materialization, scope, tables, partial(say, context))
    return output


def run_result(
    context: dg.AssetExecutionContext,
    versions: Sequence[str],
    summary: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, Any]],
    checks: Sequence[dg.AssetCheckResult],
) -> dg.MaterializeResult:
    """Result of a run over any number of partitions.

    Parameters
    ----------
    versions
        Data versions of what the run made; one where all partitions share it.
    summary
        Figures of the whole run: shown as one observation of the asset, or on the
        materialization itself where the run has a single partition.
    figures
        Partition key to its own figures; a node's get a link to its page, and are one line
        where the run has many partitions.
    """
    partitions = context.partition_keys
    is_brief = len(partitions) > _FEW_PARTITIONS
    shown_figures = {
        str(key): _shown(str(key), figures.get(str(key), _NO_NODE), is_brief) for key in partitions
    }
    if len(partitions) == 1:
        partition_figures = shown_figures.get(str(partitions[0]), {})
        return dg.MaterializeResult(
            metadata=rounded({**summary, **partition_figures}),
            data_version=dg.DataVersion(versions[0]),
            check_results=list(checks),
        )
    if summary:
        context.log_event(
            dg.AssetObservation(asset_key=context.asset_key, metadata=rounded(summary))
        )
    add_partition_metadata(context, shown_figures)
    return dg.MaterializeResult(
        data_version=dg.DataVersion("+".join(dict.fromkeys(versions))), check_results=list(checks)
    )


def _shown(key: str, figures: Mapping[str, Any], is_brief: bool) -> dict[str, Any]:
    """Metadata of a partition: of a node its figures, in one line where it is one of many, and
    its page."""
    partition = PartitionKey.parse(key)
    if partition.node is None or figures is _NO_NODE:
        return rounded(figures)
    metadata = {"node": in_one_line(figures)} if is_brief else rounded(figures)
    return {**metadata, "page": page(partition)}
