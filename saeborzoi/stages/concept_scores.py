"""Stage `concept_scores`: how well every node detects every class of annotation, its activation
along the seqlets that are shown, and its mean around its strongest positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from saeborzoi.catalog.store import NODE_STATISTICS, TOP_ACTIVATIONS, Store
from saeborzoi.genome.coordinates import Genome, read_bed, require_annotation_fits
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, require_input, write_artifact
from saeborzoi.nodes.concept_elements import concepts_of, elements_on_positions, with_strands
from saeborzoi.nodes.concepts import ConceptData, concept_scores, is_found
from saeborzoi.nodes.profile import Profiles
from saeborzoi.nodes.seqlets import shown_seqlets
from saeborzoi.nodes.top_activations import ActiveNodes
from saeborzoi.nodes.top_positions import read_top_positions
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import require_trained_on
from saeborzoi.sources.positions import plans_of


def run(job: Job, progress: Progress = silent) -> Figures:
    """Scan training and validation data twice; writes `concept_score.parquet`, `concept.parquet`
    and, from the first of these passes, `node_profile.parquet` and `seqlet_activation.parquet`.

    Returns
    -------
    dict
        n_concepts, n_left_out (classes beyond those that are scored), split, n_found (classes
        that some node detects, see `is_found`), mean_best_f1.
    """
    assert job.hyperparameters is not None, "a job about an SAE"
    layer, settings = job.layer_settings, job.settings
    cache = Store(settings.project.store).genome_cache
    annotations = {
        a.name: read_bed(a.path, a.class_column, a.strand_column) for a in settings.data.annotation
    }
    annotations = {
        name: with_strands(table) if "strand" in table else table
        for name, table in annotations.items()
    }
    concepts = concepts_of(annotations)
    source = require_input(job, "trained_sae")
    inference = require_input(job, "top_activations")
    statistics = pd.read_parquet(inference / NODE_STATISTICS)
    activation_max = statistics.sort_values("node")["activation_max"].to_numpy(float)
    top = read_top_positions(inference / TOP_ACTIVATIONS)
    top = top.sort_values(["node", "rank"], ignore_index=True)
    torch.set_num_threads(job.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with (
        plans_of(settings, layer, cache, progress) as (train, validation),
        Genome(settings.data.genome, cache=cache) as genome,
    ):
        require_trained_on(source, train.source, job.key)
        for a in settings.data.annotation:
            require_annotation_fits(a.path, annotations[a.name], genome.chrom_sizes)
        data = [
            ConceptData(
                plan,
                elements_on_positions(
                    concepts,
                    annotations,
                    windows_of(genome=genome, **shard_set.where),
                    plan.source.n_positions,
                    **layer.geometry,
                ),
            )
            for shard_set, plan in zip(layer.sets, (train, validation), strict=False)
            if plan is not None
        ]
        sae = load_checkpoint(source, layer.n_channels).to(device)
        windows = windows_of(genome=genome, **layer.train.where)
        is_shown = shown_seqlets(
            top, activation_max, windows, genome, layer.seqlet_width, **layer.geometry
        )
        profiles = Profiles(
            top,
            is_shown,
            sae.n_nodes,
            train,
            windows.reverse(np.arange(len(windows))),
            layer.bp_per_position,
            layer.seqlet_width,
        )
        scored = concept_scores(
            ActiveNodes(sae, job.threads),
            activation_max,
            concepts,
            data[0],
            data[1] if len(data) > 1 else None,
            progress,
            profiles.add,
        )
    tables = (*scored, profiles.table(), profiles.along_seqlets())
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        for name, frame in zip(ARTIFACT["concept_scores"].tables, tables, strict=True):
            frame.to_parquet(output / f"{name}.parquet", index=False)
    f1 = scored.best["f1"]
    n_classes = sum(table["annotation_class"].nunique() for table in annotations.values())
    return {
        "n_concepts": len(concepts),
        "n_left_out": n_classes - len(concepts),
        "split": "validation" if len(data) > 1 else "train",
        "n_found": int(is_found(scored.best).sum()),
        "mean_best_f1": float(f1.mean()) if f1.notna().any() else None,
    }
