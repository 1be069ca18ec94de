"""The comparison asset on a made store: what it catalogues, shows, keeps and refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.comparison import stability
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi_assets.assets import sae_comparison
from saeborzoi_assets.assets.feature_browser import write_list
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform

N_CHANNELS = 16
KEYS = [f"conv_x{x}_k0.25_lr0.003_s{s}" for x in (2, 3) for s in (0, 1)]
_SETTINGS = f"""
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv"
n_channels = {N_CHANNELS}
bp_per_position = 4
seqlet_width_bp = 16
train = {{ shards = "shards", windows = "windows.bed" }}
[[sae]]
layer = "conv"
expansion = [2, 3]
topk = 0.25
seed = [0, 1]
"""


@pytest.fixture(scope="module")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four SAEs that share their first 16 directions; the last has no results by node yet."""
    tmp_path = tmp_path_factory.mktemp("made")
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    platform = Platform(settings_file=str(tmp_path / "dagster_project.toml"))
    for i, key in enumerate(KEYS):
        _make_sae(platform, key, 0.4 - 0.1 * (i // 2))
    for key, names in zip(KEYS[:3], (["CTCF", "SP1"], ["CTCF"], ["CTCF", "GATA1"]), strict=True):
        _make_nodes(platform, key, names)
    return tmp_path


@pytest.fixture
def platform(made_project: Path, tmp_path: Path) -> Platform:
    """A copy of that project to change."""
    project = Path(shutil.copytree(made_project, tmp_path / "project"))
    return Platform(settings_file=str(project / "dagster_project.toml"))


def _made(platform: Platform, asset: str, artifact: Path, version: str = "v1") -> Made:
    return Made(asset, "run-1", "1", version, artifact)


def _make_sae(platform: Platform, key: str, fvu: float, version: str = "v1") -> None:
    h = Hyperparameters.from_key(key)
    shared = np.eye(N_CHANNELS)
    rng = np.random.default_rng(h.seed * 100 + h.expansion)
    own = rng.normal(size=(h.n_nodes(N_CHANNELS) - N_CHANNELS, N_CHANNELS))
    weights = platform.store.sae_artifact(key, "trained_sae")
    top = platform.store.sae_artifact(key, "top_activations")
    decoder = np.vstack([shared, own]).astype(np.float32)
    with write_artifact(weights, version, {}) as folder:
        save_file({"W_dec": decoder}, folder / "sae.safetensors")
    node = np.repeat(np.arange(h.n_nodes(N_CHANNELS)), 5)
    positions = pd.DataFrame({"node": node, "window": 0, "position": np.arange(len(node))})
    with write_artifact(top, version, {}) as folder:
        positions.to_parquet(folder / "top_activations.parquet")
    row = {column.name: None for column in TABLE["sae"].columns if column.name != "hyperparameters"}
    row |= h.model_dump() | {
        "n_channels": N_CHANNELS, "n_nodes": h.n_nodes(N_CHANNELS), "k": 4, "n_positions": 100,
        "fvu": fvu, "validation_fvu": fvu, "l0": 4.0, "dead_fraction": 0.0, "training_s": 3.0,
        "artifact": str(weights),
    }  # fmt: skip
    scope = Scope(sae_key=key)
    platform.catalog.replace(
        _made(platform, "trained_sae", weights, version), scope, {"sae": pd.DataFrame([row])}
    )
    platform.catalog.replace(_made(platform, "top_activations", top, version), scope, {})


def _make_nodes(platform: Platform, key: str, names: list[str]) -> None:
    """One significant motif and match a node, and one more that is neither."""
    nodes = tuple(range(len(names) + 1))
    scope = Scope(sae_key=key, nodes=nodes)
    motif = pd.DataFrame(
        {column.name: [None] * len(nodes) for column in TABLE["motif"].columns[1:]}
    ).assign(node=nodes, motif=1, is_significant=[True] * len(names) + [False])
    match = pd.DataFrame(
        {column.name: [None] * len(nodes) for column in TABLE["motif_match"].columns[1:]}
    ).assign(
        node=nodes, motif=1, database="db", target_id="M1", target_name=[*names, "noise"],
        q_value=0.01, e_value=0.01, p_value=0.001, is_significant=[True] * len(names) + [False],
    )  # fmt: skip
    selection = pd.DataFrame(
        {"node": nodes, "selected": True, "reason": None, "n_seqlets": 5, "n_strong": 5,
         "n_dropped": 0}
    )  # fmt: skip
    store = platform.store.root
    for asset, tables in (
        ("seqlets", {"node_selection": selection}),
        ("meme_motifs", {"motif": motif}),
        ("tomtom_matches", {"motif_match": match}),
    ):
        platform.catalog.replace(_made(platform, asset, store / asset), scope, tables)


def _materialize(platform: Platform, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    asset = sae_comparison.build(Partitions.of(platform.settings))
    return dg.materialize([asset], resources={"platform": platform}, raise_on_error=raise_on_error)


def test_every_sae_gets_its_row_and_its_place(platform: Platform) -> None:
    browser = platform.store.browser
    (browser / KEYS[0]).mkdir(parents=True)
    for name in ("index.html", "variants.html"):
        (browser / KEYS[0] / name).write_text("pages")
    start = write_list(platform)
    assert '"comparison":null' in (browser / "start-data.js").read_text()
    result = _materialize(platform)
    table = platform.catalog.whole("sae_comparison").set_index("hyperparameters")
    assert sorted(table.index) == sorted(KEYS)
    assert table.loc[KEYS, "n_archetypes"].tolist() == [2, 1, 2, 0]
    assert table.loc[KEYS, "n_nodes_with_motif"].tolist() == [2, 1, 2, 0]
    assert table.loc[KEYS, "n_nodes_done"].tolist() == [3, 2, 3, 0]
    assert table.loc[KEYS[:3], "mean_log10_q"].tolist() == pytest.approx([2.0] * 3)
    assert table.loc[KEYS, "n_archetypes_only_here"].tolist() == [1, 0, 1, 0]
    assert table.loc[KEYS, "is_pareto"].tolist() == [False, False, True, True]
    assert table.loc[KEYS[0], "recurrence_seeds"] == pytest.approx(0.5, abs=0.1)
    pairs = platform.catalog.whole("sae_stability")
    assert len(pairs) == 6
    recurring = platform.catalog.rows("node_recurrence", KEYS[0])
    assert recurring["node"].tolist()[:N_CHANNELS] == list(range(N_CHANNELS))
    assert recurring["n_settings"].tolist()[:N_CHANNELS] == [2] * N_CHANNELS
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(
        ["every_sae_compared", "matched_at_most_once", "recurs_in_itself", "better_than_untrained"],
        True,
    )
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    assert metadata["n_saes"].value == 4
    assert KEYS[0].replace("_", "\\_") in metadata["saes"].value
    page = Path(str(metadata["comparison_page"].value))
    assert page.is_file()
    assert (page.parent / "provenance.json").is_file()
    # the start page leads to it and back, within the folder that is served and sent around
    data = (browser / "start-data.js").read_text()
    assert '"comparison":"comparison.html"' in data
    assert f'"variants_href":"{KEYS[0]}/variants.html"' in data
    for compared in (page, browser / "comparison.html"):
        links = set(re.findall(r'<a href="([^"#]+)"', compared.read_text()))
        places = {(compared.parent / link).resolve() for link in links}
        assert places == {start.resolve(), (browser / KEYS[0] / "index.html").resolve()}
    assert 'href="../' not in (browser / "comparison.html").read_text()
    shutil.rmtree(page.parent)
    write_list(platform)
    assert not (browser / "comparison.html").exists()
    assert '"comparison":null' in (browser / "start-data.js").read_text()


def test_archetypes_of_settings_are_told_from_those_of_all(platform: Platform) -> None:
    factors = platform.catalog.whole("archetype_by_sae").set_index("archetype")
    assert "noise" not in factors.index
    assert factors["only_with"].to_dict() == {
        "CTCF": "", "SP1": "expansion 2", "GATA1": "expansion 3"
    }  # fmt: skip
    assert factors.at["CTCF", "n_saes"] == 3
    assert list(factors.at["GATA1", "saes"]) == [KEYS[2]]


def test_only_pairs_of_a_changed_sae_are_compared_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    match_nodes = stability.match_nodes

    def counted(a: stability.Dictionary, b: stability.Dictionary, *least: float):  # type: ignore[no-untyped-def]
        compared.append((len(a.node), len(b.node)))
        return match_nodes(a, b, *least)

    monkeypatch.setattr(stability, "match_nodes", counted)
    _materialize(platform)
    first = platform.catalog.whole("sae_stability")
    # six pairs, and one SAE with itself for the check
    assert len(compared) == 6 + 1
    compared.clear()
    _materialize(platform)
    assert len(compared) == 1
    assert platform.catalog.whole("sae_stability").equals(first)
    compared.clear()
    _make_sae(platform, KEYS[3], 0.1, "v2")
    _materialize(platform)
    assert len(compared) == 3 + 1
    kept = platform.store.work("project", "sae_comparison")
    assert len(list(kept.iterdir())) == 6


def test_the_version_changes_with_what_is_compared(platform: Platform) -> None:
    before = platform.version_of("sae_comparison", "project").digest
    assert platform.version_of("sae_comparison", "project").digest == before
    _make_nodes(platform, KEYS[3], ["SP1"])
    assert platform.version_of("sae_comparison", "project").digest != before


def test_an_sae_without_positions_has_its_row_but_no_pairs(platform: Platform) -> None:
    platform.catalog.remove(Scope(sae_key=KEYS[3]))
    row = platform.catalog.whole("sae").iloc[[0]].drop(columns="hyperparameters")
    platform.catalog.replace(
        _made(platform, "trained_sae", Path("weights")),
        Scope(sae_key=KEYS[3]),
        {"sae": row},
    )
    _materialize(platform)
    table = platform.catalog.whole("sae_comparison").set_index("hyperparameters")
    assert table.at[KEYS[3], "n_seeds"] == 0
    assert len(platform.catalog.whole("sae_stability")) == 3


def test_removing_an_sae_removes_it_from_the_comparison(platform: Platform) -> None:
    _materialize(platform)
    platform.catalog.remove(Scope(sae_key=KEYS[0]))
    assert len(platform.catalog.whole("sae_comparison")) == 3
    assert len(platform.catalog.whole("sae_stability")) == 3
    assert platform.catalog.rows("node_recurrence", KEYS[0]).empty


def test_nothing_trained_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    platform = Platform(settings_file=str(tmp_path / "dagster_project.toml"))
    result = _materialize(platform, raise_on_error=False)
    assert not result.success
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "no SAE is trained yet" in failure.event_specific_data.user_failure_data.description
