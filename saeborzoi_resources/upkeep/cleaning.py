"""Removing a layer, an SAE, nodes of an SAE or a set of variants: first the plan, which changes
nothing, then the removal.

Only what lies in the store itself is removed. Where the catalogue cannot be read, nothing is. What
Dagster remembers is the business of `saeborzoi_assets.commands.removal`; finding what nothing
refers to is in `orphans.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.questions import resting_on
from saeborzoi.catalog.rows import reseal
from saeborzoi.catalog.scope import PROJECT, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.errors import PartitionKeyError, StoreError, counted
from saeborzoi.files import write_file
from saeborzoi.pipeline import ARTIFACTS
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, set_key, set_of
from saeborzoi.settings.load import Settings
from saeborzoi_resources.platform import Sae
from saeborzoi_resources.upkeep.store_files import (
    LOCKS,
    children,
    delete,
    is_held,
    is_locked,
    job_of,
    nodes_of_work,
    owners_of_lock,
    require_inside,
    size_text,
    sizes,
)


class Removal(NamedTuple):
    """What belongs to a layer with its SAEs, to an SAE, to nodes of one, or to a set of variants.

    Attributes
    ----------
    target
        The layer's name, or the partition key of the SAE or set.
    scopes
        Whose rows go: the layer's, each SAE's, those of the nodes, or the set's.
    rows
        Catalogue table to the number of rows that go.
    folders
        What goes from the store: artifacts, pages, unfinished work, jobs.
    cut
        Batches of nodes that stay for other nodes, and the nodes that go from their tables.
    n_files, n_bytes
        Files in `folders` and their size.
    wanted
        Partition keys of SAEs and sets that go and that the settings ask for, so that they would
        be made again.
    resting_on
        Results that stay and were made from what goes.
    """

    target: str
    scopes: tuple[Scope, ...]
    rows: dict[str, int]
    folders: tuple[Path, ...]
    cut: tuple[tuple[Path, tuple[int, ...]], ...]
    n_files: int
    n_bytes: int
    wanted: tuple[str, ...]
    resting_on: tuple[str, ...] = ()

    @property
    def saes(self) -> list[str]:
        """Partition keys of the SAEs that go as a whole."""
        return [s.sae_key for s in self.scopes if s.sae_key and s.nodes is None]

    @property
    def owners(self) -> set[str]:
        """Layers, SAEs and sets of which something goes."""
        return {scope.owner for scope in self.scopes}

    def holds(self, key: PartitionKey) -> bool:
        """Whether what a partition of an asset holds goes."""
        return any(
            (key.owner == scope.owner and (scope.nodes is None or key.node in scope.nodes))
            or (scope.variant_set is not None and key.variant_set == scope.variant_set)
            for scope in self.scopes
        )


def plan_removal(
    settings: Settings,
    store: Store,
    catalog: Catalog,
    target: str,
    nodes: Collection[int] | None = None,
    partitions: Collection[str] = (),
) -> Removal:
    """What removing a layer, an SAE, nodes of an SAE or a set of variants would remove; changes
    nothing.

    Parameters
    ----------
    target
        Name of a layer, or partition key of an SAE or set of variants; the settings need not have
        it any more.
    nodes
        Nodes of the SAE to remove; left out, all of it goes.
    partitions
        Partition keys of SAEs that Dagster knows.

    Raises
    ------
    PartitionKeyError
        Where there is no such layer, SAE or set, or it has no such node; names the nearest there
        are.
    CatalogError
        Where the catalogue is missing or cannot be read.
    """
    made_owners = set(catalog.artifacts_made()["owner"]) - {PROJECT}
    names = {
        *made_owners, *partitions,
        *(hyperparameters.key for hyperparameters in settings.wanted()),
        *(owner.name for top in ("saes", "work", "layers") for owner in children(store.root / top)),
        *(pages.name for pages in children(store.browser) if pages.is_dir() or pages.is_symlink()),
        *(owner for folder in children(store.jobs) for owner in job_of(folder).owners),
        *(layer.name for layer in settings.layer),
        *(set_key(each.name) for each in settings.variants),
        *(set_key(folder.name) for folder in children(store.root / "variants")),
    }  # fmt: skip
    sets = {name for name in names if set_of(name) is not None}
    if target in sets:
        if nodes is not None:
            raise PartitionKeyError(f"{target} is a set of variants, which has no nodes")
        return _plan_set(settings, store, catalog, target)
    names -= sets
    layer_of = {name: layer for name in names if (layer := _layer_of(name))}
    layers = (names - set(layer_of)) | set(layer_of.values())
    if target not in layers and target not in layer_of:
        known = [*sorted(layers), *sorted(layer_of), *sorted(sets)]
        nearest = difflib.get_close_matches(target, known, n=3, cutoff=0.4) or known[:3]
        raise PartitionKeyError(
            f"there is no layer, SAE or set {target!r} here, in the settings, the catalogue, the "
            f"store or Dagster; the nearest are {', '.join(nearest)}"
        )
    if nodes is not None:
        if target in layers:
            raise PartitionKeyError(
                f"{target} is a layer, which has no nodes; name one of its SAEs with --nodes, e.g. "
                + next(
                    (key for key, layer in layer_of.items() if layer == target), "conv_x4_k0.05..."
                )
            )
        return _plan_nodes(settings, store, catalog, target, nodes)
    saes = (
        [target] if target in layer_of else sorted(k for k, of in layer_of.items() if of == target)
    )
    scopes = [Scope(sae_key=key) for key in saes]
    if target in layers:
        scopes.append(Scope(layer=target))
    owners = {scope.owner for scope in scopes}
    tops = (*(store.root / top for top in ("layers", "saes", "work")), store.browser)
    folders = [
        folder
        for owner in sorted(owners)
        for folder in (top / owner for top in tops)
        if folder.is_symlink() or folder.exists()
    ]
    folders += _jobs_and_locks(store, owners)
    keys_in_settings = [h.key for h in settings.wanted() if h.key in owners]
    return _planned(target, scopes, catalog, folders, keys_in_settings=keys_in_settings)


def _jobs_and_locks(store: Store, owners: set[str]) -> list[Path]:
    """Folders of the jobs of layers, SAEs or sets, and their locks."""
    return [
        *(folder for folder in children(store.jobs) if job_of(folder).owners & owners),
        *(lock for lock in children(store.jobs / LOCKS) if owners_of_lock(lock) & owners),
    ]


def _plan_set(settings: Settings, store: Store, catalog: Catalog, target: str) -> Removal:
    """A set of variants: its effects, and what was looked at of it with every SAE."""
    name = set_of(target)
    assert name is not None, "a set's key"
    stages = [artifact.name for artifact in ARTIFACTS if artifact.grain == "sae_variants"]
    places = [store.root / "variants" / name, store.root / "work" / target]
    for stage in stages:
        places += [
            *(
                store.sae_set_artifact(sae.name, stage, name)
                for sae in children(store.root / "saes")
            ),
            *(
                store.work(sae.name, stage) / "parts" / name
                for sae in children(store.root / "work")
            ),
        ]
    folders = [folder for folder in places if folder.is_symlink() or folder.exists()]
    return _planned(
        target,
        [Scope(variant_set=name)],
        catalog,
        [*folders, *_jobs_and_locks(store, {target})],
        keys_in_settings=[target] if name in [each.name for each in settings.variants] else [],
    )


def _layer_of(name: str) -> str | None:
    """Layer of an SAE by its partition key, None where it is none."""
    try:
        return Hyperparameters.from_key(name).layer
    except PartitionKeyError:
        return None


def _plan_nodes(
    settings: Settings, store: Store, catalog: Catalog, key: str, numbers: Collection[int]
) -> Removal:
    hyperparameters = settings.parse_key(key)
    sae = Sae(key, hyperparameters, settings.layer_named(hyperparameters.layer))
    nodes = sae.require_nodes(sorted(set(numbers)))
    going = set(nodes)
    folders, cut, assets = [], [], []
    for batch in catalog.batches(key).itertuples():
        standing = set(map(int, batch.nodes))
        if not standing & going:
            continue
        assets.append(batch.asset)
        if standing <= going:
            folders.append(Path(batch.artifact))
        else:
            cut.append((Path(batch.artifact), tuple(sorted(standing & going))))
    over = [
        (folder, job_of(folder).nodes)
        for folder in children(store.jobs)
        if job_of(folder).owner == key
    ]
    over += [(folder, nodes_of_work(folder)) for folder in children(store.root / "work" / key)]
    for folder, batch_nodes in over:
        if batch_nodes and going.issuperset(range(batch_nodes[0], batch_nodes[1] + 1)):
            folders.append(folder)
    return _planned(
        key,
        [Scope(sae_key=key, nodes=nodes)],
        catalog,
        [folder for folder in folders if folder.is_symlink() or folder.exists()],
        cut=cut,
        resting_on=[n for n in resting_on(catalog, assets, key) if n not in assets],
    )


def _planned(
    target: str,
    scopes: Collection[Scope],
    catalog: Catalog,
    folders: Collection[Path],
    *,
    cut: Collection[tuple[Path, tuple[int, ...]]] = (),
    keys_in_settings: Collection[str] = (),
    resting_on: Collection[str] = (),
) -> Removal:
    n_bytes = [size for folder in folders for size in sizes(folder)]
    return Removal(
        target,
        tuple(scopes),
        catalog.count(*scopes),
        tuple(folders),
        tuple(cut),
        len(n_bytes),
        sum(n_bytes),
        tuple(keys_in_settings),
        tuple(resting_on),
    )


def require_idle(store: Store, removal: Removal) -> None:
    """Refuse to remove what a run works on, or what lies outside of the store.

    Raises
    ------
    StoreError
        Names the job, or the folder.
    """
    for folder in (*removal.folders, *(folder for folder, _ in removal.cut)):
        require_inside(folder, store.root)
    # a job of several SAEs has the folder of the first, and locks of each
    held = [f for f in children(store.jobs) if job_of(f).owners & removal.owners and is_held(f)]
    held += [
        lock
        for lock in children(store.jobs / LOCKS)
        if owners_of_lock(lock) & removal.owners and lock.suffix != ".json" and is_locked(lock)
    ]
    if held:
        raise StoreError(
            f"{held[0].name}: a run works on this job; terminate it or wait for its end, then "
            "clean again. Nothing was removed"
        )


def remove(store: Store, catalog: Catalog, removal: Removal) -> None:
    """Remove rows in one transaction, then files.

    Ended in between, it leaves files without rows, which `orphans.orphans` finds.

    Raises
    ------
    StoreError
        As `require_idle` does, or where a folder cannot be removed.
    CatalogError
        Where the catalogue cannot be written; nothing is removed then.
    """
    require_idle(store, removal)
    catalog.remove(*removal.scopes)
    for folder in removal.folders:
        delete(folder, store.root)
    for folder, nodes in removal.cut:
        _cut(folder, nodes)


def _cut(folder: Path, nodes: Collection[int]) -> None:
    """Take nodes out of the tables of a batch; the rows of its other nodes go on standing on it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        if "node" not in table.column_names:
            continue
        gone = pc.is_in(table["node"], value_set=pa.array(nodes, table.schema.field("node").type))
        if pc.any(gone).as_py():
            with write_file(path) as temporary:
                pq.write_table(table.filter(pc.invert(gone)), temporary)
    reseal(folder)


