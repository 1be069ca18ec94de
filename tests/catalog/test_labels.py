"""Labels of nodes: whose they are, that they outlive the catalogue, when they hold no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.labels import put_label
from saeborzoi.catalog.rebuild import rebuild
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.errors import CatalogError, InputError
from saeborzoi.jobs.provenance import write_artifact

KEY = "conv_x3_k0.25_lr0.003_s0"


def _train(catalog: Catalog, store: Store, version: str) -> None:
    folder = store.sae_artifact(KEY, "trained_sae")
    with write_artifact(folder, version, {}):
        pass
    catalog.replace(Made("trained_sae", "run", "1", version, folder), Scope(sae_key=KEY), {})


def _current(catalog: Catalog) -> dict[int, str]:
    rows = catalog.rows("current_label", KEY)
    return dict(zip(rows["node"], rows["label"], strict=True))


def test_labels_outlive_the_catalogue_but_not_another_training(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    catalog = Catalog(store.catalog)
    with pytest.raises(CatalogError, match="trained_sae"):
        put_label(catalog, store, KEY, 3, "AP-1", "ada")
    _train(catalog, store, "v1")
    put_label(catalog, store, KEY, 3, " AP-1 half site ", "ada")
    put_label(catalog, store, KEY, 5, "Alu", "ada")
    put_label(catalog, store, KEY, 5, "", "ada")
    labels = put_label(catalog, store, KEY, 3, "AP-1, left half", "bob")
    assert labels[["node", "label", "author"]].values.tolist() == [[3, "AP-1, left half", "bob"]]
    assert not rebuild(catalog).problems
    assert _current(catalog) == {3: "AP-1, left half"}
    # its nodes are others
    _train(catalog, store, "v2")
    assert _current(catalog) == {}
    assert len(catalog.rows("node_label", KEY)) == 1
    assert put_label(catalog, store, KEY, 4, "Alu", "ada")["node"].tolist() == [4]
    assert _current(catalog) == {4: "Alu"}


def test_what_cannot_stand_in_a_title_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("two\nlines", "x" * 201):
        with pytest.raises(InputError, match="one line of at most 200"):
            put_label(Catalog(store.catalog), store, KEY, 3, text, "ada")
