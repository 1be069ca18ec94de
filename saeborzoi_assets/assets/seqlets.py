"""Seqlets of a node, and whether the node is worth a motif."""

import dagster as dg
import numpy as np
import pandas as pd

from saeborzoi.catalog.store import NODE_STATISTICS, TOP_ACTIVATIONS
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.common import artifact, explained, keep, node_batches, run_result
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.shown import check, path, say, table
from saeborzoi_resources.platform import Platform

_N_CHECKED = 10_000
"""Seqlets whose sequence is read again from the genome for the check."""


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition a node; many in one run."""

    @artifact(
        partitions,
        some_nodes_selected="the SAE has selected nodes among those made so far",
        inside_chromosomes="every seqlet lies inside its chromosome",
        match_reference="the sequences are the reference's at their coordinates",
    )
    def seqlets(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        """Centred interval of fixed width around each of the node's top positions, with its
        sequence; nodes that fail the selection say why."""
        from saeborzoi.genome.coordinates import Genome
        from saeborzoi.genome.windows import windows_of
        from saeborzoi.nodes.seqlets import make_seqlets
        from saeborzoi.nodes.top_positions import read_top_positions

        settings = platform.settings
        versions, results, figures = [], [], {}
        with explained():
            batches = node_batches(context, platform)
            platform.store.require_writable()
            with Genome(settings.data.genome, cache=platform.store.genome_cache) as genome:
                for sae, nodes in batches:
                    top = platform.artifact("top_activations", sae.key)
                    version = platform.version_of("seqlets", sae.key)
                    activations = read_top_positions(top / TOP_ACTIVATIONS, nodes=nodes)
                    statistics = pd.read_parquet(
                        top / NODE_STATISTICS, filters=[("node", "in", list(nodes))]
                    )
                    rows, selection = make_seqlets(
                        activations,
                        statistics.set_index("node")["n_nonzero"],
                        windows_of(genome=genome, **sae.layer.train.where),
                        genome,
                        width_bp=sae.layer.seqlet_width,
                        **sae.layer.geometry,
                        **settings.selection.model_dump(),
                    )
                    output = keep(
                        context,
                        platform,
                        version,
                        sae,
                        {"seqlet": rows, "node_selection": selection},
                        nodes=nodes,
                        inputs={"top_activations": top},
                    )
                    say(
                        context,
                        f"seqlets of {sae.key}: {len(nodes)} nodes, "
                        f"{int(selection['selected'].sum())} selected, {len(rows):,} seqlets",
                    )
                    versions.append(version.digest)
                    results.append((sae, rows, selection, output))
                    for row in selection.itertuples():
                        figures[str(PartitionKey(sae.key, row.node))] = {
                            "selection": row.reason or "selected",
                            "n_seqlets": int(row.n_seqlets),
                        }
                checks = _checks(platform, genome, results)
        all_rows = pd.concat([rows for _, rows, _, _ in results])
        all_selection = pd.concat([selection for _, _, selection, _ in results])
        not_selected = all_selection[~all_selection["selected"].astype(bool)]
        summary = {
            "n_selected": int(all_selection["selected"].sum()),
            "n_nodes": len(all_selection),
            "n_seqlets": len(all_rows),
            "not_selected": table(not_selected[["node", "reason"]]),
            "strongest_seqlets": table(all_rows.nlargest(10, "activation")),
            "files": path(results[0][3]),
        }
        return run_result(context, versions, summary, figures, checks)

    return seqlets


def _checks(platform: Platform, genome, results) -> list[dg.AssetCheckResult]:  # type: ignore[no-untyped-def]
    n_selected = sum(
        int(platform.catalog.rows("node_selection", sae.key, "selected")["selected"].sum())
        for sae in {sae for sae, *_ in results}
    )
    rows = pd.concat([rows for _, rows, _, _ in results])
    inside = genome.inside(rows["chrom"], rows["start_bp"], rows["end_bp"])
    chosen = rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), _N_CHECKED)).astype(int)]
    reference = genome.fetch(chosen["chrom"], chosen["start_bp"], chosen["end_bp"])
    n_wrong = sum(
        sequence != (_other_strand(forward) if strand == "-" else forward)
        for forward, sequence, strand in zip(
            reference, chosen["sequence"], chosen["strand"], strict=True
        )
    )
    return [
        check("some_nodes_selected", n_selected > 0, n_selected=n_selected),
        check("inside_chromosomes", inside.all(), n_outside=int((~inside).sum())),
        check("match_reference", n_wrong == 0, n_wrong=n_wrong, n_checked=len(chosen)),
    ]


def _other_strand(sequence: str) -> str:
    from saeborzoi.genome.fasta import reverse_complement

    return reverse_complement(np.frombuffer(sequence.encode(), np.uint8)).tobytes().decode()
