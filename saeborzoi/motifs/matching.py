"""Discovered motifs against databases of known ones: TomTom's statistic, through memelite or the
real `tomtom`.

Both use TomTom's pseudocount (0.1 of a letter in proportion to a uniform background), complete
scores and both strands of the target. E-value = p x targets of the database; q-value =
Benjamini-Hochberg over the targets of the database for one query. (The program's own q-values,
which it estimates over both orientations, are up to twice as large for the best targets; where they
matter, E < 0.05 is the stricter threshold nearly always.)
"""

from __future__ import annotations

import csv
import io
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from saeborzoi.catalog.views import BEST_FIRST
from saeborzoi.errors import MissingProgramError
from saeborzoi.motifs.archetypes import archetypes
from saeborzoi.motifs.databases import Database
from saeborzoi.motifs.meme_format import MemeMotif, format_meme
from saeborzoi.motifs.programs import find_program, program_version
from saeborzoi.motifs.properties import as_matrix

PSEUDOCOUNT = 0.1
"""TomTom's `-motif-pseudo` default: letters added to each column."""
_QUERIES_AT_ONCE = 512
MATCH_COLUMNS = (
    "node",
    "motif",
    "database",
    "target_id",
    "target_name",
    "factor_family",
    "target_class",
    "archetype",
    "p_value",
    "q_value",
    "e_value",
    "offset_bp",
    "overlap_bp",
    "orientation",
    "similarity",
    "is_significant",
)


Engine = Literal["memelite", "tomtom"]


class Thresholds(NamedTuple):
    """Below what a match is reported: p-value, q-value and E-value, all three."""

    p_value: float
    q_value: float
    e_value: float


class Alignments(NamedTuple):
    """Best alignment of each query with each target, all (n_queries, n_targets).

    Attributes
    ----------
    p_value
        float64, over all offsets and both strands.
    offset_bp
        int64, start of the target minus start of the query.
    overlap_bp
        int64, aligned columns.
    is_reverse
        bool, whether the target's reverse complement is aligned.
    """

    p_value: NDArray[np.float64]
    offset_bp: NDArray[np.int64]
    overlap_bp: NDArray[np.int64]
    is_reverse: NDArray[np.bool_]


def check_matching_engine(engine: Engine = "memelite", executable: Path | str | None = None) -> str:
    """Engine with its version.

    Parameters
    ----------
    engine, executable
        As for `match`.

    Raises
    ------
    MissingProgramError
        Where tomtom is asked for and cannot be run.
    """
    if engine == "memelite":
        import memelite

        return f"memelite {memelite.__version__}"
    program = _tomtom_at(executable)
    return f"tomtom {program_version(program)}"


def match(
    motifs: pd.DataFrame,
    databases: Sequence[Database],
    *,
    engine: Engine = "memelite",
    executable: Path | str | None = None,
    max_p_value: float = 0.05,
    max_q_value: float = 0.05,
    max_e_value: float = 0.05,
    min_similarity: float = 0.7,
    threads: int = 1,
) -> pd.DataFrame:
    """Known motifs that each discovered motif looks like.

    Parameters
    ----------
    motifs
        Columns node, motif, matrix (width x 4, A C G T), n_sites, is_significant of table `motif`.
    databases
        Each is searched by itself: p, q and E refer to one database.
    engine, executable
        TomTom's statistic by memelite, or the program `tomtom` itself (there, or on PATH).
    max_p_value, max_q_value, max_e_value
        Thresholds, all below.
    min_similarity
        Least Pearson correlation of the aligned columns; -1 takes TomTom's word for every match.
    threads
        Cores to use.

    Returns
    -------
    Columns of table `motif_match` but the key of the SAE: for each motif and database every target
    below all three thresholds, and the best one even where it is not, best first. A match is
    significant where it passes, its aligned columns are similar, and the motif itself is
    significant.
    """
    check_matching_engine(engine, executable)
    thresholds = Thresholds(max_p_value, max_q_value, max_e_value)
    parts = []
    of_target = {database.name: archetypes(database.motifs) for database in databases}
    matrices = [
        with_pseudocount(as_matrix(matrix), sites)
        for matrix, sites in zip(motifs["matrix"], motifs["n_sites"], strict=True)
    ]
    for database in databases:
        for first in range(0, len(matrices), _QUERIES_AT_ONCE):
            chunk = slice(first, first + _QUERIES_AT_ONCE)
            rows = motifs.iloc[chunk]
            if engine == "memelite":
                targets = [with_pseudocount(t.matrix, t.n_sites) for t in database.motifs]
                alignments = align(matrices[chunk], targets, threads)
                parts.append(_reported(rows, database, alignments, thresholds))
            else:
                parts.append(_tomtom(rows, database, thresholds, executable))
    if not parts:
        return pd.DataFrame({name: [] for name in MATCH_COLUMNS})
    matches = pd.concat(parts, ignore_index=True).sort_values(
        ["node", "motif", "database", "p_value", "target_id"], kind="stable", ignore_index=True
    )
    archetype = [
        of_target[database][target]
        for database, target in zip(matches["database"], matches["target_id"], strict=True)
    ]
    matches.insert(matches.columns.get_loc("target_class") + 1, "archetype", archetype)
    keys = list(zip(motifs["node"], motifs["motif"], strict=True))
    queries = dict(zip(keys, map(as_matrix, motifs["matrix"]), strict=True))
    significant = dict(zip(keys, motifs["is_significant"].astype(bool), strict=True))
    known = {(d.name, t.identifier): t.matrix for d in databases for t in d.motifs}
    similarity = [
        aligned_similarity(
            queries[row.node, row.motif],
            known[row.database, row.target_id],
            row.offset_bp,
            row.orientation == "-",
        )
        for row in matches.itertuples()
    ]
    matches.insert(matches.columns.get_loc("is_significant"), "similarity", similarity)
    of_motif = zip(matches["node"], matches["motif"], strict=True)
    matches["is_significant"] &= np.array([significant[key] for key in of_motif], bool)
    matches["is_significant"] &= matches["similarity"] >= min_similarity
    return matches


