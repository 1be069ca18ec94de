"""What the catalogue's views answer, on tables small enough to see the answer by eye."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.tables import make_tables
from saeborzoi.catalog.views import VIEWS
from saeborzoi.motifs.matching import best_matches
from saeborzoi_assets.queries import only_supported

UNTRAINED = "conv_x8_k0.05_lr0.003_s0_untrained"
KEY, OTHER = (f"conv_x{expansion}_k0.05_lr0.003_s0" for expansion in (4, 8))


class Catalogue:
    """The tables and views in memory."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        make_tables(self.connection)

    def add(self, table: str, *rows: dict[str, Any], key: str = KEY) -> None:
        """Rows of an SAE; a column that is not named is NULL."""
        for row in rows:
            whole = {"hyperparameters": key, **row} if table != "materialization" else row
            assert set(whole) <= {column.name for column in TABLE[table].columns}
            self.connection.execute(
                f"INSERT INTO {table} ({', '.join(whole)}) VALUES ({', '.join('?' * len(whole))})",
                list(whole.values()),
            )

    def view(self, name: str, columns: str = "*") -> pd.DataFrame:
        """A view's rows in the order of their first columns."""
        return self.connection.execute(f"SELECT {columns} FROM {name} ORDER BY ALL").df()


def motif(node: int, number: int, significant: bool = True) -> dict[str, Any]:
    """A row of `motif`."""
    return {
        "node": node,
        "motif": number,
        "consensus": f"{node}MOTIF{number}",
        "width_bp": 8 + number,
        "log10_e_value": -9.0 + number,
        "is_significant": significant,
    }


def match(
    node: int, number: int, factor: str, p: float, significant: bool = True, database: str = "J"
) -> dict[str, Any]:
    """A row of `motif_match`."""
    return {
        "node": node, "motif": number, "database": database, "target_id": f"id_{factor}",
        "target_name": factor, "factor_family": f"family of {factor}", "p_value": p,
        "q_value": 10 * p, "e_value": 100 * p, "is_significant": significant,
    }  # fmt: skip


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    """Six nodes of one SAE.

    0: its first motif matches nothing, its second two factors. 1: its first motif is not supported
    by its evidence. 2: a motif that matches nothing. 3: not selected. 4: no evidence made yet, two
    factors with one p. 5: only a motif that is not significant.
    """
    made = Catalogue()
    made.add(
        "node", *({"node": n, "frequency": n / 100, "activation_max": n + 0.5} for n in range(6))
    )
    made.add(
        "node_selection",
        *(
            {"node": n, "selected": n != 3, "reason": "too rare" if n == 3 else None,
             "n_seqlets": 80 - n}
            for n in range(6)
        ),
    )  # fmt: skip
    made.add(
        "motif",
        motif(0, 1), motif(0, 2), motif(1, 1), motif(1, 2), motif(2, 1, False), motif(2, 2),
        motif(4, 1), motif(5, 1, False),
    )  # fmt: skip
    made.add(
        "motif_match",
        match(0, 1, "SP1", 1e-9, significant=False),
        match(0, 2, "CTCF", 1e-5), match(0, 2, "CTCFL", 1e-7),
        match(1, 1, "GATA1", 1e-12), match(1, 2, "CTCF", 1e-6),
        match(4, 1, "JUN", 1e-8), match(4, 1, "FOS", 1e-8),
        match(5, 1, "SP1", 0.4, significant=False),
    )  # fmt: skip
    made.add(
        "motif_evidence",
        {"node": 0, "motif": 1, "is_supported": True, "motif_family": 1},
        {"node": 0, "motif": 2, "is_supported": True, "motif_family": 7, "fdr": 0.01},
        {"node": 1, "motif": 1, "is_supported": False, "fdr": 0.9},
        {"node": 1, "motif": 2, "is_supported": True, "motif_family": 7, "fdr": 0.02},
        {"node": 2, "motif": 2, "is_supported": True, "motif_family": 3},
    )
    made.add("node_embedding", {"node": 0, "umap_1": 1.5, "umap_2": -2.0, "cluster": 4})
    made.add(
        "annotation_overlap",
        *(
            {"node": 0, "annotation": "cCRE", "annotation_class": name, "n_overlapping": n,
             "z_shuffled": z, "odds_ratio": z / 2}
            for name, n, z in (("PLS", 12, 5.0), ("pELS", 9, 9.0), ("CTCF", 0, 20.0))
        ),
    )  # fmt: skip
    yield made
    made.connection.close()


