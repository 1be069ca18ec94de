"""A project: opened, asked for its SAEs and tables, and two of its SAEs compared."""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError, PartitionKeyError, counted
from saeborzoi.project.node import Node
from saeborzoi.project.sae import Sae
from saeborzoi.settings.load import FILE_NAME, Settings, find_settings_file, load_settings

if TYPE_CHECKING:
    import pandas as pd

    from saeborzoi.comparison.stability import Matches
    from saeborzoi.project.region import NodeRegion
    from saeborzoi.project.variant import VariantReport

_SUMMARY_COLUMNS = (
    "hyperparameters, n_nodes, fvu, validation_fvu, l0, dead_fraction, n_selected, "
    "n_nodes_with_motif, n_nodes_with_match, n_archetypes"
)


def open_project(path: Path | str | None = None) -> Project:
    """Open a project to read from; `saeborzoi.open`.

    Parameters
    ----------
    path
        Its settings file, or a folder that holds it or lies below one that does; left out: from
        SAEBORZOI_PROJECT or the working directory.

    Raises
    ------
    SettingsError
        Where there are no settings, or they do not hold.
    """
    if path is not None:
        path = Path(path).expanduser()
    if path is None or path.is_dir():
        path = find_settings_file(path)
    return Project(load_settings(path), path)


class SaeComparison:
    """Which nodes of two SAEs are the same; `repr` says how many.

    Attributes
    ----------
    a, b
        The two SAEs.
    matches
        As `saeborzoi.comparison.stability.match_nodes` gives them.
    """

    def __init__(self, a: Sae, b: Sae, matches: Matches) -> None:
        self.a, self.b, self.matches = a, b, matches

    @property
    def share_a(self) -> float:
        """Share of the first SAE's nodes that fire which the second has too."""
        return len(self.matches.node_a) / max(self.matches.n_a, 1)

    @property
    def share_b(self) -> float:
        """Share of the second SAE's nodes that fire which the first has too."""
        return len(self.matches.node_b) / max(self.matches.n_b, 1)

    @property
    def nodes(self) -> pd.DataFrame:
        """One row a pair of nodes that are the same: node_a, name_a, node_b, name_b, cosine,
        jaccard."""
        import pandas as pd

        matches = self.matches
        return pd.DataFrame(
            {
                "node_a": matches.node_a,
                "name_a": self.a.names.reindex(matches.node_a).to_numpy(),
                "node_b": matches.node_b,
                "name_b": self.b.names.reindex(matches.node_b).to_numpy(),
                "cosine": matches.cosine,
                "jaccard": matches.jaccard,
            }
        )

    def __repr__(self) -> str:
        return (
            f"{len(self.matches.node_a):,} nodes are the same: {self.share_a:.0%} of the "
            f"{self.matches.n_a:,} that fire of {self.a.key}, {self.share_b:.0%} of the "
            f"{self.matches.n_b:,} of {self.b.key}"
        )

    def _repr_html_(self) -> str:
        table = self.nodes.to_html(index=False, max_rows=20, float_format="{:.3f}".format)
        return f"<p>{html.escape(repr(self))}</p>{table}"


