"""Static pages that show what each node of an SAE is, from the catalogue as it stands."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import saeborzoi
from saeborzoi.catalog.scope import Scope
from saeborzoi.settings.sections import MotifDatabase
from saeborzoi_assets.assets.annotation_overlaps import NAME as ANNOTATION_OVERLAPS
from saeborzoi_assets.assets.jaccard_matrix import NAME as JACCARD_MATRIX
from saeborzoi_assets.assets.meme_motifs import NAME as MEME_MOTIFS
from saeborzoi_assets.assets.motif_evidence import NAME as MOTIF_EVIDENCE
from saeborzoi_assets.assets.seqlets import NAME as SEQLETS
from saeborzoi_assets.assets.tomtom_matches import NAME as TOMTOM_MATCHES
from saeborzoi_assets.assets.top_activations import NAME as TOP_ACTIVATIONS
from saeborzoi_assets.assets.trained_sae import NAME as TRAINED_SAE
from saeborzoi_assets.assets.umap_embedding import NAME as UMAP_EMBEDDING
from saeborzoi_assets.common import (
    OWNERS,
    check,
    check_specs,
    explained,
    made_by,
    only_supported,
    path,
    say,
)
from saeborzoi_assets.partitions import Partitions
from saeborzoi_resources.platform import Platform, Version

NAME = "feature_browser"
CODE_VERSION = "1"
INPUTS = (
    TRAINED_SAE,
    TOP_ACTIVATIONS,
    SEQLETS,
    MEME_MOTIFS,
    MOTIF_EVIDENCE,
    TOMTOM_MATCHES,
    UMAP_EMBEDDING,
    ANNOTATION_OVERLAPS,
    JACCARD_MATRIX,
)
_MAX_MB = 40


def version_of(platform: Platform, key: str, nodes: Sequence[int] | None = None) -> Version:
    """What an SAE's pages are made from now."""
    from saeborzoi.motifs.databases import database_files

    settings = platform.settings
    return platform.version(
        NAME,
        CODE_VERSION,
        key,
        sections={
            "genome": settings.data.genome.name,
            "motif_database": [each.model_dump() for each in settings.data.motif_database],
        },
        files=database_files(settings.data.motif_database),
        inputs=INPUTS,
    )


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @dg.asset(
        name=NAME,
        partitions_def=partitions.sae,
        deps=list(INPUTS),
        group_name="pages",
        kinds={"html", "javascript"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        check_specs=check_specs(
            NAME,
            every_node_has_a_page="the site has as many nodes as the SAE",
            light=f"the site is smaller than {_MAX_MB} MB",
        ),
    )
    def feature_browser(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """A folder of static pages that opens from a file, without a server or network. What is
        not yet computed shows as that: materialize it and then these pages again."""
        from saeborzoi.browser import assembly_of, write_site

        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            artifact = platform.store.sae_artifact(sae.key, TRAINED_SAE)
            platform.store.require_artifact(artifact, TRAINED_SAE, sae.key)
            platform.catalog.require_made(TRAINED_SAE, sae.key)
            version = version_of(platform, sae.key)
            output = platform.store.browser / sae.key
            say(context, f"pages of {sae.n_nodes} nodes")
            site = write_site(
                catalogued(platform, sae.key),
                artifact,
                output,
                {
                    "project": settings.project.name,
                    "genome": settings.data.genome.name,
                    "code_version": saeborzoi.__version__,
                    "run": context.run.run_id,
                    "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "made_from": version.made_from,
                },
                known_motifs=known_motifs(settings.data.motif_database),
                assembly=assembly_of(settings.data.genome),
                start_page="../index.html",
            )
            platform.record(
                made_by(context, version, output), Scope(hyperparameters=sae.key), tables={}
            )
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


def catalogued(platform: Platform, key: str) -> dict[str, pd.DataFrame]:
    """Every table of the SAE that the pages show, and which node partitions were made."""
    from saeborzoi.browser.tables import ASSET_OF_TABLE, REQUIRED

    catalog = platform.catalog
    tables = {name: catalog.rows(name, key) for name in REQUIRED if name != "materialization"}
    made = [
        (asset, partition.node)
        for asset in dict.fromkeys(ASSET_OF_TABLE.values())
        for partition in catalog.partitions_made(asset, key)
    ]
    tables["materialization"] = pd.DataFrame(made, columns=["asset", "node"])
    tables["sae"] = tables["sae"].assign(hyperparameters=key)
    sae = platform.sae(key)
    for name in ("motif", "motif_match"):
        tables[name] = only_supported(platform, sae, tables[name])
    evidence = catalog.rows("motif_evidence", key, "node, motif, odds_ratio_other_nodes, fdr")
    tables["motif"] = tables["motif"].merge(evidence, on=["node", "motif"], how="left")
    return tables


def write_list(platform: Platform) -> Path:
    """The start page: every SAE of the catalogue, with a link where its pages were written."""
    from saeborzoi.browser import write_start_page

    folder = platform.store.browser
    rows = platform.catalog.whole("sae_summary").sort_values("hyperparameters").to_dict("records")
    for row in rows:
        page = f"{row['hyperparameters']}/index.html"
        if (folder / page).is_file():
            row["href"] = page
    return write_start_page(rows, folder, platform.settings.project.name)


def known_motifs(
    wanted: Sequence[MotifDatabase],
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Matrix of every motif of the databases, by database and identifier."""
    from saeborzoi.motifs.databases import load_databases

    return {
        (database.name, target.identifier): target.matrix
        for database in load_databases(wanted)
        for target in database.motifs
    }
