"""Matches with known answers, q-values, thresholds, and the real tomtom played back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.schema import TABLE
from saeborzoi.errors import MissingProgramError
from saeborzoi.motifs.databases import Database, Target, load_database
from saeborzoi.motifs.matching import (
    MATCH_COLUMNS,
    align,
    aligned_similarity,
    check_matching_engine,
    match,
    with_pseudocount,
)


@pytest.fixture(scope="module")
def jaspar() -> Database:
    return load_database("known", "jaspar:JASPAR2024:CORE:vertebrates")


@pytest.fixture(scope="module")
def small(jaspar: Database) -> Database:
    wanted = ("MA0035.5", "MA0139.2", "MA0488.2", "MA0147.4")
    first = [m for m in jaspar.motifs if m.identifier in wanted]
    return Database("small", (*first, *jaspar.motifs[:60]))


def target(database: Database, name: str) -> Target:
    return next(m for m in database.motifs if m.name == name)


def motifs_of(*matrices: np.ndarray, significant: bool = True) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "node": [2 * i for i in range(len(matrices))],
            "motif": 1,
            "matrix": [m.tolist() for m in matrices],
            "n_sites": 500,
            "is_significant": significant,
        }
    )


def test_columns_are_those_of_the_catalogue() -> None:
    columns = [c.name for c in TABLE["motif_match"].columns]
    assert columns == ["hyperparameters", *MATCH_COLUMNS]


def test_offset_overlap_and_orientation(small: Database) -> None:
    ctcf = target(small, "CTCF").matrix
    flank = np.full((3, 4), 0.25)
    queries = [ctcf[2:], np.vstack([flank, ctcf]), ctcf[2:][::-1, ::-1]]
    targets = [with_pseudocount(m.matrix, m.n_sites) for m in small.motifs]
    alignment = align([with_pseudocount(q, 500) for q in queries], targets)
    i = [m.name for m in small.motifs].index("CTCF")
    assert (alignment.p_value.argmin(axis=1) == i).all()
    # the target starts 2 bp before the first query, 3 bp after the start of the second
    assert alignment.offset_bp[:, i].tolist() == [-2, 3, 0]
    assert alignment.overlap_bp[:, i].tolist() == [len(ctcf) - 2, len(ctcf), len(ctcf) - 2]
    assert alignment.is_reverse[:, i].tolist() == [False, False, True]


def test_every_known_motif_matches_itself_best(small: Database) -> None:
    targets = [with_pseudocount(m.matrix, m.n_sites) for m in small.motifs]
    alignment = align(targets, targets)
    best = alignment.p_value.argmin(axis=1)
    assert (best == np.arange(len(targets))).mean() > 0.9  # some are in twice
    assert (alignment.p_value >= 0).all()
    assert (alignment.p_value <= 1).all()


def test_p_values_are_those_of_tomtom() -> None:
    """317 matches that TomTom 5.5.7 recorded, default options."""
    recorded = pd.read_csv(
        Path(__file__).parent / "data" / "tomtom_acgtgt.tsv", sep="\t", comment="#"
    )
    database = load_database("all", "jaspar:JASPAR2024:CORE:all")
    query = with_pseudocount(np.eye(4)[[0, 1, 2, 3, 2, 3]], n_sites=1)
    alignment = align([query], [with_pseudocount(t.matrix, t.n_sites) for t in database.motifs])
    place = {t.identifier: i for i, t in enumerate(database.motifs)}
    at = recorded["Target_ID"].map(place).to_numpy()
    p = alignment.p_value[0]
    assert database.motifs[p.argmin()].identifier == recorded["Target_ID"][0]
    assert np.corrcoef(np.log(p[at]), np.log(recorded["p-value"]))[0, 1] > 0.999
    assert (alignment.overlap_bp[0, at] == recorded["Overlap"]).all()
    assert (-alignment.offset_bp[0, at] == recorded["Optimal_offset"]).mean() > 0.99


def test_the_strongest_matches_have_p_values_too(jaspar: Database) -> None:
    """They order what a node is called: 1 - P(score) alone ends at 1e-16, and ties follow."""
    targets = [with_pseudocount(m.matrix, m.n_sites) for m in jaspar.motifs]
    ctcf = [i for i, m in enumerate(jaspar.motifs) if m.name == "CTCF"]
    p = align([targets[i] for i in ctcf], targets).p_value
    assert (p > 0).all()
    assert p.min() < 1e-20
    assert p.argmin(axis=1).tolist() == ctcf


def test_matches_of_two_databases(small: Database, jaspar: Database) -> None:
    gata, ctcf = target(jaspar, "GATA1").matrix, target(jaspar, "CTCF").matrix
    noise = np.random.default_rng(1).dirichlet(np.ones(4) / 2, 10)
    matches = match(motifs_of(gata, ctcf, noise), [small, jaspar])
    assert tuple(matches.columns) == MATCH_COLUMNS
    assert set(matches["database"]) == {"small", "known"}
    best = matches.drop_duplicates(["node", "database"])
    assert best[best["node"] == 2]["target_name"].tolist() == ["CTCF", "CTCF"]
    assert best[best["node"] == 2]["is_significant"].all()
    assert best[best["node"] == 0]["factor_family"].tolist() == ["C4-GATA-related"] * 2
    # the noise keeps its best match in each database, as not significant
    kept = matches[matches["node"] == 4]
    assert len(kept) == 2
    assert not kept["is_significant"].any()
    n_targets = matches["database"].map({"small": len(small.motifs), "known": 879})
    np.testing.assert_allclose(matches["e_value"], matches["p_value"] * n_targets)
    assert not matches.duplicated(["node", "motif", "database", "target_id"]).any()
    ordered = matches.groupby(["node", "motif", "database"])["q_value"]
    assert ordered.apply(lambda q: q.is_monotonic_increasing).all()


def test_result_does_not_depend_on_the_batch(small: Database) -> None:
    matrices = [m.matrix for m in small.motifs[:6]]
    together = match(motifs_of(*matrices), [small])
    alone = match(motifs_of(*matrices).iloc[[3]], [small])
    pd.testing.assert_frame_equal(
        alone, together[together["node"] == 6].reset_index(drop=True), check_exact=False
    )


def test_no_match_of_an_insignificant_motif_is_significant(small: Database) -> None:
    ctcf = target(small, "CTCF").matrix
    matches = match(motifs_of(ctcf, significant=False), [small])
    assert matches["p_value"].min() < 1e-6
    assert not matches["is_significant"].any()


def test_no_motif_at_all(small: Database) -> None:
    matches = match(motifs_of(), [small])
    assert tuple(matches.columns) == MATCH_COLUMNS
    assert matches.empty


def test_missing_tomtom_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingProgramError, match='set \\[matching\\] engine = "memelite"'):
        check_matching_engine("tomtom", tmp_path / "tomtom")
    assert check_matching_engine().startswith("memelite ")


PLAYED = """\
Query_ID\tTarget_ID\tOptimal_offset\tp-value\tE-value\tq-value\tOverlap\tQuery_consensus\t\
Target_consensus\tOrientation
0_1\tMA0139.2\t2\t7.5e-18\t4.8e-16\t4.8e-16\t11\tACGT\tACGT\t-
0_1\tMA0035.5\t-1\t0.3\t19.2\t0.7\t6\tACGT\tACGT\t+
2_1\tMA0035.5\t0\t0.2\t12.8\t0.8\t6\tACGT\tACGT\t+

