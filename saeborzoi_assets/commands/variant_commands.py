"""The command `variants`: what variants do to the model's outputs, and through which nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saeborzoi.errors import SaeBorzoiError
from saeborzoi_assets.commands.terminal import AsJson, print_json, terminal_of

if TYPE_CHECKING:
    import pandas as pd


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(variants)


def variants(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Partition key of the SAE.")],
    variant: Annotated[
        str | None, typer.Argument(help="One variant, as 1:12345:A:G; default: the sets.")
    ] = None,
    variant_set: Annotated[
        str | None, typer.Option("--set", help="Name of a set of the settings: its variants.")
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="With --set: how many are printed, largest effect first.")
    ] = 20,
    enrichment: Annotated[
        bool, typer.Option("--enrichment", help="With --set: nodes against its controls.")
    ] = False,
    vcf: Annotated[
        Path | None, typer.Option(help="With --set: VCF to write, with INFO fields.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What variants do to the model's outputs, and through which nodes of an SAE.

    Example: saeborzoi variants conv1d_1_x4_k0.05_lr0.003_s0 1:12345:A:G
    """
    from saeborzoi.project.project import open_project
    from saeborzoi.project.variant import PARTS_SHOWN

    terminal = terminal_of(context)
    project = open_project(terminal.settings_file)
    sae = project.sae(key)
    if variant_set is None and (enrichment or vcf is not None):
        raise SaeBorzoiError(
            f"{'--enrichment' if enrichment else '--vcf'} is of a set: name it with --set, one of "
            + (", ".join(each.name for each in project.settings.variants) or "none")
        )
    if variant is not None:
        if enrichment or vcf is not None:
            raise SaeBorzoiError("--enrichment and --vcf are of a whole set: leave out the variant")
        report = project.variant(variant, key, variant_set)
        if as_json:
            tables = {"tracks": report.tracks, "parts": report.parts}
            print_json(
                {
                    "variant": report.variant,
                    "variant_set": report.variant_set,
                    **{name: _records(table) for name, table in tables.items()},
                }
            )
        else:
            print(f"{report}\n\n{_text(report.parts[PARTS_SHOWN])}")
        return
    if variant_set is None:
        _show(
            sae.variant_sets,
            as_json,
            "no set of variants yet: name one in [[variants]], and run it",
        )
    elif enrichment:
        _show(sae.variant_enrichment(variant_set), as_json)
    else:
        rows = sae.variants(variant_set)
        _show(rows if as_json else rows.head(top), as_json)
        if not as_json and len(rows) > top:
            terminal.say(f"{top:,} of {len(rows):,} variants; --top {len(rows)} prints all")
    if vcf is not None and variant_set is not None:
        n = sae.variants_vcf(variant_set, vcf)
        if not as_json:
            terminal.say(f"{n:,} variants are in {vcf}")


def _show(table: pd.DataFrame, as_json: bool, empty: str = "none") -> None:
    if as_json:
        print_json(_records(table))
    else:
        print(_text(table) if len(table) else empty)


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _text(table: pd.DataFrame) -> str:
    blank = table.astype(object).where(table.notna(), "")
    return blank.to_string(index=False, float_format="{:.3g}".format)