def aligned_similarity(
    query: NDArray[np.float64], target: NDArray[np.float64], offset_bp: int, is_reverse: bool
) -> float:
    """Pearson correlation of two matrices about 1/4 over their aligned columns.

    TomTom's p-value rewards the agreement of columns without information too, so that a motif of
    few bits "matches" the degenerate flanks of a long target with p of 1e-9; those have r of 0.2
    to 0.6, true matches above 0.8.

    Parameters
    ----------
    query, target
        (width, 4) float64, rows sum to 1.
    offset_bp
        Start of the target, as it lies in the alignment, minus start of the query.
    is_reverse
        Whether the target's reverse complement is aligned.
    """
    lying = target[::-1, ::-1] if is_reverse else target
    first, last = max(0, offset_bp), min(len(query), offset_bp + len(lying))
    a = query[first:last] - 0.25
    b = lying[first - offset_bp : last - offset_bp] - 0.25
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0


def best_matches(matches: pd.DataFrame) -> pd.DataFrame:
    """The significant match that names each node, one row a node, by the order of the view
    `best_match`.

    Parameters
    ----------
    matches
        node, motif, database, target_id, p_value, is_significant and whatever else of table
        `motif_match`; may_name as of view `supported_match`, all may where it is left out.
    """
    rows = matches[matches["is_significant"].astype(bool)]
    if "may_name" in rows:
        rows = rows[rows["may_name"].astype(bool)]
    rows = rows.sort_values(["node", *BEST_FIRST], kind="stable")
    return rows.drop_duplicates("node").reset_index(drop=True)


def with_pseudocount(matrix: NDArray[np.float64], n_sites: float) -> NDArray[np.float64]:
    """The matrix as TomTom sees it, 0.1 of a letter added to the sites of each column."""
    matrix = np.asarray(matrix, float)
    return (matrix * n_sites + PSEUDOCOUNT / 4) / (n_sites + PSEUDOCOUNT)


def align(
    queries: Sequence[NDArray[np.float64]],
    targets: Sequence[NDArray[np.float64]],
    threads: int = 1,
) -> Alignments:
    """Best alignment of each query with each target through memelite, with exact bins.

    Parameters
    ----------
    queries, targets
        (width, 4) float64 each, rows sum to 1.
    """
    from memelite import tomtom

    with warnings.catch_warnings():
        # a database of few motifs has rough p-values; the user chose it
        warnings.filterwarnings("ignore", message=".*target", category=UserWarning)
        p, _, offset, overlap, strand = tomtom(
            [np.ascontiguousarray(q.T) for q in queries],
            [np.ascontiguousarray(t.T) for t in targets],
            n_target_bins=None,
            n_jobs=threads,
        )[:5]
    return Alignments(
        np.clip(np.asarray(p, float), 0.0, 1.0),
        # memelite says where the query starts in the target
        -np.asarray(offset).astype(np.int64),
        np.asarray(overlap).astype(np.int64),
        np.asarray(strand) == 1,
    )