# Tomtom (Motif Comparison Tool): Version 5.5.8
"""


def player(path: Path, output: str, version: str = "5.5.8", status: int = 0) -> Path:
    """A program that says what was recorded."""
    recorded = path.with_suffix(".txt")
    recorded.write_text(output)
    path.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "if '--version' in sys.argv:\n"
        f"    print({version!r})\n"
        "    sys.exit(0)\n"
        f"print(pathlib.Path({str(recorded)!r}).read_text(), end='')\n"
        f"print('out of luck', file=sys.stderr)\nsys.exit({status})\n"
    )
    path.chmod(0o755)
    return path


def test_real_tomtom_is_read(tmp_path: Path, small: Database) -> None:
    program = player(tmp_path / "tomtom", PLAYED)
    tomtom: dict[str, Any] = {"engine": "tomtom", "executable": program}
    assert check_matching_engine(**tomtom) == "tomtom 5.5.8"
    matrices = [small.motifs[0].matrix, small.motifs[1].matrix]
    matches = match(motifs_of(*matrices), [small], **tomtom, min_similarity=-1)
    assert matches["target_id"].tolist() == ["MA0139.2", "MA0035.5"]
    assert matches["is_significant"].tolist() == [True, False]
    first = matches.iloc[0]
    assert (first["offset_bp"], first["overlap_bp"], first["orientation"]) == (-2, 11, "-")
    assert first["target_name"] == "CTCF"
    assert first["p_value"] == 7.5e-18
    # the played alignment puts unlike columns together, which the default does not believe
    doubted = match(motifs_of(*matrices), [small], engine="tomtom", executable=program)
    assert doubted["is_significant"].tolist() == [False, False]


def test_similarity_is_of_the_aligned_columns() -> None:
    rng = np.random.default_rng(3)
    target = rng.dirichlet([0.3] * 4, 9)
    query = target[1:7]
    assert aligned_similarity(query, target, -1, is_reverse=False) == pytest.approx(1)
    turned = target[::-1, ::-1]
    assert aligned_similarity(query, turned, -1, is_reverse=True) == pytest.approx(1)
    assert aligned_similarity(query, target, 0, is_reverse=False) < 0.7
    assert aligned_similarity(np.full((8, 4), 0.25), target, 0, is_reverse=False) == 0


def test_a_motif_of_few_bits_does_not_match_a_targets_flank(jaspar: Database) -> None:
    """By p alone, this motif of composition matches the long CTCF matrix."""
    flank = target(jaspar, "CTCF").matrix
    long = max((m for m in jaspar.motifs if m.name == "CTCF"), key=lambda m: len(m.matrix)).matrix
    weak = np.full((14, 4), 0.25) + np.tile([0.12, -0.1, -0.1, 0.08], (14, 1))
    weak[6] = [0.05, 0.05, 0.05, 0.85]
    matches = match(motifs_of(weak), [jaspar], max_e_value=1e9, max_q_value=1, max_p_value=1)
    of_ctcf = matches[matches["target_name"] == "CTCF"]
    assert len(of_ctcf) >= 2
    assert not of_ctcf["is_significant"].any()
    itself = match(motifs_of(flank, long), [jaspar])
    best = itself.drop_duplicates("node")
    assert best["is_significant"].all()
    assert set(best["target_name"]) == {"CTCF"}


def test_tomtom_that_fails_is_reported(tmp_path: Path, small: Database) -> None:
    program = player(tmp_path / "tomtom", "", status=3)
    with pytest.raises(MissingProgramError, match="ended with 3: out of luck"):
        match(motifs_of(small.motifs[0].matrix), [small], engine="tomtom", executable=program)
