"""Comparing SAEs: a planted dictionary is found again, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from saeborzoi.comparison import plots as comparison_plots
from saeborzoi.comparison import stability
from saeborzoi.comparison import table as comparison
from saeborzoi.comparison.baselines import beside_baselines, no_better
from saeborzoi.comparison.page import comparison_page
from saeborzoi.comparison.stability import Dictionary, match_nodes
from saeborzoi.errors import InputError
from saeborzoi.figures import MAX_BYTES, png_of

KEYS = [f"conv_x{x}_k0.05_lr0.003_s{s}" for x in (4, 8) for s in (0, 1)]


def _dictionary(
    rng: np.random.Generator, direction: np.ndarray, node: np.ndarray | None = None
) -> Dictionary:
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    loci = np.sort(rng.choice(10_000, (len(unit), 20), replace=False), axis=1)
    node = np.arange(len(unit)) if node is None else node
    return Dictionary(node.astype(np.int32), unit.astype(np.float32), loci.astype(np.int64))


def test_a_shared_dictionary_in_another_order_is_found_and_strangers_are_not() -> None:
    rng = np.random.default_rng(0)
    shared, own_a, own_b = (rng.normal(size=(n, 64)) for n in (30, 10, 20))
    order = rng.permutation(50)
    a = _dictionary(rng, np.vstack([shared, own_a]))
    noisy = shared + 0.1 * rng.normal(size=shared.shape)
    b = _dictionary(rng, np.vstack([noisy, own_b])[order], node=np.arange(50) * 2)
    matches = match_nodes(a, b, 0.7, 0.0)
    assert matches.node_a.tolist() == list(range(30))
    assert matches.node_b.tolist() == [2 * int(np.flatnonzero(order == i)[0]) for i in range(30)]
    assert (matches.cosine > 0.95).all()
    assert (matches.n_a, matches.n_b) == (40, 50)


def test_matching_equals_the_definition_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a = _dictionary(rng, rng.normal(size=(37, 6)))
    b = _dictionary(rng, rng.normal(size=(53, 6)))
    cosine = a.direction @ b.direction.T
    expected = {
        (i, j)
        for i in range(37)
        for j in range(53)
        if cosine[i].argmax() == j and cosine[:, j].argmax() == i and cosine[i, j] >= 0.8
    }
    assert len(expected) > 5
    for block in (1, 7, 1000):
        monkeypatch.setattr(stability, "ROWS_AT_ONCE", block)
        matches = match_nodes(a, b, 0.8, 0.0)
        assert set(zip(matches.node_a.tolist(), matches.node_b.tolist(), strict=True)) == expected
        assert matches.best_cosine_a == pytest.approx(cosine.max(axis=1).mean())
        assert matches.best_cosine_b == pytest.approx(cosine.max(axis=0).mean())
        turned = match_nodes(b, a, 0.8, 0.0)
        assert set(zip(turned.node_b.tolist(), turned.node_a.tolist(), strict=True)) == expected


def test_the_same_direction_elsewhere_in_the_genome_is_another_node() -> None:
    """Nodes that training left at a common start look the same and are not."""
    rng = np.random.default_rng(5)
    direction = rng.normal(size=(10, 32))
    a = _dictionary(rng, direction)
    loci = a.loci.copy()
    loci[:4] += 100_000
    b = a._replace(loci=loci)
    matches = match_nodes(a, b, 0.7, 0.5)
    assert matches.node_a.tolist() == [4, 5, 6, 7, 8, 9]
    assert matches.n_close == 10
    assert (matches.jaccard == 1).all()


def test_an_sae_recurs_in_itself_and_one_without_nodes_nowhere() -> None:
    rng = np.random.default_rng(2)
    a = _dictionary(rng, rng.normal(size=(40, 16)))
    itself = match_nodes(a, a, 0.7, 1.0)
    assert len(itself.node_a) == 40
    assert (itself.jaccard == 1).all()
    dead = Dictionary(a.node[:0], a.direction[:0], a.loci[:0])
    for matches in (match_nodes(a, dead, 0.7, 0.0), match_nodes(dead, a, 0.7, 0.0)):
        assert len(matches.node_a) == 0
        assert matches.best_cosine_a == matches.best_cosine_b == 0


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 12), max_size=8), st.sets(st.integers(0, 12), max_size=8)),
        min_size=1,
        max_size=5,
    )
)
def test_jaccard_of_rows_equals_that_of_sets(rows: list[tuple[set[int], set[int]]]) -> None:
    a, b = (
        np.array([sorted(row[side]) + [-1] * (8 - len(row[side])) for row in rows])
        for side in (0, 1)
    )
    expected = [len(x & y) / max(len(x | y), 1) for x, y in rows]
    assert stability.jaccard_of_sets(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 11])
def test_tiles_hold_every_pair_once_and_need_few_saes_at_a_time(n: int) -> None:
    keys = [str(i) for i in range(n)]
    pairs = list(stability.tiled_pairs(keys))
    assert len(set(pairs)) == len(pairs) == n * (n - 1) // 2
    assert all(int(a) < int(b) for a, b in pairs)
    kept: list[str] = []
    reads = 0
    for key in (key for pair in pairs for key in pair):
        reads += key not in kept
        kept = [*(other for other in kept if other != key), key][-2 * stability.TILE :]
    assert reads <= n * (n / stability.TILE + 2) / 2 + n


def test_reading_leaves_dead_nodes_out_and_pads_short_ones(tmp_path: Path) -> None:
    weights, top = tmp_path / "sae.safetensors", tmp_path / "top.parquet"
    save_file({"W_dec": np.diag([1.0, 2.0, 3.0]).astype(np.float32)}, weights)
    frame = pd.DataFrame(
        {"node": [2, 2, 0], "rank": [0, 1, 0], "window": [5, 1, 1], "position": [7, 9, 9]}
    )
    frame.to_parquet(top)
    dictionary = stability.read_dictionary(weights, top)
    assert dictionary.node.tolist() == [0, 2]
    assert dictionary.direction.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert dictionary.loci.tolist() == [[(1 << 32) + 9, -1], [(5 << 32) + 7, (1 << 32) + 9]]
    assert stability.jaccard_of_sets(dictionary.loci[:1], dictionary.loci[1:]) == pytest.approx(
        [0.5]
    )
    frame.assign(node=[3, 3, 3]).to_parquet(top)
    with pytest.raises(InputError, match=r"node 3, but .* has 3 nodes"):
        stability.read_dictionary(weights, top)
    weights.write_bytes(b"no weights")
    with pytest.raises(InputError, match="materialize trained_sae"):
        stability.read_dictionary(weights, top)


def test_matches_survive_being_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = (_dictionary(rng, rng.normal(size=(9, 4))) for _ in "ab")
    matches = match_nodes(a, b, 0.1, 0.0)
    file = tmp_path / "pair.npz"
    stability.save_matches(matches, file)
    kept = stability.load_matches(file)
    for name in matches._fields:
        assert np.array_equal(getattr(kept, name), getattr(matches, name))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="remove it, it is made again"):
        stability.load_matches(file)


def _stability() -> stability.Stability:
    """Four SAEs: nodes 0-19 in all of them, 20-39 in both seeds of x4, the others alone."""
    rng = np.random.default_rng(4)
    everywhere, in_x4 = rng.normal(size=(20, 64)), rng.normal(size=(20, 64))
    saes = {
        key: _dictionary(
            rng,
            np.vstack(
                [everywhere, in_x4 if "_x4_" in key else rng.normal(size=(20, 64)),
                 rng.normal(size=(20, 64))]
            ),
        )
        for key in KEYS
    }  # fmt: skip
    return stability.summarize(
        (a, b, match_nodes(saes[a], saes[b], 0.7, 0.0)) for a, b in stability.tiled_pairs(KEYS)
    )


def test_stability_tells_seeds_from_settings_and_counts_nodes() -> None:
    pairs, nodes = _stability()
    assert len(pairs) == 6
    seeds = pairs[pairs["differs_in"] == "seed"].set_index("hyperparameters_a")
    assert seeds["share_a"].to_dict() == {
        KEYS[0]: pytest.approx(2 / 3),
        KEYS[2]: pytest.approx(1 / 3),
    }
    others = pairs[pairs["differs_in"] != "seed"]
    assert others["share_b"].tolist() == pytest.approx([1 / 3] * 4)
    x4 = nodes[nodes["hyperparameters"] == KEYS[0]].set_index("node")
    assert x4.index.tolist() == list(range(40))
    assert (x4["n_seeds"] == 1).all()
    assert x4["n_settings"].tolist() == [2] * 20 + [0] * 20
    assert x4["cosine"].tolist() == pytest.approx([1.0] * 40)
    none = stability.summarize([])
    assert list(none.pairs.columns) == list(pairs.columns)
    assert list(none.nodes.columns) == list(nodes.columns)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = comparison.pareto_front(points)
    for i, point in enumerate(points):
        beaten = any(
            all(o <= p for o, p in zip(other, point, strict=True)) and other != point
            for other in points
        )
        assert front[i] == (not beaten)


def _summary() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hyperparameters": KEYS,
            "layer": "conv",
            "recipe": "default",
            "expansion": 4,
            "topk": 0.05,
            "fvu": [0.3, 0.31, 0.2, 0.9],
            "validation_fvu": [0.32, 0.33, 0.25, 0.9],
            "l0": [5.0, 5.0, 5.0, 4.0],
            "dead_fraction": [0.0, 0.1, 0.3, 0.0],
            "n_archetypes": 3,
            "n_nodes_with_motif": 9,
            **dict.fromkeys(["n_nodes", "n_nodes_done", "n_selected", "training_s"], 1),
            "mean_log10_q": None,
            **dict.fromkeys(comparison.OF_MODEL, np.nan),
        }
    )


def _archetypes() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": "conv",
            "archetype": ["CTCF", "SP1", "GATA1"],
            "factors": [["CTCF"], ["SP1", "KLF4"], ["GATA1"]],
            "only_with": ["", "expansion 8", "expansion 4"],
            "n_saes": [4, 1, 2],
            "n_saes_of_layer": 4,
            "saes": [KEYS, KEYS[3:], KEYS[:2]],
            "n_nodes": [9, 1, 3],
            "best_q_value": [1e-9, 1e-3, 1e-4],
        }
    )


def test_the_table_ranks_within_the_layer_and_knows_the_front() -> None:
    pairs, _ = _stability()
    table = comparison.comparison_table(_summary(), _archetypes(), pairs)
    assert table["hyperparameters"].tolist() == [KEYS[2], KEYS[0], KEYS[1], KEYS[3]]
    table = table.set_index("hyperparameters")
    assert table.index[table["is_pareto"]].tolist() == [KEYS[2], KEYS[3]]
    assert table.index[table["is_pareto_with_dead"]].tolist() == [KEYS[2], KEYS[0], KEYS[3]]
    assert table.at[KEYS[3], "n_archetypes_only_here"] == 1
    assert table.at[KEYS[0], "recurrence_seeds"] == pytest.approx(2 / 3)
    assert table.at[KEYS[0], "recurrence_settings"] == pytest.approx(1 / 3)
    assert (table["n_seeds"] == 1).all()
    assert (table["n_settings"] == 2).all()


def test_what_was_never_trained_stands_beside_and_not_among_the_others() -> None:
    summary = _summary()
    baselines = summary.iloc[:3].assign(
        hyperparameters=["conv_x4_untrained", "conv_x8_untrained", "conv_x1_channels"],
        recipe=["untrained", "untrained", "channels"],
        expansion=[4, 8, 1], fvu=[1.2, 0.1, 0.7], validation_fvu=[1.3, 0.1, 0.8], n_archetypes=5,
        recovered_mean=0.1, fidelity_r_log=0.2,
    )  # fmt: skip
    both = pd.concat([baselines, summary], ignore_index=True)
    table = comparison.comparison_table(both, _archetypes(), _stability()[0])
    assert table["hyperparameters"].tolist()[:4] == [KEYS[2], KEYS[0], KEYS[1], KEYS[3]]
    assert not table.loc[table["recipe"] != "default", "is_pareto"].any()
    beside = beside_baselines(table)
    fvu = beside[beside["measure"] == "validation_fvu"].set_index("hyperparameters")
    assert fvu.loc[KEYS[0], ["value", "untrained", "channels"]].tolist() == [0.32, 1.3, 0.8]
    assert set(fvu["untrained_key"]) == {"conv_x4_untrained"}
    assert fvu["is_better"].all()
    assert no_better(beside) == []
    # what is known of the baselines alone stands on the page without a verdict
    assert beside["is_better"].isna().any()
    only, pairs = comparison.archetypes_by_settings(_archetypes()), _stability()[0]
    page = comparison_page(
        "some", table, beside, pairs, only, comparison.concepts_found(_concepts(), KEYS), {}, {}
    )
    assert "loss recovered" in page
    # random weights with more families do not fail it; those that explain more do
    assert not beside.loc[beside["measure"] == "n_archetypes", "is_better"].any()
    both.loc[both["hyperparameters"] == "conv_x4_untrained", "validation_fvu"] = 0.3
    worse = no_better(beside_baselines(both))
    assert f"{KEYS[0]}: validation_fvu 0.32, untrained 0.3" in worse
    assert len(worse) == 3
    # nor does another random dictionary pass, whose fraction is lower by a hair
    both.loc[both["hyperparameters"] == "conv_x4_untrained", "validation_fvu"] = 0.33
    assert any(line.startswith(f"{KEYS[0]}: val") for line in no_better(beside_baselines(both)))
    assert beside_baselines(summary).empty


def test_training_fvu_is_compared_where_one_sae_has_no_other() -> None:
    pairs, _ = _stability()
    summary = _summary()
    summary.loc[2, "validation_fvu"] = None
    table = comparison.comparison_table(summary, _archetypes(), pairs.iloc[:0])
    assert table["hyperparameters"].tolist() == [KEYS[2], KEYS[0], KEYS[1], KEYS[3]]
    assert table["recurrence_seeds"].isna().all()


def test_archetypes_of_some_settings_only() -> None:
    archetypes = comparison.archetypes_by_settings(_archetypes())
    assert archetypes["archetype"].tolist() == ["GATA1", "SP1"]


def _concepts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hyperparameters": [KEYS[0], KEYS[0], KEYS[1], KEYS[1]],
            "annotation": "genes",
            "annotation_class": ["exon", "Alu"] * 2,
            "f1": [0.2, 0.6, 0.9, None],
        }
    )


def test_concepts_stand_by_class_and_sae() -> None:
    concepts = comparison.concepts_found(_concepts(), KEYS)
    assert list(concepts) == ["annotation", "annotation_class", KEYS[0], KEYS[1]]
    assert concepts["annotation_class"].tolist() == ["exon", "Alu"]
    assert concepts[KEYS[0]].tolist() == [0.2, 0.6]
    assert concepts[KEYS[1]].tolist()[0] == 0.9
    assert np.isnan(concepts[KEYS[1]].tolist()[1])
    assert comparison.concepts_found(_concepts().iloc[:0], KEYS).empty


def test_plots_are_small_pngs_and_the_page_escapes_what_it_shows() -> None:
    pairs, _ = _stability()
    table = comparison.comparison_table(
        _summary().assign(
            fidelity_r_log=[0.9, 0.95, 0.8, np.nan], recovered_mean=[0.9, 1, 0.8, np.nan]
        ),
        _archetypes(),
        pairs,
    )
    plots = {
        "reconstruction": comparison_plots.reconstruction(table),
        "fidelity": comparison_plots.fidelity(table),
        "findings": comparison_plots.findings(table),
        "stability": comparison_plots.stability(table, pairs),
    }
    for figure in plots.values():
        png = png_of(figure)
        assert png.startswith(b"\x89PNG")
        assert len(png) < MAX_BYTES
    only = comparison.archetypes_by_settings(_archetypes()).assign(factors="<script>alert()")
    concepts = comparison.concepts_found(_concepts(), KEYS)
    pages = {KEYS[2]: f"../{KEYS[2]}/index.html"}
    page = comparison_page(
        "test & co", table, beside_baselines(table), pairs, only, concepts, plots, pages
    )
    assert page.count('<svg role="img"') == 4
    # what is drawn is drawn in the page's own ink, without a ground, so that it follows the theme
    assert "<img" not in page
    assert "background" not in page
    assert not re.search(r"#000000|#ffffff|fill: white", page, re.IGNORECASE)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert f'<a href="../{KEYS[2]}/index.html">{KEYS[2]}</a>' in page
    assert page.index(">exon<") < page.index(">Alu<")
    assert KEYS[2] in page
    assert "loss recovered" in page
    lonely = comparison.comparison_table(_summary().iloc[:1], _archetypes(), pairs.iloc[:0])
    comparison_plots.stability(lonely, pairs.iloc[:0])
    lonely[comparison.OF_MODEL] = np.nan  # as without a model
    page = comparison_page(
        "one", lonely, beside_baselines(lonely), pairs.iloc[:0], only.iloc[:0], concepts, {}, {}
    )
    assert ">none<" in page
    assert "loss recovered" not in page