def test_every_view_is_tested() -> None:
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    for name in VIEWS:
        assert f'view("{name}"' in text, f"{name}: no test here reads rows from it"


def test_a_match_counts_where_it_is_significant_and_its_motif_supported(
    catalogue: Catalogue,
) -> None:
    matches = catalogue.view("supported_match", "node, motif, target_name")
    assert list(matches.itertuples(index=False, name=None)) == [
        (0, 2, "CTCF"), (0, 2, "CTCFL"), (1, 2, "CTCF"), (4, 1, "FOS"), (4, 1, "JUN"),
    ]  # fmt: skip


def test_a_motif_is_supported_where_the_evidence_does_not_speak_against_it(
    catalogue: Catalogue,
) -> None:
    motifs = catalogue.view("supported_motif", "node, motif")
    assert list(motifs.itertuples(index=False, name=None)) == [
        (0, 1), (0, 2), (1, 2), (2, 2), (4, 1),
    ]  # fmt: skip


def test_a_node_is_named_by_its_first_motif_with_a_match_and_the_smallest_p(
    catalogue: Catalogue,
) -> None:
    matches = catalogue.view("best_match", "node, motif, target_name, p_value")
    assert list(matches.itertuples(index=False, name=None)) == [
        (0, 2, "CTCFL", 1e-7), (1, 2, "CTCF", 1e-6), (4, 1, "FOS", 1e-8),
    ]  # fmt: skip


def test_a_node_s_summary_has_one_row_whatever_is_known_of_it(catalogue: Catalogue) -> None:
    catalogue.add("node", {"node": 0, "frequency": 0.9}, key=OTHER)
    summary = catalogue.view("node_summary")
    assert summary["node"].tolist() == [0, 1, 2, 3, 4, 5, 0]
    other = summary.iloc[6]
    assert other["hyperparameters"] == OTHER
    assert other.drop(["hyperparameters", "node", "frequency"]).isna().all()
    mine = summary.iloc[:6].set_index("node")
    assert mine["frequency"].tolist() == [0, 0.01, 0.02, 0.03, 0.04, 0.05]
    assert mine["reason"].tolist()[3] == "too rare"
    assert mine["n_seqlets"].tolist() == [80, 79, 78, 77, 76, 75]
    motifs = ["0MOTIF2", "1MOTIF2", "2MOTIF2", "", "4MOTIF1", ""]
    assert mine["consensus"].fillna("").tolist() == motifs
    names = ["CTCFL", "CTCF", "", "", "FOS", ""]
    assert mine["target_name"].fillna("").tolist() == names
    first = mine.loc[0]
    assert (first["width_bp"], first["log10_e_value"], first["motif_family"]) == (10, -7.0, 7)
    assert (first["umap_1"], first["umap_2"], first["cluster"]) == (1.5, -2.0, 4)
    # the class without an overlap has the largest z
    assert (first["annotation_class"], first["odds_ratio"]) == ("pELS", 4.5)
    assert first["fdr"] == 0.01
    assert pd.isna(mine.loc[4, "is_supported"])


