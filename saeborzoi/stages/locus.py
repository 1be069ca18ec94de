"""Stage of ``saeborzoi locus``: which nodes of an SAE fire where. Not an artifact's stage."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from saeborzoi.catalog.store import Store
from saeborzoi.files import write_folder
from saeborzoi.genome.regions import Region, parse_region
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.project.region import NodeRegion, node_region
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import model_of
from saeborzoi.sources.regions import fasta_regions, layer_region

TABLE = "locus.parquet"


def run(job: Job, progress: Progress = silent) -> Figures:
    """Activations of nodes over a region, or over the sequences of a FASTA.

    Parameters
    ----------
    job
        `inputs["request"]` is a JSON document: `region` as people write it, or `fasta`;
        `inputs["trained_sae"]` the SAE. Writes `locus.parquet` into the folder `output`: chrom,
        start_bp, end_bp, node, activation; a row for each node that fires at a position.

    Returns
    -------
    dict
        n_positions, n_nodes (that fire), origin.
    """
    request = json.loads(job.inputs["request"].read_text())
    settings, layer = job.settings, job.layer_settings
    sae = load_checkpoint(job.inputs["trained_sae"], layer.n_channels)
    weights = model_of(job.inputs["trained_sae"])
    cache = Store(settings.project.store).genome_cache
    regions: list[tuple[str, NodeRegion]] = []
    if request.get("fasta"):
        fasta = Path(request["fasta"])
        for name, of_layer in fasta_regions(fasta, settings, layer, cache, weights):
            end = int(of_layer.start_bp[-1]) + layer.bp_per_position
            region = Region(name, 0, end)
            regions.append((name, node_region(sae, of_layer, region, layer.bp_per_position)))
            progress("sequences", len(regions), 0)
    else:
        region = parse_region(request["region"])
        of_layer = layer_region(settings, layer, region, cache, weights)
        regions.append((region.chrom, node_region(sae, of_layer, region, layer.bp_per_position)))
    rows = pd.concat([_rows(chrom, of_nodes) for chrom, of_nodes in regions], ignore_index=True)
    with write_folder(job.output) as output:
        rows.to_parquet(output / TABLE, index=False)
    return {
        "n_positions": sum(len(of_nodes.start_bp) for _, of_nodes in regions),
        "n_nodes": int(rows["node"].nunique()),
        "origin": regions[0][1].origin,
    }


def _rows(chrom: str, of_nodes: NodeRegion) -> pd.DataFrame:
    entries = of_nodes.matrix.tocoo()
    rows = pd.DataFrame(
        {
            "chrom": chrom,
            "start_bp": of_nodes.start_bp[entries.row],
            "end_bp": of_nodes.end_bp[entries.row],
            "node": entries.col.astype("int32"),
            "activation": entries.data,
        }
    )
    return rows.sort_values(["start_bp", "node"], ignore_index=True)
