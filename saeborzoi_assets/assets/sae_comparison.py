"""Every trained SAE of the project against the others: which is best, which nodes come back."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from saeborzoi.catalog.scope import PROJECT, Scope
from saeborzoi.catalog.store import COMPARISON_PAGE, SAE_WEIGHTS, TOP_ACTIVATIONS
from saeborzoi.comparison import stability
from saeborzoi.comparison import table as comparison
from saeborzoi.comparison.baselines import beside_baselines, no_better
from saeborzoi.errors import CatalogError
from saeborzoi.files import write_file
from saeborzoi.jobs.fingerprint import fingerprint_of
from saeborzoi.jobs.provenance import provenance
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi_assets.assets.feature_browser import START_PAGE, write_list
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import MOTIF_SHOWN
from saeborzoi_assets.shown import check, image, path, say, table
from saeborzoi_resources.platform import Platform, Version, write_tables

if TYPE_CHECKING:  # imports Matplotlib
    from saeborzoi.comparison.side_by_side import Shown
    from saeborzoi.figures import Plot


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset; not partitioned: it is about all SAEs."""

    @artifact(
        partitions,
        every_sae_compared="each trained SAE has one row",
        matched_at_most_once="no SAE has more nodes in pairs than it has",
        recurs_in_itself="an SAE compared with itself finds all of its nodes",
        better_than_untrained="each trained SAE is better than the untrained dictionary of its "
        "layer by variance explained, what the model keeps, share of motifs with a name and their "
        "enrichment",
    )
    def sae_comparison(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """FVU, L0, dead nodes, what the nodes found and what it cost, for every trained SAE; the
        Pareto front; what was never trained beside them; nodes that recur between seeds and
        between hyperparameters."""
        from saeborzoi.comparison import plots as comparison_plots
        from saeborzoi.comparison.page import comparison_page
        from saeborzoi.comparison.side_by_side import side_by_side

        with explained():
            platform.store.require_writable()
            version = platform.version_of("sae_comparison", PROJECT)
            saes = sorted(version.made_from["inputs"]["trained_sae"])
            if not saes:
                raise CatalogError(
                    "no SAE is trained yet, so there is nothing to compare; materialize trained_sae"
                )
            most: list[tuple[str, str, stability.Matches]] = []
            matches = _with_most(_matches(context, platform, version), most)
            pairs, nodes = stability.summarize(matches)
            with platform.catalog.kept_open():
                summary, archetypes, concept = (
                    platform.catalog.whole(name)
                    for name in ("sae_summary", "archetype_by_sae", "concept")
                )
            compared = comparison.comparison_table(summary, archetypes, pairs)
            beside = beside_baselines(compared)
            tables = {
                "sae_comparison": compared,
                "baseline_comparison": beside,
                "sae_stability": pairs,
                "node_recurrence": nodes,
            }
            plots = {
                "reconstruction": comparison_plots.reconstruction(compared),
                **_of_fidelity(compared),
                "findings": comparison_plots.findings(compared),
                # of one SAE it would be a square that says nothing
                **_of_several(compared, pairs),
            }
            concepts = comparison.concepts_found(concept, compared["hyperparameters"].tolist())
            only = comparison.archetypes_by_settings(archetypes)
            output = platform.store.project_artifact("sae_comparison")
            pages = _pages(platform, output, saes)
            page = comparison_page(
                platform.settings.project.name,
                compared,
                beside,
                pairs,
                only,
                concepts,
                plots,
                pages,
                side_by_side(most, _shown(platform, most, pages)),
                start_page=_from(output, platform.store.browser / START_PAGE),
            )
            write_tables(
                output, tables, version, provenance(None), {COMPARISON_PAGE: page.encode()}
            )
            platform.record(made_by(context, version, output), Scope(), tables)
            write_list(platform)
        too_many = (pairs["n_matched"] > pairs[["n_nodes_a", "n_nodes_b"]].min(axis=1)).sum()
        recurring = _recurring_in_itself(platform, saes)
        return dg.MaterializeResult(
            metadata={
                "saes": table(comparison.shown(compared), 100),
                "n_saes": len(compared),
                "n_pareto": int(compared["is_pareto"].sum()),
                "n_pairs": len(pairs),
                **{name: image(figure) for name, figure in plots.items()},
                "beside_baselines": table(beside, 100),
                "concepts_found": table(concepts, 40),
                "archetypes_of_settings": table(only, 40),
                "comparison_page": path(output / COMPARISON_PAGE),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "every_sae_compared",
                    sorted(compared["hyperparameters"]) == saes,
                    n_saes=len(saes),
                ),
                check("matched_at_most_once", too_many == 0, n_wrong=int(too_many)),
                check("recurs_in_itself", recurring >= 0.99, share=recurring),
                check(
                    "better_than_untrained",
                    not no_better(beside),
                    n_compared=int(beside["hyperparameters"].nunique()),
                    no_better="; ".join(no_better(beside)) or "nothing",
                ),
            ],
        )

    return sae_comparison


def _of_several(compared: pd.DataFrame, pairs: pd.DataFrame) -> "dict[str, Plot]":
    from saeborzoi.comparison import plots

    return {"stability": plots.stability(compared, pairs)} if len(compared) > 1 else {}