def test_what_carries_a_variant_s_effect_is_named(catalogue: Catalogue) -> None:
    catalogue.connection.execute(
        "INSERT INTO variant (variant_set, variant, name, chrom, start_bp, ref, alt) "
        "VALUES ('eqtl', 'chr1:100:A:G', 'rs4', 'chr1', 99, 'A', 'G')"
    )
    here = {"variant_set": "eqtl", "variant": "chr1:100:A:G", "track": "liver", "effect": -2.0}
    catalogue.add(
        "variant_node",
        {**here, "part": "node", "rank": 1, "node": 1, "share": 0.75, "acts_through": True},
        {**here, "part": "node", "rank": 2, "node": 3, "share": 0.05, "acts_through": False},
        {**here, "part": "error", "rank": 0, "share": 0.2, "acts_through": False},
    )
    columns = "name, chrom, ref, alt, part, rank, node, target_name, share"
    rows = catalogue.view("variant_explained", columns)
    rows = rows.astype(object).fillna("-").values.tolist()
    of_variant = ["rs4", "chr1", "A", "G"]
    assert rows == [
        [*of_variant, "error", 0, "-", "-", 0.2],
        [*of_variant, "node", 1, 1, "CTCF", 0.75],
        [*of_variant, "node", 2, 3, "-", 0.05],
    ]
    # and the other way round: which variants act through a node
    rows = catalogue.view("node_variant", "node, target_name, variant, track, effect, share")
    assert rows.values.tolist() == [[1, "CTCF", "chr1:100:A:G", "liver", -2.0, 0.75]]


def test_a_factor_has_the_nodes_that_match_it_and_those_that_it_names(
    catalogue: Catalogue,
) -> None:
    catalogue.add("motif_match", match(7, 1, "CTCF", 1e-3, database="other"))
    catalogue.add("motif_match", match(9, 1, "CTCF", 1e-4), key=OTHER)
    for node, factor in ((6, "KLF4"), (8, "SP1")):
        catalogue.add("motif_match", {**match(node, 1, factor, 1e-9), "archetype": "GC"})
    factors = catalogue.view("transcription_factor").set_index(
        ["hyperparameters", "database", "target_name"]
    )
    assert len(factors) == 8
    ctcf = factors.loc[(KEY, "J", "CTCF")]
    assert ctcf["n_nodes"] == 2
    assert list(ctcf["nodes"]) == [0, 1]
    assert list(ctcf["best_of_nodes"]) == [1]
    assert ctcf["best_q_value"] == pytest.approx(1e-5)
    assert ctcf["factor_family"] == "family of CTCF"
    assert list(factors.loc[(KEY, "J", "CTCFL"), "best_of_nodes"]) == [0]
    # a paralogue is found where another one of its archetype names the node
    assert list(factors.loc[(KEY, "J", "KLF4"), "nodes"]) == [6]
    assert list(factors.loc[(KEY, "J", "KLF4"), "nodes_of_archetype"]) == [6, 8]
    # without archetypes a factor is its own
    assert list(ctcf["nodes_of_archetype"]) == [1]
    assert pd.isna(factors.loc[(KEY, "J", "JUN"), "best_of_nodes"])
    assert list(factors.loc[(KEY, "other", "CTCF"), "nodes"]) == [7]
    assert list(factors.loc[(OTHER, "J", "CTCF"), "nodes"]) == [9]


def _sae(expansion: int, **more: Any) -> dict[str, Any]:
    settings = {"layer": "conv", "topk": 0.05, "learning_rate": 0.003, "seed": 0,
                "variant": "topk", "recipe": "default"}  # fmt: skip
    return {"expansion": expansion, **settings, "n_nodes": 10 * expansion, **more}


def test_an_sae_s_summary_counts_what_its_nodes_found(catalogue: Catalogue) -> None:
    catalogue.add("sae", _sae(4, fvu=0.25))
    catalogue.add("sae", _sae(8), key=OTHER)
    for node in (0, 1):
        catalogue.add("materialization", {"asset": "tomtom_matches", "owner": KEY, "node": node})
    catalogue.add("materialization", {"asset": "seqlets", "owner": KEY, "node": 2})
    summary = catalogue.view("sae_summary").set_index("hyperparameters")
    counts = ["n_nodes", "n_nodes_done", "n_selected", "n_nodes_with_motif",
              "n_nodes_with_match", "n_archetypes"]  # fmt: skip
    assert summary.loc[KEY, counts].tolist() == [40, 2, 5, 4, 3, 3]
    assert summary.loc[OTHER, counts].tolist() == [80, 0, 0, 0, 0, 0]
    assert summary.loc[KEY, "named_share"] == 3 / 4
    # of the best matches' q of 1e-6, 1e-5 and 1e-7
    assert summary.loc[KEY, "mean_log10_q"] == pytest.approx((6 + 5 + 7) / 3)
    assert summary.loc[KEY, "fvu"] == 0.25


