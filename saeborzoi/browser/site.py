"""Writes the feature browser: a folder of static files that opens without a server.

`write_site` makes the pages of one SAE, `write_start_page` the list of all SAEs of a project.
What the pages look like and do belongs to `static/`; the file formats are in `docs/browser.md`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.browser import node_pages
from saeborzoi.browser.encoding import number, pack_matrix, script
from saeborzoi.browser.neighbours import (
    by_coactivation,
    by_decoder,
    by_jaccard,
    by_motif,
    read_decoder,
)
from saeborzoi.browser.overview import Target, dictionaries, overview
from saeborzoi.browser.tables import REQUIRED, STATE_NAMES, SaeTables, best_motifs
from saeborzoi.files import write_file
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.motifs.background import letter_shares
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.nodes import bands

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "saeborzoi-feature-browser"
FORMAT_VERSION = 1
VARIANTS = "variants.html"
SCRIPTS = (
    "core.js", "data.js", "logo.js", "search.js", "state.js", "notes.js", "table.js", "colours.js",
    "clusters.js",
    "map.js", "export.js", "node.js", "panels.js", "motif_panels.js", "effect_panel.js",
    "concept_panel.js", "profile_panel.js", "locus.js",
    "seqlet_panel.js", "about.js", "app.js",
)  # fmt: skip
"""Sources of the one script of a site, in the order in which they are joined."""
START_SCRIPTS = ("core.js", "start.js")
_ASSEMBLIES = re.compile(r"hg19|hg38|hs1|mm9|mm10|mm39|dm6|ce11|danRer11|rn7|sacCer3")


class SiteFigures(NamedTuple):
    """What was written."""

    n_nodes: int
    n_files: int
    n_bytes: int
    nodes_by_state: dict[str, int]
    index_html: Path


def assembly_of(genome: Path | str) -> str | None:
    """The UCSC assembly that a genome's file name tells, None where it tells none.

    >>> assembly_of("/data/hg38.chr1.fa.gz"), assembly_of("demo.fa")
    ('hg38', None)
    """
    match = _ASSEMBLIES.search(Path(genome).name)
    return match.group() if match else None


def write_site(
    tables: Mapping[str, pd.DataFrame],
    sae_artifact: Path | None,
    folder: Path,
    provenance: Mapping[str, Any],
    known_motifs: Mapping[Target, NDArray[np.float64]] | None = None,
    assembly: str | None = None,
    start_page: str | None = None,
    background: Sequence[float] | None = None,
    both_strands: bool = False,
    variants: str | None = None,
    data_version: str = "",
    coactivation: Path | None = None,
    labels: str | None = None,
) -> SiteFigures:
    """Write the pages of one SAE; what was in `folder` before is replaced when all is written.

    Parameters
    ----------
    tables
        Catalogue table name to frame, filtered to one SAE, with or without the column
        `hyperparameters`; a table that is missing or empty shows as not yet computed.
    sae_artifact
        `sae.safetensors` or the folder with it, for the nearest nodes by decoder; None without.
    folder
        Where the site goes.
    provenance
        What made the site, JSON-able; stands in `manifest.json` and on the page.
    known_motifs
        (database, target_id) to position probability matrix (width, 4); alignments with targets
        that it lacks show the node's motif alone.
    assembly
        UCSC name of the genome, e.g. ``hg38``; None: coordinates without links.
    start_page
        Link from the site to the project's start page, e.g. ``../index.html``; None: no link.
    background
        Frequencies of A C G T against which the motifs were found, for their MEME text; None:
        those of all seqlets.
    both_strands
        Whether a motif's sites may lie on either strand.
    variants
        The page of the SAE's variants; None: no such page, and no link to one.
    data_version
        Version of what the site was made from, for `provenance.json`.
    coactivation
        `coactivation.npz` of `top_activations`, for the nodes that fire together; None without.
    labels
        File beside `folder` with what people call nodes, as `write_labels` writes it; None: none.

    Raises
    ------
    InputError
        Where tables do not belong together, lack a column, or the decoder does not fit.
    StoreError
        Where the folder cannot be written.
    """
    sae = SaeTables(tables)
    names = dictionaries(sae)
    states = sae.states()
    motif_of = best_motifs(sae)
    counts = {STATE_NAMES[state]: n for state, n in sorted(Counter(states).items())}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hyperparameters": sae.key,
        "n_nodes": sae.n_nodes,
        "nodes_by_state": counts,
        "nodes_per_file": node_pages.NODES_PER_FILE,
        "seqlets_per_band": bands.SEQLETS_PER_BAND,
        "bands": list(bands.BANDS),
        "matches_per_motif": node_pages.MATCHES_PER_MOTIF,
        "assembly": assembly,
        "start_page": start_page,
        "variants_page": None if variants is None else VARIANTS,
        "labels": None if labels is None else f"../{labels}",
        "meme": _meme(sae, background, both_strands),
        "computed": {name: sae.is_computed(name) for name in REQUIRED if name != "materialization"},
        "rows": {name: len(sae[name]) for name in REQUIRED},
        "provenance": dict(provenance),
    }
    # JSON has no dates or paths: what provenance brings is turned into text once, here
    manifest = json.loads(json.dumps(manifest, default=str))
    nearest = _nearest(sae, sae_artifact, motif_of)
    if coactivation is not None:
        nearest["together"] = by_coactivation(coactivation, sae["node"])
    with write_artifact(folder, data_version, {"job": None}) as temporary:
        data = temporary / "data"
        data.mkdir()
        document = {"manifest": manifest, **overview(sae, states, motif_of, names)}
        _write(data / "overview.js", script("overview", document))
        _write(data / "targets.js", script("targets", _packed(names.target, known_motifs or {})))
        for i, page_file in enumerate(node_pages.page_files(sae, names, nearest)):
            _write(data / f"nodes-{i:04d}.js", script(f"nodes-{i:04d}", page_file))
        _write(temporary / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        _write(temporary / "index.html", _static("index.html"))
        if variants is not None:
            _write(temporary / VARIANTS, variants)
        _write(temporary / "browser.js", _joined(SCRIPTS))
        _write(temporary / "browser.css", _static("browser.css"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    return SiteFigures(sae.n_nodes, len(files), n_bytes, counts, folder / "index.html")


def write_start_page(
    rows: Iterable[Mapping[str, Any]],
    folder: Path,
    project: str = "",
    comparison: str | None = None,
) -> Path:
    """Write the page that lists the SAEs of a project beside their sites; returns its path.

    Parameters
    ----------
    rows
        One mapping an SAE: the columns of the view `sae_summary`, `href` (its site relative to
        `folder`, left out where it was not made) and `variants_href` (its page of variants).
    folder
        Where the page goes; its other files stay.
    project
        Name of the project.
    comparison
        The page that compares the SAEs, relative to `folder`; None: no link to one.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "project": project,
        "comparison": comparison,
        "saes": [
            {
                name: value if isinstance(value, str) else number(value, 6)
                for name, value in row.items()
                if name != "artifact"
            }
            for row in rows
        ],
    }
    for name, content in (
        ("start.css", _static("browser.css")),
        ("start.js", _joined(START_SCRIPTS)),
        ("start-data.js", script("start", document)),
        ("index.html", _static("start.html")),
    ):
        with write_file(folder / name) as temporary:
            _write(temporary, content)
    return folder / "index.html"


