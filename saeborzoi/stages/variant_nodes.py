"""Stage `variant_nodes`: through which nodes of an SAE each variant's effect goes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from saeborzoi.effects.track_scores import score_of
from saeborzoi.effects.variant_motifs import motif_bits
from saeborzoi.effects.variant_nodes import Pairs, VariantNodes, against_controls
from saeborzoi.effects.variant_scores import window_starts
from saeborzoi.genome.fasta import Genome
from saeborzoi.jobs.job import Figures, Job, Progress, StageInterrupted, silent, stop_requested
from saeborzoi.jobs.provenance import provenance, require_input, write_artifact
from saeborzoi.models.model import SequenceModel
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import model_of
from saeborzoi.stages.in_model import require_same_activations
from saeborzoi.stages.of_variants import SetOfVariants, opened_model, scored, sets_of

TABLE = "variant_node"


def run(job: Job, progress: Progress = silent) -> Figures:
    """Attribute every set's effects; writes `TABLE`.

    Returns
    -------
    dict
        n_variants, n_exact, n_acting (through a node at least), and of those that are exact:
        share_of_nodes and share_of_gap, weighted by the size of the effect.
    """
    settings = job.settings
    trained = require_input(job, "trained_sae")
    motifs = pd.read_parquet(job.inputs["motif"])
    matrices = {int(row.node): as_matrix(row.matrix) for row in motifs.itertuples()}
    sae = load_checkpoint(trained, job.layer_settings.n_channels)
    frames = []
    with opened_model(job, model_of(trained)) as (model, geometry, genome):
        require_same_activations(job, model, geometry, genome)
        sets = sets_of(settings, genome, geometry)
        a = settings.attribution
        nodes = VariantNodes(
            model, geometry, sae, genome,
            None if model.outputs is None else score_of(model, a.span_bp),
            longest_bp=max((each.longest_bp for each in sets), default=1),
            n_nodes=a.n_nodes, tolerance=a.max_gap, max_points=a.max_points,
            batch_size=a.batch_size,
        )  # fmt: skip
        for each in sets:
            rows = _rows(job, model, genome, nodes, each, progress)
            both = DiscoveryOptions(**settings.motifs.model_dump()).both_strands
            rows = _with_motifs(rows, each, matrices, genome, both)
            frames.append(rows.assign(variant_set=each.section.name))
    whole = pd.concat(frames, ignore_index=True)
    whole["rank"] = whole["rank"].fillna(0).astype(np.int64)
    whole["acts_through"] = whole["p_value"] <= a.max_p_value
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        whole.to_parquet(output / f"{TABLE}.parquet", index=False)
    return _figures(whole)


def _rows(
    job: Job,
    model: SequenceModel,
    genome: Genome,
    nodes: VariantNodes,
    each: SetOfVariants,
    progress: Progress,
) -> pd.DataFrame:
    """Rows of a set, with how unusual they are among neutral changes."""
    a = job.settings.attribution
    table, controls = each.variants.table, each.controls
    n = len(table)
    if model.outputs is None:
        pairs, neutral = (_pairs(t, model, a.step_bp, None) for t in (table, controls))
        return _against(
            _gathered(nodes.activations(pairs), n, progress),
            _gathered(nodes.activations(neutral), len(controls), progress),
        )
    done = scored(job.settings, model, genome, table, progress)
    order = np.argsort(-done.variants["effect_norm"].to_numpy(), kind="stable")
    is_exact = np.zeros(n, bool)
    is_exact[order[: a.n_exact]] = True
    frames = []
    for some, method in ((is_exact, nodes.exact), (~is_exact, nodes.cheap)):
        if not some.any():
            continue
        chosen = table[some]
        of = done.tracks[done.tracks["rank"] <= a.n_explained]
        pairs = _pairs(chosen, model, a.step_bp, of)
        beside = controls[controls["control_of"].isin(chosen["variant"])]
        # a control is held against its variant: on the same tracks
        tracks = beside[["variant", "control_of"]].merge(
            of.rename(columns={"variant": "control_of"}), on="control_of"
        )
        neutral = _pairs(beside, model, a.step_bp, tracks.assign(effect=np.nan))
        frames.append(
            _against(
                _gathered(method(pairs), len(pairs.variants), progress),
                _gathered(method(neutral), len(neutral.variants), progress),
            )
        )
    return pd.concat(frames, ignore_index=True)


def _pairs(
    table: pd.DataFrame, model: SequenceModel, step_bp: int, tracks: pd.DataFrame | None
) -> Pairs:
    """Variants with the tracks of theirs; without outputs each once."""
    start = window_starts(table, model.input_bp, step_bp)
    if tracks is None:
        n = len(table)
        return Pairs(table, start, np.zeros(n, np.int64), np.full(n, np.nan))
    assert model.outputs is not None
    number = {name: i for i, name in enumerate(model.outputs.tracks)}
    rows = table.assign(window=start).merge(
        tracks[["variant", "track", "effect"]], on="variant", how="inner"
    )
    return Pairs(
        rows, rows["window"].to_numpy(np.int64), rows["track"].map(number).to_numpy(np.int64),
        rows["effect"].to_numpy(np.float64),
    )  # fmt: skip


def _gathered(parts: Iterator[pd.DataFrame], n: int, progress: Progress) -> pd.DataFrame:
    frames, done = [], 0
    for part in parts:
        if stop_requested.is_set():
            raise StageInterrupted("variants' scores are kept, their attribution begins anew")
        frames.append(part)
        done += part[["variant", "track"]].drop_duplicates().shape[0]
        progress("variants and controls attributed", done, n)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _against(rows: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    if control.empty:
        return rows.assign(p_value=np.nan, q_value=np.nan)
    return against_controls(rows, control)


def _with_motifs(
    rows: pd.DataFrame,
    each: SetOfVariants,
    matrices: dict[int, np.ndarray],
    genome: Genome,
    both_strands: bool,
) -> pd.DataFrame:
    is_node = (rows["part"] == "node").to_numpy()
    of_nodes = rows[is_node]
    variants = each.variants.table.set_index("variant").loc[of_nodes["variant"]].reset_index()
    variants.index = of_nodes.index
    bits = motif_bits(variants, of_nodes["node"].to_numpy(np.int64), matrices, genome, both_strands)
    return rows.join(bits)


def _figures(rows: pd.DataFrame) -> Figures:
    exact = rows[(rows["method"] == "exact") & (rows["part"] != "node")]
    figures: Figures = {
        "n_variants": int(rows[["variant_set", "variant"]].drop_duplicates().shape[0]),
        "n_exact": int(exact[["variant_set", "variant"]].drop_duplicates().shape[0]),
        "n_acting": int(
            rows.loc[rows["acts_through"], ["variant_set", "variant"]].drop_duplicates().shape[0]
        ),
    }
    if len(exact):
        key = ["variant_set", "variant", "track"]
        parts = exact.pivot_table(index=key, columns="part", values="attribution")
        effect = exact.groupby(key)["effect"].first()
        moved = float(effect.abs().sum())
        carried = float((parts["all nodes"] * np.sign(effect)).sum())
        figures["share_of_nodes"] = carried / moved if moved else None
        figures["share_of_gap"] = float(parts["gap"].abs().sum()) / moved if moved else None
    return figures