# -- in words --------------------------------------------------------------------------------


def removal_as_text(removal: Removal) -> str:
    """The plan for a terminal."""
    return "\n".join(_lines(removal))


def _lines(removal: Removal) -> Iterator[str]:
    what = removal.target
    nodes = removal.scopes[0].nodes
    if nodes is not None:
        what += f", nodes {_ranges(nodes)}"
    elif removal.scopes[0].variant_set is None and removal.saes != [what]:
        what += f", layer with {counted(len(removal.saes), 'SAE')}"
    yield f"{what}: {removal.n_files} files, {size_text(removal.n_bytes)}"
    for folder in removal.folders:
        yield f"  {folder}"
    for folder, gone in removal.cut:
        yield f"  rows of {len(gone)} nodes out of the tables in {folder}"
    for table, n in removal.rows.items():
        yield f"  {n:,} rows of {table}"
    if removal.wanted:
        yield (
            f"dagster_project.toml asks for {', '.join(removal.wanted)}: unless its "
            f"{'[[sae]]' if removal.saes else '[[variants]]'} goes, it will be made again"
        )
    if removal.resting_on:
        yield (
            f"made from these nodes, too, and kept: {', '.join(removal.resting_on)}; stale until "
            "made again after the nodes"
        )


def _ranges(nodes: Collection[int]) -> str:
    """Sorted nodes as `--nodes` takes them.

    >>> _ranges([3, 7, 8, 9])
    '3,7-9'
    """
    # neighbours have the same distance from their place
    runs = groupby(enumerate(nodes), lambda placed: placed[1] - placed[0])
    spans = [[node for _, node in run] for _, run in runs]
    return ",".join(f"{s[0]}-{s[-1]}" if s[1:] else f"{s[0]}" for s in spans)
