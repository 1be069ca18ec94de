"""Activations of an SAE's nodes over one region of the genome, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from saeborzoi.activations.region import LayerRegion
from saeborzoi.errors import PartitionKeyError
from saeborzoi.genome.regions import Region
from saeborzoi.sae.model import SparseAutoencoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saeborzoi.figures import Plot


@dataclass(frozen=True, repr=False)
class NodeRegion:
    """Activations of every node over a region.

    Attributes
    ----------
    region
        What was asked for.
    matrix
        (n_positions, n_nodes) float32, sparse: zero where a node does not fire.
    start_bp
        (n_positions,) int64, first base pair of each position, 0-based, ascending.
    window
        (n_positions,) int64, row of the windows that each position was read from.
    bp_per_position
        Base pairs that a position covers.
    origin
        Where the layer's activations come from, in words.
    """

    region: Region
    matrix: sparse.csr_array
    start_bp: NDArray[np.int64]
    window: NDArray[np.int64]
    bp_per_position: int
    origin: str

    def __repr__(self) -> str:
        n_positions, n_nodes = self.matrix.shape
        return (
            f"Activations over {self.region}: {n_positions:,} positions x {n_nodes:,} nodes, "
            f"{self.matrix.nnz:,} not zero, from {self.origin}"
        )

    @property
    def end_bp(self) -> NDArray[np.int64]:
        """(n_positions,) int64, end of each position, exclusive."""
        return self.start_bp + self.bp_per_position

    def of_node(self, node: int) -> NDArray[np.float32]:
        """(n_positions,) float32: activation of one node.

        Raises
        ------
        PartitionKeyError
            Where there is no such node.
        """
        n_nodes = self.matrix.shape[1]
        if not 0 <= node < n_nodes:
            raise PartitionKeyError(f"there is no node {node}; the SAE has 0 to {n_nodes - 1}")
        return self.matrix[:, [node]].toarray()[:, 0]

    def strongest(self, n: int = 10) -> pd.DataFrame:
        """The nodes that fire most strongly here.

        Returns
        -------
        DataFrame
            node (int32), activation_max (float32), start_bp (int64, of the strongest position),
            n_positions (int64, where it fires); strongest first.
        """
        entries = self.matrix.tocoo()
        rows = pd.DataFrame(
            {
                "node": entries.col.astype(np.int32),
                "activation_max": entries.data,
                "start_bp": self.start_bp[entries.row],
            }
        ).sort_values(["activation_max", "node"], ascending=[False, True], kind="stable")
        rows["n_positions"] = rows.groupby("node")["node"].transform("size")
        return rows.drop_duplicates("node").head(n).reset_index(drop=True)

    def plot(self, nodes: Sequence[int] | None = None) -> Plot:
        """Activation along the region, a row a node; left out: the five strongest nodes."""
        from saeborzoi.plots import activation_tracks

        chosen = self.strongest(5)["node"].tolist() if nodes is None else list(nodes)
        tracks = {int(node): self.of_node(int(node)) for node in chosen}
        return activation_tracks(self.start_bp, tracks, self.region.chrom)


def node_region(
    sae: SparseAutoencoder, layer: LayerRegion, region: Region, bp_per_position: int
) -> NodeRegion:
    """What an SAE makes of a layer's activations over a region."""
    value, node = sae.encode(layer.activation)
    fires = value > 0
    row = np.repeat(np.arange(len(value)), fires.sum(1))
    matrix = sparse.csr_array(
        (value[fires], (row, node[fires])), shape=(len(value), sae.n_nodes), dtype=np.float32
    )
    return NodeRegion(region, matrix, layer.start_bp, layer.window, bp_per_position, layer.origin)
