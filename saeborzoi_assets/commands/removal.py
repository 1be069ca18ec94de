"""`saeborzoi clean`: store, catalogue and what Dagster remembers, together."""

import shlex
from collections.abc import Collection
from pathlib import Path

from saeborzoi.browser.labels import labels_file
from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import ComputeError, PartitionKeyError
from saeborzoi.pipeline import ARTIFACTS
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi_assets.assets.feature_browser import write_list
from saeborzoi_assets.commands.instance import (
    Forgotten,
    forget,
    known_partitions,
    report_dead_runs,
    unfinished_runs,
)
from saeborzoi_assets.commands.terminal import parse_nodes
from saeborzoi_assets.plan import command_of, next_step
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep import cleaning
from saeborzoi_resources.upkeep.orphans import orphans, orphans_as_text, remove_leftovers

_DRY = "Nothing is removed yet; add --yes to remove it"


def parse_target(text: str, nodes: str | None) -> tuple[str, list[int] | None]:
    """Layer or SAE, and nodes of it, as `KEY --nodes 3,7-9` or as Dagster's `KEY|n0003` names them.

    >>> parse_target("conv_x4_k0.05_lr0.003_s0", "3,7-9")
    ('conv_x4_k0.05_lr0.003_s0', [3, 7, 8, 9])

    Raises
    ------
    PartitionKeyError
        Where the nodes are not of that form.
    """
    key, node, variant_set = PartitionKey.parse(text)
    if variant_set is not None:
        raise PartitionKeyError(
            f"{text!r} is a set looked at with one SAE; name either, {key!r} or "
            f"{set_key(variant_set)!r}"
        )
    if node is not None and nodes is not None:
        raise PartitionKeyError(f"{text!r} names a node and --nodes others; use one of the two")
    if node is not None:
        return key, [node]
    if nodes is None:
        return key, None
    return key, parse_nodes(nodes)


def remove(
    settings_file: Path, target: str, nodes: Collection[int] | None = None, *, for_good: bool
) -> str:
    """Remove a layer with its SAEs, an SAE, nodes of one, or a set of variants: rows, files and
    what Dagster has of them; or only say what that would be.

    Returns
    -------
    str
        What was, or would be, removed.

    Raises
    ------
    PartitionKeyError
        Where there is no such layer, SAE, node or set.
    ComputeError
        Where a run of it is not finished.
    """
    settings = load_settings(settings_file)
    project = settings_file.parent
    store = Store(settings.project.store)
    catalog = Catalog(store.catalog)
    plan = cleaning.plan_removal(
        settings, store, catalog, target, nodes, partitions=known_partitions(project)
    )
    text = cleaning.removal_as_text(plan)
    if not for_good:
        return f"{text}\n{_DRY}"
    report_dead_runs(project, store.jobs)
    runs = unfinished_runs(project, plan.owners)
    if runs:
        raise ComputeError(
            f"run {runs[0]} of {target} is not finished; terminate it or wait for its end, then "
            "clean again. Nothing was removed"
        )
    cleaning.require_idle(store, plan)
    forgotten = forget(project, plan.saes, (asset.name for asset in ARTIFACTS), plan.holds)
    cleaning.remove(store, catalog, plan)
    for key in plan.saes:
        (store.browser / labels_file(key)).unlink(missing_ok=True)
    if plan.saes and store.browser.is_dir():
        write_list(Platform(settings_file=str(settings_file)))
    return "\n".join(
        [text, f"removed{_in_dagster(forgotten)}", *_made_again(settings, catalog, plan)]
    )


def _in_dagster(forgotten: Forgotten) -> str:
    """What Dagster shows now, in words."""
    words = []
    if forgotten.n_partitions:
        words.append(f"{forgotten.n_partitions} of Dagster's partitions")
    if forgotten.n_made:
        words.append(f"{forgotten.n_made} marks in Dagster that a partition is made")
    text = ", with " + " and ".join(words) if words else ""
    if forgotten.shows_made:
        text += (
            f". Dagster goes on showing {', '.join(forgotten.shows_made)} as made: the event log "
            "of its dagster.yaml cannot forget single partitions; docs/scale.md says which can"
        )
    return text


def _made_again(settings: Settings, catalog: Catalog, plan: cleaning.Removal) -> list[str]:
    """How nodes that were removed are made again."""
    if plan.saes or plan.scopes[0].nodes is None:
        return []
    step = next_step(settings, catalog, settings.parse_key(plan.target))
    if step is None or step.name != "nodes":
        return []
    return [f"`saeborzoi ui` makes the nodes again by itself; or\n  {shlex.join(command_of(step))}"]


def remove_orphans(settings_file: Path, *, for_good: bool) -> str:
    """Remove files that nothing needs, or only name them; rows without artifact are named."""
    store = Store(load_settings(settings_file).project.store)
    remains = orphans(store, Catalog(store.catalog))
    text = orphans_as_text(remains)
    if not remains.leftovers:
        return text
    if not for_good:
        return f"{text}\n{_DRY}"
    remove_leftovers(store, remains.leftovers)
    return f"{text}\nremoved"
