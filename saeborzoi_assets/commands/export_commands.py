"""The command `export`: all of an SAE as files for other programs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.catalog.store import Store
from saeborzoi.errors import MissingPackageError, SaeBorzoiError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.terminal import parse_nodes, terminal_of


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(export)


def export(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Partition key of the SAE.")],
    output: Annotated[Path, typer.Argument(help="Folder to make; must not be there yet.")],
    nodes: Annotated[
        str | None, typer.Option(help="Nodes that get a bigWig over all the data, e.g. 3,7-9.")
    ] = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="Make one zip of the folder beside it, too.")
    ] = False,
) -> None:
    """Write an SAE as files: weights, tables, motifs, seqlets as BED and bigBed, tracks, a
    UCSC hub, an IGV session, AnnData.

    Example: saeborzoi export conv1d_1_x4_k0.05_lr0.003_s0 out --nodes 135 --archive
    """
    from saeborzoi.browser import assembly_of
    from saeborzoi.files import write_folder
    from saeborzoi.genome.indexed_tracks import require_indexed_tracks, write_bigbed
    from saeborzoi.motifs.fan_in import motifs_as_meme
    from saeborzoi.project import take_away
    from saeborzoi.project.project import open_project
    from saeborzoi_assets.commands import tracks

    if output.exists():
        raise SaeBorzoiError(f"{output} is there already; name a folder that is not")
    terminal = terminal_of(context)
    settings = load_settings(terminal.settings_file)
    sae = open_project(terminal.settings_file).sae(key)
    store = Store(settings.project.store)
    sizes = tracks.sizes_of(settings, store, None)
    node_numbers = parse_nodes(nodes) if nodes else []
    for node in node_numbers:
        sae.node(node)  # refused where the SAE has no such node
    if node_numbers:
        require_indexed_tracks()
    with write_folder(output.absolute()) as folder:
        trained = store.require_artifact(store.sae_artifact(key, "trained_sae"), "trained_sae", key)
        shutil.copytree(trained, folder / "sae")
        for name in ("node_summary", "concept_score", "concept", "annotation_overlap"):
            tracks.write_table(folder / f"{name}.tsv", sae.table(name))
        motifs = sae.table("supported_motif")
        (folder / "motifs.meme").write_text(motifs_as_meme(motifs))
        bed = take_away.seqlets_bed(sae, sizes)
        tracks.write_bed_rows(folder / take_away.BED, bed)
        shown = {take_away.BED: f"seqlets of {key}"}
        hub = {}
        if len(bed):
            try:
                write_bigbed(folder / take_away.BIGBED, bed, sizes)
                hub[take_away.BIGBED] = f"seqlets of {key}"
            except MissingPackageError as error:
                terminal.say(f"no {take_away.BIGBED}: {error}")
        if node_numbers:
            rows = take_away.activations_of(sae, node_numbers)
            tracks.write_bigwigs(folder / "tracks", rows, sizes)
            for file in sorted((folder / "tracks").glob("*.bw")):
                shown_node = sae.node(int(file.stem[1:]))
                label = f"{file.stem} {shown_node.label or shown_node.name or ''}".strip()
                shown[f"tracks/{file.name}"] = hub[f"tracks/{file.name}"] = label
        assembly = assembly_of(settings.data.genome)
        take_away.write_igv_session(folder, assembly or str(settings.data.genome), shown)
        if assembly and hub:
            take_away.write_hub(folder, assembly, f"{settings.project.name} {key}", hub)
        else:
            lacking = "a track of pybigtools" if assembly else "a genome whose file names a build"
            terminal.say(f"no hub.txt: it needs {lacking}")
        try:
            data = take_away.as_anndata(sae)
        except ImportError:
            terminal.say("no nodes.h5ad: the package anndata is not installed")
        else:
            data.write_h5ad(folder / "nodes.h5ad")
    terminal.say(f"{len(bed):,} seqlets, {len(motifs):,} motifs, {len(node_numbers)} tracks")
    print(output)
    if archive:
        print(shutil.make_archive(str(output), "zip", output.parent, output.name))
