"""The page of a report: which tables and figures it shows, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saeborzoi import plots
from saeborzoi.catalog.schema import TABLES
from saeborzoi.catalog.views import VIEW_COMMENTS
from saeborzoi.errors import InputError
from saeborzoi.extras import extra
from saeborzoi.figures import svg_of
from saeborzoi.report.figures import small_logo
from saeborzoi.report.methods import libraries_of, methods_of
from saeborzoi.settings.hyperparameters import BASELINES

if TYPE_CHECKING:
    import pandas as pd

    from saeborzoi.project import Project, Sae

MAX_SAES = 3
"""SAEs shown one by one where none is named; the table has all."""
_MAX_FAMILIES = 40
_MAX_ROWS = 60
_OF_PROJECT = {
    "baseline_comparison": "Against untrained SAEs and raw channels",
    "fidelity": "Fidelity in the model",
    "sae_stability": "Nodes that recur in other SAEs",
}
_OF_SAE = {"concept": "Concepts that nodes detect"}
"""Tables that are shown where they are there and hold rows, and their headings."""
_SUMMARY = (
    "hyperparameters", "n_nodes", "fvu", "validation_fvu", "l0", "dead_fraction", "n_selected",
    "n_nodes_with_motif", "n_nodes_with_match", "n_archetypes",
)  # fmt: skip
_COMMENTS = {column.name: column.comment for table in TABLES for column in table.columns} | {
    "logo": "letter heights in bits",
    "names": "archetypes, with the factors that fit, of its nodes",
    "nodes": "nodes with a motif of it",
}
_GRAINS = {table.name: table.grain for table in TABLES} | VIEW_COMMENTS


class Cell(NamedTuple):
    """What stands in a table: text, or an SVG."""

    text: str = ""
    svg: str = ""
    is_number: bool = False


class Shown(NamedTuple):
    """A table or figure of the page.

    Attributes
    ----------
    heading, note
        What it is; `note` is its grain, or what it leaves out.
    columns
        Name and meaning of each column; empty for a figure.
    rows
        Cells.
    svg
        The figure; empty for a table.
    """

    heading: str
    note: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    svg: str = ""


def report_page(project: Project, keys: Sequence[str] = ()) -> str:
    """One HTML document of a project; it refers to no other file and opens from a file.

    Parameters
    ----------
    project
        What it is about.
    keys
        SAEs that are shown one by one; without any, the `MAX_SAES` trained ones whose nodes have
        most archetypes.

    Raises
    ------
    InputError
        Where no SAE is trained.
    PartitionKeyError
        Where a key names none.
    """
    with extra("platform"):
        import jinja2

    if not project.saes:
        raise InputError(
            f"no SAE of {project.settings.project.name} is trained yet; `saeborzoi run` makes them"
        )
    summary = project.table("sae_summary").sort_values("n_archetypes", ascending=False)
    trained = summary[~summary["recipe"].isin(BASELINES)]
    chosen = list(keys) or trained["hyperparameters"].head(MAX_SAES).tolist()
    saes = [project.sae(key) for key in chosen]
    rows = project.table("sae")
    catalog = project.catalog
    artifacts = [
        folder
        for key in chosen
        for asset in ("trained_sae", "umap_embedding")
        for folder in catalog.artifacts(asset, key)
    ]
    engines = {engine for sae in saes for engine in sae.table("motif")["engine"].dropna()}
    methods = methods_of(
        project.settings,
        rows[rows["hyperparameters"].isin(chosen) & ~rows["recipe"].isin(BASELINES)],
        engines,
        libraries_of(artifacts),
    )
    left_out = len(trained) - len(chosen)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        name=project.settings.project.name,
        data=_data(project, rows),
        overview=[
            _table(summary[list(_SUMMARY)], "Sparse autoencoders", _GRAINS["sae_summary"]),
            *_where_made(project, _OF_PROJECT),
        ],
        saes=[(sae.key, repr(sae), list(_of_sae(sae))) for sae in saes],
        left_out=f"{left_out} more SAEs are in the table only" if left_out > 0 else "",
        methods=methods,
    )


def _data(project: Project, saes: pd.DataFrame) -> list[tuple[str, str]]:
    """Name and value of what went in."""
    settings = project.settings
    entries = [("Genome", settings.data.genome.name)]
    if settings.model is not None:
        entries.append(("Model", settings.model.loader))
    for layer in settings.layer:
        n_positions = saes.loc[saes["layer"] == layer.name, "n_positions"].max()
        trained = (
            f", SAEs trained on up to {int(n_positions):,} positions" if n_positions > 0 else ""
        )
        source = "computed by the model" if layer.train.is_live else "read from shards"
        entries.append(
            (
                f"Layer {layer.name}",
                f"{layer.n_channels:,} channels, {layer.bp_per_position} bp a position, {source}"
                f"{trained}",
            )
        )
    entries += [("Annotation", f"{a.name}: {a.path.name}") for a in settings.data.annotation]
    entries += [
        ("Known motifs", f"{d.name}: {d.file.name if d.file else d.source}")
        for d in settings.data.motif_database
    ]
    return entries


def _where_made(owner: Project | Sae, headings: dict[str, str]) -> Iterator[Shown]:
    """Tables that this release has and that hold rows."""
    for table, heading in headings.items():
        if table in _GRAINS:
            rows = owner.table(table)
            if len(rows):
                yield _table(rows.dropna(axis=1, how="all"), heading, _GRAINS[table])


def _of_sae(sae: Sae) -> Iterator[Shown]:
    """Everything about one SAE, as far as it is made."""
    log, nodes = sae.table("training_log"), sae.table("node")
    if len(log):
        yield _figure("Training", plots.training_curves(log), sae)
    if len(nodes):
        yield _figure("How often nodes fire", plots.activation_frequency(nodes), sae)
    families = _families(sae)
    if families is not None:
        yield families
    embedding = sae.table("node_embedding")
    if len(embedding):
        plot = plots.umap_by_family(embedding, sae.table("best_match"))
        yield _figure("Map of the nodes", plot, sae)
    overlaps = sae.table("annotation_overlap")
    if len(overlaps):
        yield _figure("Annotation", plots.annotation_heatmap(overlaps), sae)
    for table, heading, draw in (
        ("fidelity_track", "What the model keeps with the SAE in it", plots.recovered_by_track),
        ("node_effect", "What nodes do to the model's outputs", plots.effects_on_tracks),
    ):
        rows = sae.table(table)
        if len(rows):
            yield _figure(heading, draw(rows), sae)
    yield from _where_made(sae, _OF_SAE)


def _families(sae: Sae) -> Shown | None:
    """Families of like motifs with the founder's logo, the family of most nodes first."""
    evidence = sae.table("motif_evidence").dropna(subset=["motif_family"])
    if evidence.empty:
        return None
    motifs = sae.table("motif").set_index(["node", "motif"])
    names = sae.table("node_name").set_index("node")["name"]
    families = evidence.sort_values(["n_family_nodes", "motif_family"], ascending=[False, True])
    rows = []
    for _, members in list(families.groupby("motif_family", sort=False))[:_MAX_FAMILIES]:
        first = members.iloc[0]
        founder = motifs.loc[(first["founder_node"], first["founder_motif"])]
        called = names[names.index.isin(members["node"])].value_counts()
        strong = " ".join(str(node) for node in sorted(set(members["node"]))[:12])
        more = " ..." if members["node"].nunique() > 12 else ""
        label = f"family {int(first['motif_family'])} of {sae.key}: {founder['consensus']}"
        rows.append(
            (
                Cell(svg=svg_of(small_logo(founder["matrix"]), label)),
                Cell(str(founder["consensus"])),
                Cell("; ".join(called.index[:4])),
                _cell(int(first["n_family_nodes"])),
                Cell(strong + more),
                _cell(float(founder["log10_e_value"])),
                _cell(float(members["fdr"].min())),
            )
        )
    columns = ("logo", "consensus", "names", "n_family_nodes", "nodes", "log10_e_value", "fdr")
    n_families = evidence["motif_family"].nunique()
    note = f"{n_families} families of like motifs, founder's logo"
    if n_families > len(rows):
        note += f"; the {len(rows)} of most nodes are shown"
    return Shown("Motif families", note, _described(columns), tuple(rows))


