"""Everything of one SAE as files that other programs read: tables, BED, tracks, a hub, a session.

Coordinates in BED and bigWig are 0-based and half-open, as inside; names of files are relative, so
that the folder can be put anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pandas as pd

from saeborzoi.files import write_file
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.project.sae import Sae
from saeborzoi.settings.hyperparameters import node_key

if TYPE_CHECKING:
    from anndata import AnnData

BED, BIGBED, SESSION = "seqlets.bed", "seqlets.bb", "igv_session.xml"
_COLOUR = "0,114,178"
_OBS = (
    "frequency", "activation_max", "selected", "n_seqlets", "consensus", "log10_e_value", "label",
    "name", "archetype", "target_name", "q_value", "umap_1", "umap_2", "cluster",
)  # fmt: skip


def bed_score(rows: pd.DataFrame) -> pd.Series:
    """BED's score of rows with node and activation: 1000 is the strongest of its node."""
    share = rows["activation"] / rows.groupby("node")["activation"].transform("max")
    return (1000 * share).round().astype(int)


def in_genome_order(
    table: pd.DataFrame, columns: Sequence[str], sizes: dict[str, int]
) -> pd.DataFrame:
    """Rows by some columns, `chrom` first, in the order of the genome's chromosomes."""
    order = {chrom: i for i, chrom in enumerate(sizes)}
    return table.sort_values(
        list(columns), key=lambda column: column.map(order) if column.name == "chrom" else column
    )


def seqlets_bed(sae: Sae, sizes: dict[str, int]) -> pd.DataFrame:
    """Every seqlet of the selected nodes as BED6, in the chromosomes' order: chrom, start, end,
    name (``n0003_FOX:_FOXA2``, with the label where there is one, ``n0003`` without either), score
    (1000 is the node's strongest), strand."""
    nodes = sae.nodes
    selected = nodes.index[nodes["selected"].fillna(False).astype(bool)]
    rows = sae.table("seqlet")
    rows = rows[rows["node"].isin(selected)].reset_index(drop=True)
    labels = {
        int(node): node_key(int(node)) + ("_" + "_".join(name.split()) if pd.notna(name) else "")
        for node, name in nodes["label"].fillna(nodes["name"]).items()
    }
    table = pd.DataFrame(
        {
            "chrom": rows["chrom"], "start": rows["start_bp"], "end": rows["end_bp"],
            "name": rows["node"].map(labels), "score": bed_score(rows), "strand": rows["strand"],
        }
    )  # fmt: skip
    columns = ["chrom", "start", "end", "name"]
    return in_genome_order(table, columns, sizes).reset_index(drop=True)


def activations_of(sae: Sae, nodes: Sequence[int], progress: Progress = silent) -> pd.DataFrame:
    """Where some nodes fire in all of the layer's training data, each locus once.

    Returns
    -------
    DataFrame
        node, chrom, start_bp, end_bp, activation: of each firing position the base pairs that it
        covers.
    """
    import numpy as np

    from saeborzoi.genome.coordinates import Genome, position_intervals
    from saeborzoi.genome.windows import windows_of
    from saeborzoi.nodes.top_activations import ActiveNodes
    from saeborzoi.sources.positions import plans_of

    settings = sae.settings
    layer = settings.layer_named(sae.hyperparameters.layer)
    active, parts = ActiveNodes(sae.model, 1), []
    is_wanted = np.zeros(sae.n_nodes, bool)
    is_wanted[list(nodes)] = True
    done = 0
    with (
        plans_of(settings, layer, validation=False) as (plan, _),
        Genome(settings.data.genome) as g,
    ):
        windows = windows_of(genome=g, **layer.train.where)
        for slab in plan.in_order():
            value, node, count = active(slab.activation)
            fires = np.arange(node.shape[1]) < count[:, None]
            row, column = np.nonzero(fires & is_wanted[np.where(fires, node, 0)])
            chrom, start_bp, end_bp = position_intervals(
                windows, slab.window[row], slab.position[row], layer.bp_per_position,
                **layer.geometry,
            )  # fmt: skip
            parts.append(
                pd.DataFrame(
                    {
                        "node": node[row, column], "chrom": chrom, "start_bp": start_bp,
                        "end_bp": end_bp, "activation": value[row, column],
                    }
                )
            )  # fmt: skip
            done += len(slab.position)
            progress("activations of nodes", done, plan.n_positions)
    rows = pd.concat(parts, ignore_index=True)
    # a locus that the model read on both strands counts where the node is stronger
    rows = rows.sort_values(["node", "chrom", "start_bp", "activation"], kind="stable")
    return rows.drop_duplicates(["node", "chrom", "start_bp"], keep="last", ignore_index=True)


