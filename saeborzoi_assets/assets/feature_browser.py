"""Static pages that show what each node of an SAE is, from the catalogue as it stands."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import saeborzoi
from saeborzoi.catalog.scope import Scope
from saeborzoi.catalog.store import COACTIVATION, COMPARISON_PAGE, Store
from saeborzoi.files import write_file
from saeborzoi_assets.common import artifact, explained, made_by
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import MOTIF_SHOWN, only_supported
from saeborzoi_assets.shown import check, path, say
from saeborzoi_resources.platform import Platform

START_PAGE = "index.html"
_MAX_MB = 40


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        every_node_has_a_page="the site has as many nodes as the SAE",
        light=f"the site is smaller than {_MAX_MB} MB",
    )
    def feature_browser(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """A folder of static pages that opens from a file, without a server or network. What is
        not yet computed shows as that: materialize it and then these pages again."""
        from saeborzoi.browser import assembly_of, write_site
        from saeborzoi.browser.labels import labels_file, write_labels
        from saeborzoi.motifs.background import genome_frequencies
        from saeborzoi.motifs.options import DiscoveryOptions

        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            trained = platform.artifact("trained_sae", sae.key)
            with platform.catalog.kept_open():
                version = platform.version_of("feature_browser", sae.key)
                tables = catalogued(platform, sae.key)
            output = platform.store.browser / sae.key
            say(context, f"pages of {sae.n_nodes} nodes")
            site = write_site(
                tables,
                trained,
                output,
                {
                    "project": settings.project.name,
                    "genome": settings.data.genome.name,
                    "code_version": saeborzoi.__version__,
                    "run": context.run.run_id,
                    "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "made_from": version.made_from,
                },
                known_motifs=known_motifs(settings.data.motif_sources),
                assembly=assembly_of(settings.data.genome),
                start_page=f"../{START_PAGE}",
                background=genome_frequencies(settings.data.genome).tolist()
                if settings.motifs.background == "genome"
                else None,
                both_strands=DiscoveryOptions(**settings.motifs.model_dump()).both_strands,
                variants=page_of_variants(platform, sae.key),
                data_version=version.digest,
                coactivation=_coactivation(platform, sae.key),
                labels=labels_file(sae.key),
            )
            labels = platform.catalog.rows("current_label", sae.key)
            write_labels(labels, platform.store.browser, sae.key)
            platform.record(made_by(context, version, output), Scope(sae_key=sae.key), tables={})
            start = write_list(platform)
        megabytes = site.n_bytes / 1e6
        return dg.MaterializeResult(
            metadata={
                "pages": path(site.index_html),
                "start_page": path(start),
                "open_with": f"saeborzoi browse {sae.key}",
                "megabytes": round(megabytes, 2),
                "n_files": site.n_files,
                **{f"n_{state.replace(' ', '_')}": n for state, n in site.nodes_by_state.items()},
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "every_node_has_a_page",
                    site.n_nodes == sae.n_nodes,
                    n_nodes=site.n_nodes,
                ),
                check("light", megabytes < _MAX_MB, megabytes=round(megabytes, 2)),
            ],
        )

    return feature_browser


def page_of_variants(platform: Platform, key: str) -> str | None:
    """The page of variants, where some were looked at."""
    from saeborzoi.browser import assembly_of
    from saeborzoi.browser.variant_page import variant_page
    from saeborzoi.genome.fasta import Genome
    from saeborzoi.motifs.options import DiscoveryOptions
    from saeborzoi.motifs.properties import as_matrix

    explained = platform.catalog.rows("variant_explained", key)
    if explained.empty:
        return None
    shown = platform.catalog.frame(MOTIF_SHOWN, [key])
    settings = platform.settings
    with Genome(settings.data.genome, cache=platform.store.genome_cache) as genome:
        return variant_page(
            settings.project.name,
            key,
            explained,
            genome,
            {int(row.node): as_matrix(row.matrix) for row in shown.itertuples()},
            both_strands=DiscoveryOptions(**settings.motifs.model_dump()).both_strands,
            assembly=assembly_of(settings.data.genome),
        )


def _coactivation(platform: Platform, key: str) -> Path | None:
    """Counts of nodes that fire together, where the SAE is not too wide for them."""
    file = platform.store.sae_artifact(key, "top_activations") / COACTIVATION
    return file if file.is_file() else None


def catalogued(platform: Platform, key: str) -> dict[str, pd.DataFrame]:
    """Every table of the SAE that the pages show, and which node partitions were made."""
    from saeborzoi.browser.tables import ASSET_OF_TABLE, REQUIRED
    from saeborzoi.motifs.controls import CONTROLS

    catalog, sae = platform.catalog, platform.sae(key)
    with catalog.kept_open():
        tables = {name: catalog.rows(name, key) for name in REQUIRED if name != "materialization"}
        node_partitions = [
            (asset, partition.node)
            for asset in dict.fromkeys(ASSET_OF_TABLE.values())
            for partition in catalog.partitions_made(asset, key)
        ]
        for name in ("motif", "motif_match"):
            tables[name] = only_supported(platform, sae, name)
        columns = ", ".join(["node", "motif", *CONTROLS, "fdr"])
        evidence = catalog.rows("motif_evidence", key, columns)
    tables["materialization"] = pd.DataFrame(node_partitions, columns=["asset", "node"])
    tables["sae"] = tables["sae"].assign(hyperparameters=key)
    tables["motif"] = tables["motif"].merge(evidence, on=["node", "motif"], how="left")
    return tables


def write_list(platform: Platform) -> Path:
    """The start page: every SAE of the catalogue, with links to its pages and to the comparison of
    all where they were written. The comparison's page is copied beside it, since the folder is
    served and sent around as it is."""
    from saeborzoi.browser import VARIANTS, write_start_page

    folder = platform.store.browser
    rows = platform.catalog.whole("sae_summary").sort_values("hyperparameters").to_dict("records")
    for row in rows:
        for name, file in (("href", "index.html"), ("variants_href", VARIANTS)):
            page = f"{row['hyperparameters']}/{file}"
            if (folder / page).is_file():
                row[name] = page
    comparison = _copy_comparison(platform.store)
    return write_start_page(rows, folder, platform.settings.project.name, comparison)


def _copy_comparison(store: Store) -> str | None:
    """Put the comparison's page into the folder of the pages, with links as from there; its name,
    None where there is none."""
    made = store.project_artifact("sae_comparison")
    copy = store.browser / COMPARISON_PAGE
    if not (made / COMPARISON_PAGE).is_file():
        copy.unlink(missing_ok=True)
        return None
    text = (made / COMPARISON_PAGE).read_text("utf-8")
    # no text of the page has a quotation mark, which is escaped
    there = f'href="{Path(os.path.relpath(store.browser, made)).as_posix()}/'
    with write_file(copy) as temporary:
        temporary.write_text(text.replace(there, 'href="'), encoding="utf-8")
    return COMPARISON_PAGE


def known_motifs(
    sources: Mapping[str, str],
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Matrix of every motif of the databases, by database and identifier."""
    from saeborzoi.motifs.databases import load_databases

    return {
        (database.name, target.identifier): target.matrix
        for database in load_databases(sources)
        for target in database.motifs
    }