def _meme(sae: SaeTables, background: Sequence[float] | None, both_strands: bool) -> dict[str, Any]:
    """What heads the MEME text of the SAE's motifs."""
    if background is None:
        sequences = sae["seqlet"]["sequence"].tolist() if sae.is_computed("seqlet") else ()
        background = letter_shares(sequences, both_strands).tolist()
    return {
        "background": [round(float(share), 5) for share in background],
        "strands": "+ -" if both_strands else "+",
    }


def _nearest(sae: SaeTables, artifact: Path | None, motif_of: dict[int, int]) -> dict[str, Any]:
    nearest = {}
    if sae.is_computed("node_jaccard"):
        nearest["jaccard"] = by_jaccard(sae["node_jaccard"])
    if artifact is not None and sae.n_nodes:
        nearest["decoder"] = by_decoder(read_decoder(artifact, sae.n_nodes))
    if sae.is_computed("motif"):
        motif = sae["motif"]
        nearest["motif"] = by_motif(
            {
                int(node): as_matrix(matrix)
                for node, number_, matrix in zip(
                    motif["node"], motif["motif"], motif["matrix"], strict=True
                )
                if motif_of.get(int(node)) == number_
            }
        )
    return nearest


def _packed(
    targets: Mapping[Target, int], known: Mapping[Target, NDArray[np.float64]]
) -> list[str | None]:
    """Packed matrix of each target in the order of its number; None where it is not known."""
    return [pack_matrix(np.asarray(known[key])) if key in known else None for key in targets]


def _static(name: str) -> str:
    return resources.files("saeborzoi.browser").joinpath("static", name).read_text("utf-8")


def _joined(names: Iterable[str]) -> str:
    """The scripts one after another, under one strict mode and out of each other's way."""
    parts = "\n".join(_static(name) for name in names)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")