def _figure(heading: str, figure: Any, sae: Sae) -> Shown:
    return Shown(heading, svg=svg_of(figure, f"{heading}, {sae.key}"))


def _table(frame: pd.DataFrame, heading: str, grain: str) -> Shown:
    rows = tuple(
        tuple(_cell(value) for value in row)
        for row in frame.head(_MAX_ROWS).itertuples(index=False)
    )
    cut = f"; {len(frame) - _MAX_ROWS:,} more in the catalogue" if len(frame) > _MAX_ROWS else ""
    return Shown(heading, grain + cut, _described(frame.columns), rows)


def _described(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name).replace("_", " "), _COMMENTS.get(str(name), "")) for name in names)


def _cell(value: Any) -> Cell:
    """A value as people read it; empty where there is none.

    >>> _cell(0.123456).text, _cell(12345).text, _cell(float("nan")).text, _cell(True).text
    ('0.123', '12,345', '', 'yes')
    """
    if value is None or value != value:
        return Cell()
    if isinstance(value, bool) or str(value) in ("True", "False"):
        return Cell("yes" if value else "no")
    if isinstance(value, str):
        return Cell(value)
    number = float(value)
    is_whole = number.is_integer() or abs(number) >= 1000
    return Cell(f"{number:,.0f}" if is_whole else f"{number:.3g}", is_number=True)
