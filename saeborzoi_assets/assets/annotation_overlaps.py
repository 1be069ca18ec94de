"""Seqlets of each selected node against genomic annotation, with a shuffled control."""

from pathlib import Path

import dagster as dg
import pandas as pd

from saeborzoi.settings.hyperparameters import derived_seed
from saeborzoi_assets.common import artifact, explained, keep
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import selected_seqlets
from saeborzoi_assets.shown import check, image, path, say, table
from saeborzoi_resources.platform import Platform


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        counts_possible="no class overlaps more seqlets than the node has",
        annotation_met="each annotation overlaps at least one seqlet",
    )
    def annotation_overlaps(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Overlaps of seqlets with cCREs, repeats and other annotation: counts, expectation under
        shuffling, z over nodes, odds ratio with its confidence interval; and, where a GTF is given,
        the gene that starts nearest to each seqlet."""
        from saeborzoi.genome.coordinates import (
            Genome,
            read_bed,
            require_annotation_fits,
        )
        from saeborzoi.genome.windows import windows_of
        from saeborzoi.motifs.options import DiscoveryOptions
        from saeborzoi.nodes import overlaps

        settings = platform.settings
        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            with platform.catalog.kept_open():
                seqlets = selected_seqlets(
                    platform, sae, "node, rank, sequence, chrom, start_bp, end_bp"
                )
                platform.catalog.require_made("meme_motifs", sae.key, range(sae.n_nodes))
                motifs = platform.catalog.rows(
                    "motif", sae.key, "node, motif, matrix, n_sites, suspect"
                )
                version = platform.version_of("annotation_overlaps", sae.key)
            annotation_settings = settings.data.annotation
            say(
                context,
                f"overlaps of {len(seqlets):,} seqlets with {len(annotation_settings)} annotations",
            )
            annotations = {a.name: read_bed(a.path, a.class_column) for a in annotation_settings}
            with Genome(settings.data.genome, cache=platform.store.genome_cache) as genome:
                windows = windows_of(genome=genome, **sae.layer.train.where)
                for a in annotation_settings:
                    n_elsewhere = require_annotation_fits(
                        a.path, annotations[a.name], genome.chrom_sizes
                    )
                    if n_elsewhere:
                        say(
                            context,
                            f"annotation {a.name}: {n_elsewhere:,} rows on chromosomes that the "
                            "genome lacks are passed over",
                        )
                genes = _genes(settings.data.genes, genome.chrom_sizes)
            frame = overlaps.annotation_overlaps(
                seqlets,
                annotations,
                windows,
                width_bp=sae.layer.seqlet_width,
                **sae.layer.geometry,
                **settings.overlaps.model_dump(),
                seed=derived_seed(sae.key, "annotation_overlaps"),
            )
            repeats = overlaps.repeat_classes(
                motifs[motifs["suspect"] == "repeat"],
                seqlets,
                annotations,
                frame,
                both_strands=DiscoveryOptions(**settings.motifs.model_dump()).both_strands,
            )
            tables = {
                "annotation_overlap": frame,
                "repeat_class": repeats,
                "seqlet_gene": _seqlet_genes(seqlets, genes),
            }
            output = keep(context, platform, version, sae, tables)
        from saeborzoi.plots import annotation_heatmap

        met = frame.groupby("annotation")["n_overlapping"].sum()
        unmet = [a.name for a in annotation_settings if met.get(a.name, 0) == 0]
        top = frame.sort_values("z_shuffled", ascending=False).groupby("annotation_class").head(3)
        return dg.MaterializeResult(
            metadata={
                **({"odds_ratios": image(annotation_heatmap(frame))} if len(frame) else {}),
                "n_nodes": int(frame["node"].nunique()),
                "n_classes": int(frame["annotation_class"].nunique()),
                "top_nodes_by_class": table(
                    top[
                        ["annotation_class", "node", "n_overlapping", "n_expected", "odds_ratio"]
                    ].sort_values("annotation_class", kind="stable"),
                    30,
                ),
                **({"repeats": table(repeats, 20)} if len(repeats) else {}),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check("counts_possible", (frame["n_overlapping"] <= frame["n_seqlets"]).all()),
                check("annotation_met", not unmet, without_overlap=str(unmet)),
            ],
        )

    return annotation_overlaps


def _genes(gtf: Path | None, chrom_sizes: dict[str, int]) -> pd.DataFrame | None:
    from saeborzoi.genome.genes import read_genes, require_genes_fit

    if gtf is None:
        return None
    genes = read_genes(gtf)
    require_genes_fit(gtf, genes, chrom_sizes)
    return genes


def _seqlet_genes(seqlets: pd.DataFrame, genes: pd.DataFrame | None) -> pd.DataFrame:
    """Table `seqlet_gene` but the key of the SAE; empty without a GTF."""
    from saeborzoi.genome.genes import nearest_genes

    keys = seqlets[["node", "rank"]]
    if genes is None:
        return keys.iloc[:0].assign(gene="", distance_bp=0)
    return keys.join(nearest_genes(seqlets, genes))