def test_what_drives_a_track_is_named_and_stands_beside_its_controls(catalogue: Catalogue) -> None:
    catalogue.add(
        "node_effect",
        {"node": 0, "loci": "activation", "track": "MAX", "node_rank": 1, "ablated": -2.0,
         "control": -0.1, "is_significant": True},
        {"node": 3, "loci": "activation", "track": "MAX", "node_rank": 2, "ablated": -0.2,
         "control": -0.2, "is_significant": False},
    )  # fmt: skip
    columns = "track, node_rank, node, target_name, ablated, control, is_significant"
    drivers = catalogue.view("track_driver", columns)
    assert drivers.fillna("").values.tolist() == [
        ["MAX", 1, 0, "CTCFL", -2.0, -0.1, True], ["MAX", 2, 3, "", -0.2, -0.2, False],
    ]  # fmt: skip
    # and what the model keeps with the SAE in it stands in its summary
    catalogue.add("sae", _sae(4))
    for splice, recovered in (("sae", 0.9), ("zero", 0.1)):
        catalogue.add("fidelity", {"splice": splice, "recovered_mean": recovered, "r_log": 0.8})
    (row,) = catalogue.view("sae_summary").to_dict("records")
    assert (row["recovered_mean"], row["fidelity_r_log"]) == (0.9, 0.8)


def test_a_motif_without_a_match_is_mixed_composition_or_unknown(catalogue: Catalogue) -> None:
    for node, families, bits in ((20, (0, 0), (8.0, 5.0)), (21, (0, 1), (8.0, 5.0)),
                                 (22, (0, 1), (6.0, 5.0))):  # fmt: skip
        catalogue.add("motif", motif(node, 1), motif(node, 2))
        for number, family, core in zip((1, 2), families, bits, strict=True):
            catalogue.add(
                "motif_evidence",
                {"node": node, "motif": number, "is_supported": True, "core_bits": core,
                 "motif_family": family},
            )  # fmt: skip
    kinds = catalogue.view("unmatched_node").set_index("node")["kind"]
    assert kinds[[20, 21, 22]].to_dict() == {
        20: "unknown", 21: "mixed", 22: "repeat or composition"
    }  # fmt: skip
    assert not set(kinds.index) & {0, 1, 4, 5}


def test_an_archetype_that_one_setting_alone_finds_says_which(catalogue: Catalogue) -> None:
    catalogue.add("sae", _sae(4))
    catalogue.add("sae", _sae(8), key=OTHER)
    catalogue.add("sae", _sae(8, recipe="untrained"), key=UNTRAINED)
    catalogue.add("motif_match", match(3, 1, "CTCF", 1e-4), match(6, 1, "CTCF", 1e-9), key=OTHER)
    catalogue.add("motif_match", match(3, 1, "NRF1", 1e-9), key=UNTRAINED)
    archetypes = catalogue.view("archetype_by_sae").set_index("archetype")
    # of node 0 the best is CTCFL; what was not trained found nothing
    assert archetypes["n_saes"].to_dict() == {"CTCF": 2, "CTCFL": 1, "FOS": 1}
    assert set(archetypes["n_saes_of_layer"]) == {2}
    ctcf = archetypes.loc["CTCF"]
    assert list(ctcf["saes"]) == [KEY, OTHER]
    assert ctcf["n_nodes"] == 3
    assert ctcf["best_q_value"] == pytest.approx(1e-8)
    assert ctcf["only_with"] == ""
    assert archetypes.loc["FOS", "only_with"] == "expansion 4"