def write_hub(folder: Path, assembly: str, label: str, tracks: dict[str, str]) -> Path:
    """A UCSC track hub beside the data: `hub.txt`, which is what a browser is given the address of.

    Parameters
    ----------
    assembly
        UCSC's name of the genome, e.g. ``hg38``.
    label
        What the hub is called.
    tracks
        File, relative to the folder, to what it is called; ``.bb`` or ``.bw``.
    """
    stanzas = [
        f"hub saeborzoi\nshortLabel {label[:17]}\nlongLabel {label[:80]}\nuseOneFile on\n"
        f"email nobody@example.org\n\ngenome {assembly}\n"
    ]
    for i, (file, name) in enumerate(tracks.items()):
        kind = "bigBed 6" if file.endswith(".bb") else "bigWig"
        more = "visibility dense\nspectrum on" if kind == "bigBed 6" else "visibility full"
        stanzas.append(
            f"track track{i}\ntype {kind}\nbigDataUrl {file}\nshortLabel {name[:17]}\n"
            f"longLabel {name[:80]}\n{more}\ncolor {_COLOUR}\n"
        )
    with write_file(folder.absolute() / "hub.txt") as temporary:
        temporary.write_text("\n".join(stanzas))
    return folder / "hub.txt"


def write_igv_session(folder: Path, genome: str, tracks: dict[str, str]) -> Path:
    """`igv_session.xml` with the tracks, by their places beside it; `genome` is IGV's name of the
    genome, or the path of its FASTA."""
    session = ElementTree.Element("Session", genome=genome, locus="All", version="8")
    resources = ElementTree.SubElement(session, "Resources")
    panel = ElementTree.SubElement(session, "Panel", name="DataPanel")
    for file, name in tracks.items():
        # some readers of sessions go by the resource, some by the track
        ElementTree.SubElement(resources, "Resource", path=file, name=name, color=_COLOUR)
        ElementTree.SubElement(panel, "Track", id=file, name=name, color=_COLOUR)
    with write_file(folder.absolute() / SESSION) as temporary:
        ElementTree.ElementTree(session).write(temporary, "UTF-8", xml_declaration=True)
    return folder / SESSION


def as_anndata(sae: Sae) -> AnnData:
    """Nodes (obs) by channels (var): X is the decoder, obs what is known of each node, obsm
    `X_umap`, and `concept_f1` where concepts were scored.

    Raises
    ------
    ImportError
        Where the package anndata is not installed.
    """
    import numpy as np
    from anndata import AnnData

    nodes = sae.nodes.sort_index()
    obs = nodes[[name for name in _OBS if name in nodes]].copy()
    # plain objects: pandas' own strings are what older readers of the format do not know
    for name in obs:
        if not pd.api.types.is_numeric_dtype(obs[name]):
            obs[name] = ["" if pd.isna(value) else str(value) for value in obs[name]]
            obs[name] = obs[name].astype(object)
    obs.index = pd.Index([node_key(int(node)) for node in nodes.index], dtype=object)
    decoder = sae.model.decoder_weight.detach().cpu().numpy()
    obsm = {"X_umap": nodes[["umap_1", "umap_2"]].to_numpy(float)}
    concepts = sae.table("concept_score")
    if len(concepts):
        name = concepts["annotation"] + ": " + concepts["annotation_class"]
        wide = concepts.assign(name=name).pivot(index="node", columns="name", values="f1")
        obsm["concept_f1"] = wide.reindex(nodes.index).fillna(0.0).to_numpy(np.float64)
    data = AnnData(decoder, obs=obs, obsm=obsm)
    data.var_names = pd.Index([f"channel{i}" for i in range(decoder.shape[1])], dtype=object)
    data.uns["sae"] = {name: str(value) for name, value in sae.summary.items()}
    if len(concepts):
        data.uns["concepts"] = list(wide.columns)
    return data
