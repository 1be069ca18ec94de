"""Activations of nodes at a locus as files for people and genome browsers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import CatalogError
from saeborzoi.files import write_file
from saeborzoi.genome.coordinates import Genome
from saeborzoi.genome.indexed_tracks import write_bigwig
from saeborzoi.project.take_away import bed_score, in_genome_order
from saeborzoi.settings.hyperparameters import node_key
from saeborzoi.settings.load import Settings


def names(catalog: Catalog, key: str) -> dict[int, str]:
    """Node to its label, else its name, else its motif's consensus; none that has none of them,
    and none of a catalogue that does not know the SAE."""
    try:
        rows = catalog.rows("node_summary", key)
    except CatalogError:
        return {}
    name = rows["label"].fillna(rows["name"]).fillna(rows["consensus"])
    return {int(n): str(v) for n, v in zip(rows["node"], name, strict=True) if pd.notna(v)}


def strongest(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """The nodes that fire most strongly: node, name, chrom, start_bp and end_bp of the strongest
    position, activation there, n_positions where it fires."""
    order = rows.sort_values("activation", ascending=False, kind="stable")
    best = order.drop_duplicates("node").head(n)
    counts = rows.groupby("node").size()
    table = best[["node", "name", "chrom", "start_bp", "end_bp", "activation"]]
    return table.assign(n_positions=table["node"].map(counts)).reset_index(drop=True)


def write_table(path: Path, rows: pd.DataFrame) -> None:
    """Every row as tab-separated text with a header."""
    with write_file(path.absolute()) as temporary:
        rows.to_csv(temporary, sep="\t", index=False, lineterminator="\n")


def write_bed(path: Path, rows: pd.DataFrame) -> None:
    """BED6: the name, or the node, and a score of 1000 for the node's strongest position."""
    node = rows["node"].map(node_key)
    name = node.where(
        rows["name"] == "", node + "_" + rows["name"].str.replace(r"\s", "_", regex=True)
    )
    table = pd.DataFrame(
        {
            "chrom": rows["chrom"], "start": rows["start_bp"].clip(lower=0), "end": rows["end_bp"],
            "name": name, "score": bed_score(rows), "strand": ".",
        }
    )  # fmt: skip
    with write_file(path.absolute()) as temporary:
        write_bed_rows(temporary, table.sort_values(["chrom", "start", "name"]))


def write_bed_rows(path: Path, rows: pd.DataFrame) -> None:
    """Rows as they are: BED knows no quotes around a name that has some."""
    rows.to_csv(
        path, sep="\t", index=False, header=False, lineterminator="\n", quoting=csv.QUOTE_NONE
    )


def write_bedgraphs(folder: Path, rows: pd.DataFrame, sizes: dict[str, int]) -> None:
    """`n0003.bedgraph` of each node."""
    for node, table in _by_node(rows, sizes):
        with write_file(folder.absolute() / f"{node_key(node)}.bedgraph") as temporary:
            table.to_csv(temporary, sep="\t", index=False, header=False, lineterminator="\n")


def write_bigwigs(folder: Path, rows: pd.DataFrame, sizes: dict[str, int]) -> None:
    """`n0003.bw` of each node."""
    for node, table in _by_node(rows, sizes):
        write_bigwig(folder / f"{node_key(node)}.bw", table, sizes)


def sizes_of(settings: Settings, store: Store, fasta: Path | None) -> dict[str, int]:
    """Length of every sequence that the rows lie on."""
    if fasta is not None:
        with Genome(fasta) as sequences:
            return dict(sequences.chrom_sizes)
    with Genome(settings.data.genome, cache=store.genome_cache) as genome:
        return dict(genome.chrom_sizes)


def _by_node(rows: pd.DataFrame, sizes: dict[str, int]) -> Iterator[tuple[int, pd.DataFrame]]:
    """chrom, start_bp, end_bp, activation of each node, inside the chromosomes, in their order.

    No two overlap, as no track may: where windows that overlap are out of step, a position ends
    where the next one begins.
    """
    for node, node_rows in rows.groupby("node"):
        table = node_rows[["chrom", "start_bp", "end_bp", "activation"]].copy()
        table["start_bp"] = table["start_bp"].clip(lower=0)
        table["end_bp"] = table["end_bp"].clip(upper=table["chrom"].map(sizes))
        table = in_genome_order(table, ["chrom", "start_bp"], sizes)
        following = table.groupby("chrom", sort=False)["start_bp"].shift(-1)
        table["end_bp"] = table["end_bp"].clip(upper=following.fillna(np.inf)).astype(int)
        yield int(node), table[table["start_bp"] < table["end_bp"]]
