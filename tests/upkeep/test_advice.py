"""What a careful colleague would say: each with the number that tells it and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi_resources.upkeep.advice import advice_after, advice_before, advice_on_data
from tests.assets.small_project import KEY, make_small_project

N_POSITIONS = 300_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(make_small_project(tmp_path / "small"))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb")


def _counted(catalog: Catalog, n_nonzero: Sequence[int], n_strong: Sequence[int] = ()) -> None:
    """Nodes that fire so often; where their top positions were looked at, how many are strong."""
    made = Made("top_activations", "run", "1", "v", catalog.path.parent)
    count = np.array(n_nonzero)
    node = {"node": range(len(count)), "n_positions": N_POSITIONS, "n_nonzero": count}
    zeros = ("activation_max", "activation_mean", "activation_std")
    none = dict.fromkeys((*zeros, "n_above_mean_fraction", "n_above_max_fraction"), 0)
    empty = pd.Series([[]] * len(count), dtype=object)
    frame = pd.DataFrame({**node, "frequency": count / N_POSITIONS, **none})
    frame = frame.assign(histogram_edges=empty, histogram_counts=empty)
    catalog.replace(made, Scope(sae_key=KEY), {"node": frame})
    if n_strong:
        selection = {"node": range(len(count)), "selected": False, "reason": "", "n_dropped": 0}
        frame = pd.DataFrame({**selection, "n_seqlets": 1, "n_strong": n_strong})
        scope = Scope(sae_key=KEY, nodes=tuple(range(len(count))))
        catalog.replace(made._replace(asset="seqlets"), scope, {"node_selection": frame})


def _after(settings: Settings, catalog: Catalog, **selection: int) -> list[str]:
    changed = settings.selection.model_copy(update=selection)
    settings = settings.model_copy(update={"selection": changed})
    return [text for _, text in advice_after(settings, settings.wanted(), catalog)]


def test_nodes_below_min_nonzero_and_what_would_keep_how_many(
    settings: Settings, catalog: Catalog
) -> None:
    """Of 100 nodes 63 fire 90 ... 900 times; 100 keeps those of them that are strong enough."""
    _counted(catalog, [5000] * 37 + [150] * 34 + [90] * 29, [400] * 37 + [30] * 34 + [5] * 29)
    (message,) = _after(settings, catalog, min_nonzero=1000, min_strong=200)
    assert "63% of the nodes that fire do so fewer than 1,000 times in 0.3 M positions" in message
    assert "min_nonzero = 100, min_strong = 20 would keep 71%" in message


def test_a_threshold_that_most_nodes_pass_needs_no_word(
    settings: Settings, catalog: Catalog
) -> None:
    _counted(catalog, [5000] * 80 + [10] * 20)
    assert _after(settings, catalog, min_nonzero=1000) == []


def test_dead_nodes_and_a_node_that_fires_nearly_everywhere(
    settings: Settings, catalog: Catalog
) -> None:
    _counted(catalog, [0] * 62 + [5000] * 37 + [216_000])
    dead, always = _after(settings, catalog)
    assert dead.startswith("62% of the nodes are dead (62 of 100")
    assert always.startswith("node 99 fires at 72% of the positions")


@pytest.mark.parametrize("is_imported", [False, True])
def test_fvu_above_one(
    settings: Settings, catalog: Catalog, is_imported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worse than the mean: an imported SAE most likely sees other data than it was trained on."""
    h = settings.wanted()[0]
    monkeypatch.setattr(
        Settings, "checkpoint_of", lambda *_: Path("sae.pt") if is_imported else None
    )
    row = {
        **h.model_dump(), "n_channels": 4, "n_nodes": 12, "k": 1, "n_positions": 1, "fvu": 0.9,
        "validation_fvu": 1.2, "l0": 1.0, "dead_fraction": 0.0, "training_s": 1.0, "artifact": "a",
    }  # fmt: skip
    made = Made("trained_sae", "run", "1", "v", catalog.path.parent)
    catalog.replace(made, Scope(sae_key=KEY), {"sae": pd.DataFrame([row])})
    (message,) = _after(settings, catalog)
    assert message.startswith("FVU 1.2: its reconstruction is worse than the mean")
    assert ("channel maxima" in message) == is_imported


def test_before_any_work_k_of_one_and_too_little_data(settings: Settings, catalog: Catalog) -> None:
    """A quarter of 4 channels is one node a position: 18,000 positions, 12 nodes, 1,500 each."""
    selection = settings.selection.model_copy(update={"min_nonzero": 2000})
    settings = settings.model_copy(update={"selection": selection})
    one, few = (text for _, text in advice_before(settings, settings.wanted(), catalog))
    assert one.startswith("k = 1: topk = 0.25 of 4 channels")
    assert "fires 1,542 times on average" in few
    assert "min_nonzero = 2,000" in few


def test_positions_that_are_zero_in_all_channels(settings: Settings) -> None:
    assert not list(advice_on_data(settings))
    shards = settings.layer[0].train.shards
    assert shards is not None
    for path in shards.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["x"][:, ::2] = 0
    (advice,) = advice_on_data(settings)
    assert advice.text.startswith("50% of the positions that were looked at are zero in all 4")
