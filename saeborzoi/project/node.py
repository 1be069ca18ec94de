"""One node of an SAE, and its motifs: everything that the catalogue knows of them."""

from __future__ import annotations

import base64
import html
from functools import cached_property
from typing import TYPE_CHECKING

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.errors import CatalogError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from saeborzoi.figures import Plot

_SHOWN = (
    "label", "frequency", "activation_max", "reason", "n_seqlets", "consensus", "n_sites",
    "log10_e_value", "members", "target_name", "factor_family", "q_value", "annotation_class",
    "odds_ratio",
)  # fmt: skip


class Motif:
    """One motif of a node.

    Attributes
    ----------
    row
        Its row of table `motif`, a Series: consensus, n_sites, log10_e_value, is_significant, ...
    """

    def __init__(self, row: pd.Series) -> None:
        self.row = row

    @property
    def node(self) -> int:
        """The node that it was found for."""
        return int(self.row["node"])

    @property
    def number(self) -> int:
        """1 is the first that was found."""
        return int(self.row["motif"])

    @property
    def consensus(self) -> str:
        """IUPAC consensus."""
        return str(self.row["consensus"])

    @property
    def is_significant(self) -> bool:
        """E-value below the setting, and not suspect."""
        return bool(self.row["is_significant"])

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(width, 4) float64, position probability matrix, order A C G T."""
        from saeborzoi.motifs.properties import as_matrix

        return as_matrix(self.row["matrix"])

    def logo(self) -> Plot:
        """Its logo, letter heights in bits."""
        from saeborzoi.plots import motif_logo

        return motif_logo(self.matrix, repr(self).partition(",")[0])

    def to_meme(self) -> str:
        """The motif as MEME-format text, for `tomtom` and `fimo`."""
        from saeborzoi.motifs.fan_in import motifs_as_meme

        return motifs_as_meme(self.row.to_frame().T)

    def __repr__(self) -> str:
        return (
            f"Motif {self.number} of node {self.node}: {self.consensus}, {len(self.matrix)} bp, "
            f"{int(self.row['n_sites']):,} sites, E = 1e{self.row['log10_e_value']:.0f}"
            + ("" if self.is_significant else ", not significant")
        )

    def _repr_png_(self) -> bytes:
        return self.logo()._repr_png_()


class Node:
    """One node of an SAE; made by `Project.node` and `Sae.node`.

    Attributes
    ----------
    key
        Partition key of the SAE.
    number
        The node, 0 ... n_nodes-1.
    """

    def __init__(self, catalog: Catalog, key: str, number: int) -> None:
        self._catalog = catalog
        self.key = key
        self.number = number

    @cached_property
    def summary(self) -> pd.Series:
        """Row of view `node_summary`: everything known of the node, empty where nothing is."""
        return self._one("node_summary")

    @cached_property
    def statistics(self) -> pd.Series:
        """Row of table `node`: how often and how strongly it fires."""
        return self._one("node")

    @property
    def name(self) -> str | None:
        """Its family of motifs with the factors that fit as well, "AP-1: JUND, FOSL2, BATF …"; else
        its motif's consensus, else None."""
        for column in ("name", "consensus"):
            value = self.summary[column]
            if isinstance(value, str):
                return value
        return None

    @property
    def label(self) -> str | None:
        """What somebody called it with `saeborzoi label`; None where nobody did."""
        value = self.summary["label"]
        return value if isinstance(value, str) else None

    @cached_property
    def seqlets(self) -> pd.DataFrame:
        """One row a seqlet, the strongest first: table `seqlet`."""
        return self._rows("seqlet", "seqlets")

    @cached_property
    def motifs(self) -> list[Motif]:
        """Its motifs in order of discovery, significant or not."""
        rows = self._rows("motif", "meme_motifs")
        return [Motif(row) for _, row in rows.iterrows()]

    @cached_property
    def matches(self) -> pd.DataFrame:
        """Known motifs that its motifs match, the best first: view `supported_match`."""
        rows = self._rows("supported_match", "tomtom_matches")
        return rows.sort_values(["motif", "p_value", "target_id"], ignore_index=True)

    @cached_property
    def annotation(self) -> pd.DataFrame:
        """Its seqlets against each class of annotation, the most enriched first: table
        `annotation_overlap`."""
        rows = self._rows("annotation_overlap", "annotation_overlaps", by_node=False)
        return rows.sort_values("z_shuffled", ascending=False, ignore_index=True)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """What the model's outputs do when the node is ablated or doubled, the tracks that it moves
        most first: table `node_effect`. Where `is_significant` is false, other nodes at the same
        positions do as much."""
        rows = self._rows("node_effect", "node_effects", by_node=False)
        return rows.sort_values(["loci", "track_rank"], ignore_index=True)

    def logo(self) -> Plot:
        """Logo of the motif that names it: the first that has a match, else the first significant.

        Raises
        ------
        CatalogError
            Where no motif of it is significant.
        """
        for motif in self.motifs:
            if motif.number == self.summary["motif"]:
                return motif.logo()
        raise CatalogError(
            f"node {self.number} of {self.key} has no significant motif, of {len(self.motifs)} "
            "found; see node.motifs, or node.summary['reason'] where it was not selected"
        )

    def __repr__(self) -> str:
        frequency = self.summary["frequency"]
        n_seqlets = self.summary["n_seqlets"]
        seqlets = "" if n_seqlets != n_seqlets else f", {int(n_seqlets):,} seqlets"
        return (
            f"Node {self.number} of {self.key}{f' ({self.label})' if self.label else ''}: "
            f"{self.name or 'no name'}, fires at "
            f"{frequency:.3%} of positions{seqlets}"
        )

    def _repr_html_(self) -> str:
        shown = self.summary[[*_SHOWN]].dropna()
        picture = ""
        if isinstance(self.summary["consensus"], str):
            png = base64.b64encode(self.logo()._repr_png_()).decode()
            picture = f'<img alt="logo" src="data:image/png;base64,{png}">'
        table = shown.to_frame().to_html(header=False, float_format=lambda x: f"{x:.3g}")
        return f"<p>{html.escape(repr(self))}</p>{picture}{table}"

    def _one(self, table: str) -> pd.Series:
        rows = self._catalog.rows(table, self.key, nodes=[self.number])
        if rows.empty:
            self._catalog.require_made("top_activations", self.key)
        return rows.iloc[0].rename(f"{self.key}, node {self.number}")

    def _rows(self, table: str, asset: str, *, by_node: bool = True) -> pd.DataFrame:
        """Rows of the node, refused where they are not made yet."""
        self._catalog.require_made(asset, self.key, [self.number] if by_node else None)
        return self._catalog.rows(table, self.key, nodes=[self.number])