class Project:
    """One project: settings, store and catalogue.

    Attributes
    ----------
    settings, store, catalog
        What `dagster_project.toml` says, where files lie, and every result table.
    path
        The settings file.
    """

    def __init__(self, settings: Settings, path: Path | str = FILE_NAME) -> None:
        self.settings = settings
        self.path = Path(path)
        self.store = Store(settings.project.store)
        self.catalog = Catalog(self.store.catalog)

    def __repr__(self) -> str:
        n_trained = len(list(self.store.root.glob("saes/*/trained_sae")))
        layers = ", ".join(layer.name for layer in self.settings.layer)
        return (
            f"Project {self.settings.project.name!r} ({self.path}): "
            f"{counted(n_trained, 'SAE')} trained, {len(self.settings.wanted())} in the settings, "
            f"{counted(len(self.settings.layer), 'layer')}: {layers}"
        )

    def _repr_html_(self) -> str | None:
        if not self.saes:
            return None
        frame = self.query(f"SELECT {_SUMMARY_COLUMNS} FROM sae_summary ORDER BY 1")
        table = frame.to_html(index=False, float_format=lambda number: f"{number:.3g}")
        return f"<p>{html.escape(repr(self))}</p>{table}"

    @property
    def saes(self) -> list[str]:
        """Partition keys of the trained SAEs."""
        if not self.catalog.path.exists():
            return []
        return self.query("SELECT hyperparameters FROM sae ORDER BY ALL")[
            "hyperparameters"
        ].tolist()

    def sae(self, key: str) -> Sae:
        """A trained SAE by its partition key.

        Raises
        ------
        PartitionKeyError
            Where no such SAE is trained; names the nearest that is.
        """
        trained = self.saes
        if key in trained:
            return Sae(self.settings, self.catalog, key)
        if key in [hyperparameters.key for hyperparameters in self.settings.wanted()]:
            raise PartitionKeyError(f"SAE {key!r} is not trained yet; `saeborzoi run` makes it")
        if not trained:
            raise PartitionKeyError(
                f"no SAE of {self.settings.project.name} is trained yet; `saeborzoi run` makes them"
            )
        nearest = difflib.get_close_matches(str(key), trained, n=1, cutoff=0)[0]
        raise PartitionKeyError(
            f"no SAE {key!r} among the {len(trained)} trained ones; the nearest is {nearest!r}"
        )

    def node(self, key: str, node: SupportsIndex) -> Node:
        """A node of an SAE; raises as `sae` and `Sae.node`."""
        return self.sae(key).node(node)

    def table(self, name: str, key: str | None = None) -> pd.DataFrame:
        """A table or view of the catalogue: all of it, or the rows of one SAE.

        Raises
        ------
        CatalogError
            Where there is no such table; names the nearest.
        """
        if key is None:
            return self.catalog.whole(name)
        return self.catalog.rows(name, self.sae(key).key)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Result of a query of the catalogue, in DuckDB's SQL; `?` stand for `parameters`."""
        return self.catalog.frame(sql, parameters)

    def activations(self, key: str, region: str | tuple[str, int, int]) -> NodeRegion:
        """Activations of every node of an SAE over a region; see `Sae.activations`."""
        return self.sae(key).activations(region)

    def variant(self, variant: str, key: str, variant_set: str | None = None) -> VariantReport:
        """What a variant does to the model's outputs, and through which nodes of an SAE.

        Parameters
        ----------
        variant
            `"1:12345:A:G"` (or with `-`), pos counts from 1; the left-aligned shortest form
            of it is looked up.
        key
            Partition key of the SAE.
        variant_set
            Name of its `[[variants]]`; left out, the first set that has it.

        Raises
        ------
        InputError
            Where it does not fit the genome, or was not looked at; names the nearest.
        PartitionKeyError
            Where no such SAE is trained.
        """
        from saeborzoi.genome.fasta import Genome
        from saeborzoi.genome.variants import parse_variant
        from saeborzoi.project.variant import variant_report

        sae = self.sae(key)
        with Genome(self.settings.data.genome, cache=self.store.genome_cache) as genome:
            parsed = parse_variant(variant, genome)
        return variant_report(self.catalog, sae.key, parsed, variant_set)

    def compare(self, a: str, b: str) -> SaeComparison:
        """Which nodes of two SAEs of a layer are the same, by direction and by where they fire.

        Raises
        ------
        InputError
            Where they are of different layers, or their top positions are not made yet.
        """
        from saeborzoi.comparison.stability import match_nodes

        first, second = self.sae(a), self.sae(b)
        if first.hyperparameters.layer != second.hyperparameters.layer:
            raise InputError(
                f"{a} and {b} read different layers, whose directions mean different things; "
                "compare SAEs of one layer"
            )
        comparison = self.settings.comparison
        matches = match_nodes(
            first.dictionary(), second.dictionary(), comparison.min_cosine, comparison.min_jaccard
        )
        return SaeComparison(first, second, matches)
