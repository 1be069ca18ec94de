"""What a careful colleague would say of a project: nothing is wrong, and yet.

Asked of the settings before any work, of a few slabs of the shards, and of the catalogue once
SAEs are trained and their nodes counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import read_windows
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer, Selection

_MANY = 0.3
"""A share of nodes or positions from which on it is worth a word."""
_ENOUGH = 2 / 3
"""A setting is proposed that keeps so many of the nodes that fire, if there is one."""
_PROPOSED = (500, 200, 100, 50, 20)
_STRONG = 5
"""`min_nonzero` for each strong position, as the published thresholds have it."""
_OFTEN = 0.5


class Advice(NamedTuple):
    """What it is about, a layer or an SAE, and what to say."""

    about: str
    text: str


def n_positions(layer: Layer) -> int:
    """Positions of a layer's training windows, with overlaps; 0 where the windows are the whole
    genome or cannot be read, which the checks tell."""
    if not isinstance(layer.train.windows, Path):
        return 0
    try:
        windows = read_windows(layer.train.windows)
    except InputError:
        return 0
    return int((windows.end_bp - windows.start_bp).sum()) // layer.bp_per_position


def all_advice(settings: Settings, saes: Sequence[Hyperparameters]) -> Iterator[Advice]:
    """Everything: of the settings, the data, and what was made of SAEs."""
    catalog = Catalog(Store(settings.project.store).catalog)
    yield from advice_before(settings, saes, catalog)
    yield from advice_on_data(settings)
    yield from advice_after(settings, saes, catalog)


def advice_before(
    settings: Settings, saes: Sequence[Hyperparameters], catalog: Catalog
) -> Iterator[Advice]:
    """What the settings alone say of SAEs whose nodes were not counted yet."""
    n_of_layer: dict[str, int] = {}  # its windows are read once, however many SAEs it has
    for h in saes:
        layer = settings.layer_named(h.layer)
        k = h.k(layer.n_channels)
        if k == 1:
            yield Advice(
                h.key,
                f"k = 1: topk = {h.topk:g} of {layer.n_channels} channels leaves one active node a "
                f"position, a clustering rather than an SAE; topk = {2 / layer.n_channels:.2g} and "
                "above gives more",
            )
        if layer.name not in n_of_layer:
            n_of_layer[layer.name] = n_positions(layer)
        n = n_of_layer[layer.name]
        mean = n * k / h.n_nodes(layer.n_channels)
        least = settings.selection.min_nonzero
        if n and mean < least and not _is_counted(catalog, h.key):
            yield Advice(
                h.key,
                f"{n:,} positions with {k} of {h.n_nodes(layer.n_channels):,} nodes active: a node "
                f"fires {mean:,.0f} times on average, and [selection] min_nonzero = {least:,} "
                "leaves out those that fire less; consider a smaller one",
            )


def _is_counted(catalog: Catalog, key: str) -> bool:
    return catalog.path.exists() and len(catalog.rows("node", key, "node")) > 0


def advice_on_data(settings: Settings) -> Iterator[Advice]:
    """What a few slabs of each layer's training shards say."""
    for layer in settings.layer:
        share = _zero_share(layer)
        if share >= _MANY:
            yield Advice(
                layer.name,
                f"{share:.0%} of the positions that were looked at are zero in all "
                f"{layer.n_channels} channels (assembly gaps, padding, or a layer that is mostly "
                "silent); an SAE spends a node on them, and its FVU is that of the rest",
            )


def _zero_share(layer: Layer) -> float:
    from saeborzoi.activations.shards import ShardFolder, kept_pieces
    from saeborzoi.activations.values import zero_share

    if layer.train.is_live:
        return 0.0
    shards, windows = layer.train.folder_and_windows
    try:
        folder = ShardFolder.open(shards, layer.n_channels)
        return zero_share(folder, kept_pieces(folder, windows, **layer.geometry))
    except InputError:
        return 0.0  # the checks tell


def advice_after(
    settings: Settings, saes: Sequence[Hyperparameters], catalog: Catalog
) -> Iterator[Advice]:
    """What the catalogue says of SAEs that are trained and whose nodes were counted."""
    for h in saes if catalog.path.exists() else ():
        for row in catalog.rows("sae", h.key).itertuples():
            fvu = row.fvu if pd.isna(row.validation_fvu) else row.validation_fvu
            if fvu > 1:
                imported = settings.checkpoint_of(h) is not None
                yield Advice(
                    h.key,
                    f"FVU {fvu:.2g}: its reconstruction is worse than the mean of each channel; "
                    + (
                        "an imported SAE needs the layer and the channel maxima that it was "
                        "trained with ([[layer]] channel_max, and the order of channels)"
                        if imported
                        else "its nodes mean nothing; train longer, or with a smaller learning_rate"
                    ),
                )
        nodes = catalog.rows("node", h.key, "node, n_nonzero, n_positions, frequency")
        if len(nodes):
            yield from _on_nodes(h.key, nodes, catalog, settings.selection)


def _on_nodes(
    key: str, nodes: pd.DataFrame, catalog: Catalog, selection: Selection
) -> Iterator[Advice]:
    n_dead = int((nodes["n_nonzero"] == 0).sum())
    if n_dead >= _MANY * len(nodes):
        yield Advice(
            key,
            f"{n_dead / len(nodes):.0%} of the nodes are dead ({n_dead:,} of {len(nodes):,} never "
            "fire); the default recipe revives nodes, a smaller expansion or more positions leave "
            "fewer",
        )
    always = nodes[nodes["frequency"] >= _OFTEN]
    if len(always):
        top = always.nlargest(1, "frequency").iloc[0]
        yield Advice(
            key,
            f"node {int(top['node'])} fires at {top['frequency']:.0%} of the positions"
            + (f", as do {len(always) - 1} more at half of them" if len(always) > 1 else "")
            + ": such a node tells where nothing else is (all-zero positions?), not a motif",
        )
    firing = nodes[nodes["n_nonzero"] > 0]
    rare = float((firing["n_nonzero"] < selection.min_nonzero).mean()) if len(firing) else 0.0
    if rare >= _MANY:
        yield Advice(key, _on_thresholds(firing, rare, key, catalog, selection))


def _on_thresholds(
    firing: pd.DataFrame, rare: float, key: str, catalog: Catalog, selection: Selection
) -> str:
    n_positions = int(firing["n_positions"].max())
    text = (
        f"{rare:.0%} of the nodes that fire do so fewer than {selection.min_nonzero:,} times in "
        f"{n_positions / 1e6:.2g} M positions and get no motif"
    )
    strong = catalog.rows("node_selection", key, "node, n_strong")
    counted = firing.merge(strong, on="node", how="left")
    tried = [n for n in _PROPOSED if n < selection.min_nonzero]
    for n in tried:
        n_strong = min(selection.min_strong, n // _STRONG)
        kept = (counted["n_nonzero"] >= n) & ~(counted["n_strong"] < n_strong)
        if kept.mean() >= _ENOUGH or n == tried[-1]:
            return (
                f"{text}; [selection] min_nonzero = {n}, min_strong = {n_strong} would keep "
                f"{kept.mean():.0%}"
            )
    return text