def test_a_node_is_called_by_its_archetype_and_what_of_it_fits_as_well(
    catalogue: Catalogue,
) -> None:
    def of(factor: str, p: float, similarity: float, archetype: str = "AP-1", **more: Any) -> dict:
        own = {"archetype": archetype, "similarity": similarity, **more}
        return match(7, 1, factor, p) | own

    catalogue.add(
        "motif_match",
        of("FOSL1::JUN", 1e-12, 0.98), of("JUND", 2e-12, 0.97), of("BATF", 3e-12, 0.95),
        of("JUND", 4e-12, 0.97, target_id="another matrix"), of("FOSL2", 5e-12, 0.96),
        of("MAFK", 6e-12, 0.80), of("CREB1", 7e-12, 0.97, "CRE"),
    )  # fmt: skip
    named = catalogue.view("node_name").set_index("node")
    assert named.loc[7, "name"] == "AP-1: FOSL1::JUN, JUND, BATF …"
    assert list(named.loc[7, "members"]) == ["FOSL1::JUN", "JUND", "BATF", "FOSL2"]
    assert named.loc[7, "target_name"] == "FOSL1::JUN"
    # of a catalogue from before there were archetypes
    assert named.loc[1, "name"] == "CTCF"


@pytest.mark.parametrize("seed", range(3))
def test_where_two_databases_hold_the_same_motif_view_and_pages_name_the_same_one(
    catalogue: Catalogue, seed: int
) -> None:
    """Equal p, as two releases of a database share matrices: the order of rows must not decide."""
    rows = [
        match(node, 1, factor, 1e-8, database=database)
        for node in range(400)
        for database in ("JASPAR2024", "JASPAR2022", "hocomoco")
        for factor in ("ZNF1", "CTCF")
    ]
    np.random.default_rng(seed).shuffle(rows)
    catalogue.add("motif_match", *rows, key=OTHER)
    stored = catalogue.view("motif_match").query("hyperparameters == @OTHER")
    shown = best_matches(stored.sample(frac=1, random_state=seed))
    named = catalogue.view("best_match").query("hyperparameters == @OTHER")
    assert len(named) == len(shown) == 400
    for best in (named, shown):
        assert set(zip(best["database"], best["target_name"], strict=True)) == {
            ("JASPAR2022", "CTCF")
        }
    counts = catalogue.view("transcription_factor").query("hyperparameters == @OTHER")
    best_of = {
        (row.database, row.target_name): len(row.best_of_nodes)
        for row in counts.itertuples()
        if isinstance(row.best_of_nodes, np.ndarray)
    }
    assert best_of == {("JASPAR2022", "CTCF"): 400}


def test_pages_and_plots_take_what_the_views_of_supported_rows_hold(
    catalogue: Catalogue,
) -> None:
    class Served:
        """The catalogue as assets ask it."""

        def rows(self, table: str, key: str) -> pd.DataFrame:
            rows = catalogue.view(table).query("hyperparameters == @key")
            return rows.drop(columns="hyperparameters").sample(frac=1, random_state=0)

        def frame(self, sql: str, parameters: list[str]) -> pd.DataFrame:
            return catalogue.connection.execute(sql, parameters).df()

    platform = SimpleNamespace(catalog=Served())
    sae = SimpleNamespace(key=KEY)
    shown = best_matches(only_supported(platform, sae, "motif_match"))  # type: ignore[arg-type]
    named = catalogue.view("best_match").query("hyperparameters == @KEY")
    columns = ["node", "motif", "database", "target_id"]
    assert shown[columns].values.tolist() == named[columns].sort_values("node").values.tolist()
    motifs = only_supported(platform, sae, "motif")  # type: ignore[arg-type]
    supported = motifs[motifs["is_significant"]].sort_values(["node", "motif"])
    assert supported[["node", "motif"]].values.tolist() == [
        [0, 1], [0, 2], [1, 2], [2, 2], [4, 1]
    ]  # fmt: skip


def test_a_label_holds_for_the_training_that_it_was_written_for(catalogue: Catalogue) -> None:
    catalogue.add("materialization", {"asset": "trained_sae", "owner": KEY, "data_version": "v2"})
    catalogue.add(
        "node_label",
        {"node": 0, "label": "now", "trained_version": "v2"},
        {"node": 1, "label": "then", "trained_version": "v1"},
    )
    assert catalogue.view("current_label", "node, label").values.tolist() == [[0, "now"]]
    assert catalogue.view("node_summary", "node, label")["label"].dropna().tolist() == ["now"]