def _passes(
    p: NDArray[np.float64], q: NDArray[np.float64], e: NDArray[np.float64], below: Thresholds
) -> NDArray[np.bool_]:
    return (p < below.p_value) & (q < below.q_value) & (e < below.e_value)


def _reported(
    rows: pd.DataFrame, database: Database, alignments: Alignments, thresholds: Thresholds
) -> pd.DataFrame:
    p = alignments.p_value
    q = stats.false_discovery_control(p, axis=-1)
    e = p * len(database.motifs)
    passes = _passes(p, q, e, thresholds)
    keep = passes.copy()
    keep[np.arange(len(p)), p.argmin(axis=1)] = True
    i, j = np.nonzero(keep)
    target = [database.motifs[k] for k in j]
    return pd.DataFrame(
        {
            "node": rows["node"].to_numpy()[i],
            "motif": rows["motif"].to_numpy()[i],
            "database": database.name,
            "target_id": [t.identifier for t in target],
            "target_name": [t.name for t in target],
            "factor_family": [t.family for t in target],
            "target_class": [t.structural_class for t in target],
            "p_value": p[i, j],
            "q_value": q[i, j],
            "e_value": e[i, j],
            "offset_bp": alignments.offset_bp[i, j],
            "overlap_bp": alignments.overlap_bp[i, j],
            "orientation": np.where(alignments.is_reverse[i, j], "-", "+"),
            "is_significant": passes[i, j],
        }
    )


def _tomtom_at(executable: Path | str | None) -> Path:
    given = None if executable is None else Path(executable)
    return find_program("tomtom", given, "[matching]", "memelite")


def _tomtom(
    rows: pd.DataFrame, database: Database, thresholds: Thresholds, executable: Path | str | None
) -> pd.DataFrame:
    """The same through the real program, one run for a batch of queries."""
    program = _tomtom_at(executable)
    queries = [
        MemeMotif(f"{row.node}_{row.motif}", "", as_matrix(row.matrix), row.n_sites, 0.0, 0.0)
        for row in rows.itertuples()
    ]
    targets = [MemeMotif(t.identifier, "", t.matrix, t.n_sites, 0.0, 0.0) for t in database.motifs]
    with tempfile.TemporaryDirectory() as folder:
        query, target = Path(folder, "query.meme"), Path(folder, "target.meme")
        query.write_text(format_meme(queries))
        target.write_text(format_meme(targets))
        # all targets, so that q-values and the best match do not depend on tomtom's threshold
        command = [str(program), "-no-ssc", "-oc", folder, "-text", "-evalue", "-thresh"]
        command += [str(len(targets)), "-dist", "ed", str(query), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingProgramError(
            f"{program} ended with {done.returncode}: {done.stderr.strip()[-500:]}; fix that, or "
            'set [matching] engine = "memelite"'
        )
    return _parsed_tomtom(done.stdout, rows, database, thresholds)


def _parsed_tomtom(
    text: str, rows: pd.DataFrame, database: Database, thresholds: Thresholds
) -> pd.DataFrame:
    """Rows of tomtom's table, of which we keep what `match` promises."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    by_identifier = {t.identifier: t for t in database.motifs}
    matches = []
    for row in csv.DictReader(io.StringIO("\n".join(lines)), delimiter="\t"):
        node, motif = map(int, row["Query_ID"].split("_"))
        target = by_identifier[row["Target_ID"]]
        matches.append(
            {
                "node": node,
                "motif": motif,
                "database": database.name,
                "target_id": target.identifier,
                "target_name": target.name,
                "factor_family": target.family,
                "target_class": target.structural_class,
                "p_value": float(row["p-value"]),
                "q_value": float(row["q-value"]),
                "e_value": float(row["E-value"]),
                # tomtom says where the query starts in the target
                "offset_bp": -int(row["Optimal_offset"]),
                "overlap_bp": int(row["Overlap"]),
                "orientation": row["Orientation"],
            }
        )
    later = ("archetype", "similarity", "is_significant")
    table = pd.DataFrame(matches, columns=[name for name in MATCH_COLUMNS if name not in later])
    if table.empty:
        return table.assign(is_significant=pd.Series(dtype=bool))
    p, q, e = (table[name].to_numpy(float) for name in ("p_value", "q_value", "e_value"))
    table["is_significant"] = _passes(p, q, e, thresholds)
    best = table.groupby(["node", "motif"])["p_value"].transform("idxmin") == table.index
    return table[table["is_significant"] | best]
