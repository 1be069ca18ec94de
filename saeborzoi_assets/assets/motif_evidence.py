"""What only all motifs of an SAE together say: evidence over nodes, and families of like motifs."""

from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from saeborzoi.settings.hyperparameters import derived_seed
from saeborzoi_assets.common import artifact, explained, keep
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.queries import selected_seqlets
from saeborzoi_assets.shown import check, path, say, table
from saeborzoi_resources.platform import Platform, Sae

if TYPE_CHECKING:
    from saeborzoi.genome.coordinates import Genome

MOTIFS_FILE = "motifs.meme"
N_PLACED = 5000
"""Places anywhere in the data that stand for the genome."""


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset, one partition an SAE."""

    @artifact(
        partitions,
        every_motif_judged="each motif of the SAE has a row, and no other",
        fdr_in_range="false discovery rates lie in [0, 1]",
    )
    def motif_evidence(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        """Each motif against the seqlets of other nodes, the genome, and, where the project has
        one, an untrained dictionary of the same layer and shape; its false discovery rate over all
        motifs, families of motifs that are alike, and all significant motifs as a MEME-format
        database."""
        from saeborzoi.genome.coordinates import Genome
        from saeborzoi.motifs.fan_in import fan_in_evidence, motifs_as_meme
        from saeborzoi.motifs.options import DiscoveryOptions

        with explained():
            sae = platform.sae(context.partition_key)
            platform.store.require_writable()
            columns = "node, rank, sequence"
            with platform.catalog.kept_open():
                seqlets = selected_seqlets(platform, sae, columns)
                platform.catalog.require_made("meme_motifs", sae.key, range(sae.n_nodes))
                motifs = platform.catalog.rows("motif", sae.key)
                version = platform.version_of("motif_evidence", sae.key)
                untrained = platform.untrained_beside(sae.key)
            say(context, f"evidence of {len(motifs)} motifs")
            with Genome(platform.settings.data.genome, cache=platform.store.genome_cache) as genome:
                placed = _placed(sae, genome)
            frame = fan_in_evidence(
                motifs,
                seqlets,
                sae.key,
                both_strands=DiscoveryOptions(**platform.settings.motifs.model_dump()).both_strands,
                placed=placed,
                untrained=None
                if untrained is None
                else selected_seqlets(platform, platform.sae(untrained), columns),
                threads=platform.threads(version.asset),
            ).rename(columns={"q_value": "family_q_value"})
            tables = {"motif_evidence": frame}
            significant = motifs[motifs["is_significant"].astype(bool)]
            database = {MOTIFS_FILE: motifs_as_meme(significant).encode()}
            output = keep(context, platform, version, sae, tables, more=database)
        supported = frame[frame["is_supported"].astype(bool)]
        return dg.MaterializeResult(
            metadata={
                "n_motifs": len(frame),
                "n_supported": len(supported),
                "n_nodes_supported": int(supported["node"].nunique()),
                "n_families": int(supported["motif_family"].nunique()),
                "untrained_control": untrained or "none in the project",
                "largest_families": table(_largest(supported, motifs), 15),
                "motifs_file": path(output / MOTIFS_FILE),
                "files": path(output),
            },
            data_version=dg.DataVersion(version.digest),
            check_results=[
                check(
                    "every_motif_judged",
                    set(zip(frame["node"], frame["motif"], strict=True))
                    == set(zip(motifs["node"], motifs["motif"], strict=True)),
                    n_motifs=len(motifs),
                    n_judged=len(frame),
                ),
                check("fdr_in_range", frame["fdr"].dropna().between(0, 1).all()),
            ],
        )

    return motif_evidence


def _placed(sae: Sae, genome: "Genome") -> list[str]:
    """Sequences of the seqlets' width from anywhere in the data, without those that hold a letter
    other than A, C, G, T."""
    from saeborzoi.genome.windows import windows_of
    from saeborzoi.nodes.overlaps import placed_at_random

    windows = windows_of(genome=genome, **sae.layer.train.where)
    where = placed_at_random(
        windows,
        sae.layer.seqlet_width,
        n=N_PLACED,
        seed=derived_seed(sae.layer.name, "motif_evidence"),
        **sae.layer.geometry,
    )
    where = where.loc[where.index.repeat(where["n_placed"])]
    inside = genome.inside(where["chrom"], where["start_bp"], where["end_bp"])
    where = where[inside]
    texts = genome.fetch(where["chrom"], where["start_bp"], where["end_bp"])
    return [text for text in texts if set(text) <= set("ACGT")]


def _largest(supported: pd.DataFrame, motifs: pd.DataFrame) -> pd.DataFrame:
    """Families by their founders' consensus, those of most nodes first."""
    founders = supported.drop_duplicates("motif_family").merge(
        motifs[["node", "motif", "consensus"]],
        left_on=["founder_node", "founder_motif"],
        right_on=["node", "motif"],
        suffixes=("", "_of_founder"),
    )
    columns = ["motif_family", "n_family_nodes", "n_family_motifs", "founder_node", "consensus"]
    return founders.sort_values("motif_family")[columns]
