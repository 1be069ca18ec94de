"""Commands that ask the sequence model: model, locus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.catalog.store import Store
from saeborzoi.errors import SaeBorzoiError, SettingsError
from saeborzoi.settings.load import load_settings
from saeborzoi.settings.model_sections import Model
from saeborzoi_assets.commands.terminal import AsJson, print_json, terminal_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (model, locus):
        app.command()(command)


def model(
    context: typer.Context,
    loader: Annotated[
        str | None,
        typer.Option(help="Loader, as the settings' model section has it; default: the project's."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="With --loader: its weights.")] = None,
    input_bp: Annotated[
        int | None, typer.Option(help="With --loader: base pairs that the model takes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the modules of the sequence model, and which can serve as a layer.

    Example: saeborzoi model --loader explainn.py:load --weights explainn.pth --input-bp 200
    """
    from saeborzoi.sources.ask import ask_model

    if loader is None:
        settings = load_settings(terminal_of(context).settings_file)
        section = settings.model
        if section is None:
            raise SettingsError("the settings have no [model]; add one, or name a --loader")
    else:
        section = Model(
            loader=loader, weights=weights.absolute() if weights else None, input_bp=input_bp
        )
    answer = ask_model(section, modules=True)
    if as_json:
        print_json({name: value for name, value in answer.items() if name != "table"})
        return
    print(answer["table"])
    terminal_of(context).say(
        f"\nfingerprint {answer['fingerprint']}, {answer['n_parameters']:,} parameters, input "
        f"{answer['input_bp']:,} bp\noutputs: {answer['outputs']}"
        + "".join(f"\nlayer {name}: {module}" for name, module in answer["layers"].items())
    )


def locus(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Partition key of the SAE.")],
    region: Annotated[
        str | None, typer.Argument(help="As genome browsers write it: chr1:1,000,000-1,030,000.")
    ] = None,
    fasta: Annotated[
        Path | None, typer.Option(help="Sequences that are in no genome, instead of a region.")
    ] = None,
    top: Annotated[int, typer.Option(help="Nodes that are printed and written.", min=1)] = 20,
    output: Annotated[
        Path | None, typer.Option(help="Every activation of every node, as tab-separated text.")
    ] = None,
    bed: Annotated[
        Path | None, typer.Option(help="BED of the nodes printed, for a genome browser.")
    ] = None,
    bigwig: Annotated[
        Path | None, typer.Option(help="Folder for a bigWig of each node printed.")
    ] = None,
    bedgraph: Annotated[
        Path | None, typer.Option(help="Folder for a bedGraph of each node printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which nodes of an SAE fire where, and what they are called.

    Example: saeborzoi locus conv1d_1_x4_k0.05_lr0.003_s0 chr1:1,000,000-1,030,000 --bed top.bed
    """
    from saeborzoi.genome.indexed_tracks import require_indexed_tracks
    from saeborzoi.genome.regions import parse_region
    from saeborzoi_assets.commands import tracks
    from saeborzoi_assets.commands.locus_answers import locus_rows

    if (region is None) == (fasta is None):
        raise SaeBorzoiError(
            f"locus takes an SAE's key ({key!r} here) and either a region or --fasta: "
            "saeborzoi locus KEY chr1:1,000,000-1,030,000"
        )
    if region is not None:
        parse_region(region)
    if bigwig is not None:
        require_indexed_tracks()
    settings = load_settings(terminal_of(context).settings_file)
    store = Store(settings.project.store)
    request = {"region": region, "fasta": str(fasta.absolute()) if fasta else None}
    figures, rows = locus_rows(settings, key, request)
    strongest = tracks.strongest(rows, top)
    if as_json:
        print_json({**figures, "nodes": strongest.to_dict("records")})
    else:
        terminal_of(context).say(
            f"{figures['n_positions']:,} positions, {figures['n_nodes']:,} nodes fire; "
            f"from {figures['origin']}"
        )
        print(strongest.to_string(index=False) if len(strongest) else "no node fires there")
    shown = rows[rows["node"].isin(strongest["node"])]
    if output is not None:
        tracks.write_table(output, rows)
    if bed is not None:
        tracks.write_bed(bed, shown)
    for target, write in ((bedgraph, tracks.write_bedgraphs), (bigwig, tracks.write_bigwigs)):
        if target is not None:
            write(target, shown, tracks.sizes_of(settings, store, fasta))
