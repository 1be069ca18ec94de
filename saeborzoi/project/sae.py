"""One trained SAE of a project: the network, its nodes, and its activations over the genome."""

from __future__ import annotations

import difflib
import operator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import SAE_WEIGHTS, TOP_ACTIVATIONS, Store
from saeborzoi.errors import InputError, PartitionKeyError
from saeborzoi.project.node import Node
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings

if TYPE_CHECKING:
    import pandas as pd

    from saeborzoi.comparison.stability import Dictionary
    from saeborzoi.project.region import NodeRegion
    from saeborzoi.sae.model import SparseAutoencoder


class Sae:
    """A trained SAE of a project; made by `Project.sae`.

    Attributes
    ----------
    settings, catalog
        The project's.
    key
        Its partition key.
    hyperparameters
        What the key says.
    """

    def __init__(self, settings: Settings, catalog: Catalog, key: str) -> None:
        self.settings = settings
        self.catalog = catalog
        self.key = key
        self.hyperparameters = Hyperparameters.from_key(key)

    def __repr__(self) -> str:
        row = self.summary
        return (
            f"SAE {self.key}: {row['n_nodes']:,} nodes, FVU {row['fvu']:.3f}, L0 {row['l0']:.1f}, "
            f"{row['n_nodes_with_motif']:,} nodes with a motif, {row['n_nodes_with_match']:,} named"
        )

    def __len__(self) -> int:
        return self.n_nodes

    @cached_property
    def summary(self) -> pd.Series:
        """Row of view `sae_summary`: its figures, and what its nodes found."""
        return self.table("sae_summary").iloc[0].rename(self.key)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return int(self.summary["n_nodes"])

    @property
    def nodes(self) -> pd.DataFrame:
        """One row a node with everything known of it: view `node_summary`."""
        return self.table("node_summary").set_index("node")

    @cached_property
    def names(self) -> pd.Series:
        """What each node is called: see `Node.name`; the index is the node."""
        rows = self.table("node_summary").set_index("node")
        return rows["name"].fillna(rows["consensus"]).rename("name")

    @property
    def fidelity(self) -> pd.DataFrame:
        """How far the model's outputs stay as they are with the SAE in it: table `fidelity`, the
        index is what was spliced in (`sae`, `zero`, ...); each track is in `fidelity_track`."""
        self.catalog.require_made("fidelity", self.key)
        return self.table("fidelity").set_index("splice")

    def drivers(self, track: str) -> pd.DataFrame:
        """Which nodes drive a track of the model, the one that moves it most first: view
        `track_driver`.

        Raises
        ------
        InputError
            Where there is no such track; names the nearest.
        """
        self.catalog.require_made("node_effects", self.key)
        rows = self.table("track_driver")
        if track not in set(rows["track"]):
            known = sorted(set(rows["track"]))
            near = difflib.get_close_matches(track, known, 5, cutoff=0)
            raise InputError(
                f"no node's effect on track {track!r} is known; of {len(known):,} tracks the "
                f"nearest are {', '.join(near) or 'none'}"
            )
        rows = rows[rows["track"] == track].drop(columns="track")
        return rows.sort_values(["loci", "node_rank"], ignore_index=True)

    def table(self, name: str) -> pd.DataFrame:
        """This SAE's rows of a table or view of the catalogue."""
        return self.catalog.rows(name, self.key)

    def node(self, node: SupportsIndex) -> Node:
        """One of its nodes.

        Raises
        ------
        PartitionKeyError
            Where the SAE has no such node; names the nearest.
        """
        number = operator.index(node)
        if not 0 <= number < self.n_nodes:
            nearest = min(max(number, 0), self.n_nodes - 1)
            raise PartitionKeyError(
                f"{self.key} has {self.n_nodes:,} nodes, 0 to {self.n_nodes - 1}; there is no node "
                f"{number}; the nearest is {nearest}"
            )
        return Node(self.catalog, self.key, number)

    @cached_property
    def model(self) -> SparseAutoencoder:
        """The network itself, on the CPU, frozen."""
        from saeborzoi.sae.checkpoint import load_sae

        return load_sae(self._artifact("trained_sae"))

    def encode(self, x: Any) -> Any:
        """Active nodes of positions; see `SparseAutoencoder.encode`."""
        return self.model.encode(x)

    def decode(self, active: Any, normalized: Any) -> Any:
        """Reconstruction from active nodes; see `SparseAutoencoder.decode`."""
        return self.model.decode(active, normalized)

    def normalize(self, x: Any) -> Any:
        """Positions as the SAE sees them; see `SparseAutoencoder.normalize`."""
        return self.model.normalize(x)

    def __call__(self, x: Any) -> Any:
        """Reconstruction of positions, in the units of the shards."""
        return self.model(x)

    def activations(self, region: str | tuple[str, int, int]) -> NodeRegion:
        """Activations of every node over a region of the genome.

        Parameters
        ----------
        region
            `"chr1:1,000,000-1,030,000"`, counted from 1 with both ends included, as a genome
            browser shows it; or a tuple (chrom, start_bp, end_bp), 0-based and half-open.

        Returns
        -------
        NodeRegion
            Sparse (n_positions, n_nodes), with the coordinates of each position.

        Raises
        ------
        InputError
            Where the region is malformed, or no window of the layer's shards covers all of it and
            the settings have no model to compute it with.
        """
        from saeborzoi.genome.regions import parse_region
        from saeborzoi.project.region import node_region
        from saeborzoi.sae.data_fit import model_of
        from saeborzoi.sources.regions import layer_region

        layer = self.settings.layer_named(self.hyperparameters.layer)
        where = parse_region(region)
        return node_region(
            self.model,
            layer_region(
                self.settings,
                layer,
                where,
                Store(self.settings.project.store).genome_cache,
                model_of(self._artifact("trained_sae")),
            ),
            where,
            layer.bp_per_position,
        )

    @property
    def variant_sets(self) -> pd.DataFrame:
        """One row a `[[variants]]`: variant_set, path, controls, n_variants, n_skipped,
        n_beyond_controls (q of their effect at most 0.05) and n_acting (through a node).

        Raises
        ------
        CatalogError
            Where variant_nodes of this SAE is not made yet.
        """
        from saeborzoi.project.variant import sets_table

        return sets_table(self.catalog, self.key, self.settings.variants)

    def variants(self, variant_set: str) -> pd.DataFrame:
        """A set's variants, the largest effect first, each with the track that it moves most and
        the strongest node that it acts through.

        Returns
        -------
        DataFrame
            variant, name, kind, track, effect, effect_norm, p_value, q_value, node, target_name,
            share, state; node to state are missing where it acts through none.

        Raises
        ------
        InputError
            Where the set is not in the catalogue.
        CatalogError
            Where variant_nodes of this SAE is not made yet.
        """
        from saeborzoi.project.variant import set_table

        return set_table(self.catalog, self.key, variant_set)

    def variant_enrichment(self, variant_set: str, controls: str | None = None) -> pd.DataFrame:
        """Nodes through which variants of a set act more often than matched controls.

        Parameters
        ----------
        variant_set
            Name of a `[[variants]]`.
        controls
            Name of the set of controls; left out, the one that the settings name.

        Returns
        -------
        DataFrame
            As `saeborzoi.effects.variant_enrichment.node_enrichment` gives it.

        Raises
        ------
        InputError
            Where there is no such set, or none of controls.
        """
        from saeborzoi.project.variant import enrichment

        named = {each.name: each.controls for each in self.settings.variants}
        against = controls or named.get(variant_set)
        if against is None:
            raise InputError(
                f"variants {variant_set!r} have no controls; set `controls` in their [[variants]], "
                "or name a set"
            )
        return enrichment(self.catalog, self.key, variant_set, against)

    def variants_vcf(self, variant_set: str, path: Path | str) -> int:
        """Write a set's variants as VCF, with what they do and the nodes behind it as INFO.

        Returns
        -------
        Number of variants.

        Raises
        ------
        InputError
            Where the set is not in the catalogue.
        """
        from saeborzoi.project.variant import write_vcf

        return write_vcf(self.catalog, self.key, variant_set, Path(path))

    def _artifact(self, asset: str) -> Path:
        self.catalog.require_made(asset, self.key)
        return self.catalog.artifacts(asset, self.key)[0]

    def dictionary(self) -> Dictionary:
        """Directions and top positions of its nodes, to compare with another SAE's."""
        from saeborzoi.comparison.stability import read_dictionary

        return read_dictionary(
            self._artifact("trained_sae") / SAE_WEIGHTS,
            self._artifact("top_activations") / TOP_ACTIVATIONS,
        )