def _of_fidelity(compared: pd.DataFrame) -> "dict[str, Plot]":
    """The plot, where an SAE was tried in its model."""
    from saeborzoi.comparison import plots

    return (
        {"fidelity": plots.fidelity(compared)} if compared["recovered_mean"].notna().any() else {}
    )


def _pages(platform: Platform, output: Path, saes: Sequence[str]) -> dict[str, str]:
    """SAEs that have pages, and where they are as seen from the comparison's."""
    pages = {key: platform.store.browser / key / "index.html" for key in saes}
    return {key: _from(output, page) for key, page in pages.items() if page.is_file()}


def _from(folder: Path, page: Path) -> str:
    """A page's place as a file in `folder` links to it."""
    return Path(os.path.relpath(page, folder)).as_posix()


def _files(platform: Platform, key: str) -> tuple[Path, Path]:
    """Weights and top positions of an SAE, as they were written."""
    return (
        platform.artifact("trained_sae", key) / SAE_WEIGHTS,
        platform.artifact("top_activations", key) / TOP_ACTIVATIONS,
    )


def _comparable(platform: Platform, inputs: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Trained SAEs with top positions, by layer."""
    layers: dict[str, list[str]] = {}
    for key in sorted(set(inputs["trained_sae"]) & set(inputs["top_activations"])):
        hyperparameters = Hyperparameters.from_key(key)
        if not hyperparameters.is_baseline:
            layers.setdefault(hyperparameters.layer, []).append(key)
    return list(layers.values())


def _matches(
    context: dg.AssetExecutionContext, platform: Platform, version: Version
) -> Iterator[tuple[str, str, stability.Matches]]:
    """Every pair of SAEs of a layer; pairs of SAEs that did not change are not compared again.

    A pair's result is kept in the store's work folder, named by what it was made from.
    """
    inputs = version.made_from["inputs"]
    limits = platform.settings.comparison
    work = platform.store.work(PROJECT, "sae_comparison")
    read = lru_cache(2 * stability.TILE)(
        lambda key: stability.read_dictionary(*_files(platform, key))
    )
    used = set()
    n_made = 0
    for layer in _comparable(platform, inputs):
        for a, b in stability.tiled_pairs(layer):
            made_from = [
                [inputs[asset][key] for asset in ("trained_sae", "top_activations")]
                for key in (a, b)
            ]
            name = fingerprint_of([a, b, made_from, limits.model_dump(), version.made_from["code"]])
            file = work / f"{name}.npz"
            used.add(file.name)
            if file.exists():
                matches = stability.load_matches(file)
            else:
                matches = stability.match_nodes(
                    read(a), read(b), limits.min_cosine, limits.min_jaccard
                )
                with write_file(file) as temporary:
                    stability.save_matches(matches, temporary)
                n_made += 1
                if n_made % 25 == 1:
                    say(context, f"comparing {a} with {b}: pair {len(used)}")
            yield a, b, matches
    for file in work.glob("*.npz"):
        if file.name not in used:
            file.unlink()
    say(context, f"{len(used)} pairs of SAEs, {n_made} compared anew")


def _with_most(
    matches: Iterator[tuple[str, str, stability.Matches]],
    most: list[tuple[str, str, stability.Matches]],
) -> Iterator[tuple[str, str, stability.Matches]]:
    """Pass matches on, and keep in `most` those of the pairs with most nodes in common."""
    from saeborzoi.comparison.side_by_side import MAX_PAIRS

    for each in matches:
        yield each
        if len(each[2].node_a):
            most.append(each)
            most.sort(key=lambda pair: (-len(pair[2].node_a), pair[:2]))
            del most[MAX_PAIRS:]


def _shown(
    platform: Platform,
    pairs: Sequence[tuple[str, str, stability.Matches]],
    pages: Mapping[str, str],
) -> "dict[str, Shown]":
    """Names, motifs and pages of the nodes of some SAEs."""
    from saeborzoi.comparison.side_by_side import Shown
    from saeborzoi.motifs.properties import as_matrix

    shown = {}
    for key in {key for a, b, _ in pairs for key in (a, b)}:
        nodes = platform.catalog.rows("node_summary", key, "node, label, name, consensus")
        names = nodes["label"].fillna(nodes["name"]).fillna(nodes["consensus"])
        motifs = platform.catalog.frame(MOTIF_SHOWN, [key])
        shown[key] = Shown(
            {int(n): str(v) for n, v in zip(nodes["node"], names, strict=True) if pd.notna(v)},
            {int(row.node): as_matrix(row.matrix) for row in motifs.itertuples()},
            pages.get(key),
        )
    return shown


def _recurring_in_itself(platform: Platform, saes: Sequence[str]) -> float:
    """Share of an SAE's nodes that it finds in itself; 1 where no SAE has top positions yet."""
    for key in saes:
        if platform.store.sae_artifact(key, "top_activations").exists():
            dictionary = stability.read_dictionary(*_files(platform, key))
            limits = platform.settings.comparison
            matches = stability.match_nodes(
                dictionary, dictionary, limits.min_cosine, limits.min_jaccard
            )
            return len(matches.node_a) / max(matches.n_a, 1)
    return 1.0
