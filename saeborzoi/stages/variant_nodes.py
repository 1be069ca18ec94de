"""Stage `variant_nodes`: through which nodes of an SAE each variant's effect goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from saeborzoi.catalog.store import Store
from saeborzoi.effects.track_scores import score_of
from saeborzoi.effects.variant_motifs import motif_bits
from saeborzoi.effects.variant_nodes import (
    Pairs,
    VariantNodes,
    against_controls,
    in_parts,
    with_q_values,
)
from saeborzoi.effects.variant_scores import chunk_of, window_starts
from saeborzoi.genome.alleles import allele_letters
from saeborzoi.genome.fasta import Genome
from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.jobs.provenance import provenance, require_input, write_artifact
from saeborzoi.models.model import SequenceModel, fingerprint_of_tensors
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import model_of
from saeborzoi.sources.same_activations import require_same_activations
from saeborzoi.stages.of_variants import (
    KeptParts,
    SetOfVariants,
    opened_model,
    require_going_on,
    scored,
    set_of,
)

STAGE, TABLE = "variant_nodes", "variant_node"
_PARTS_OF_CHUNK = 4
"""Parts of attribution that are kept for one of scores, as it takes many times as long."""


def run(job: Job, progress: Progress = silent) -> Figures:
    """Attribute the effects of the job's set; writes `TABLE`.

    Returns
    -------
    dict
        n_variants, n_exact, n_acting (through a node at least), and of those that are exact:
        share_of_nodes and share_of_gap, weighted by the size of the effect.
    """
    settings, a = job.settings, job.settings.attribution
    trained = require_input(job, "trained_sae")
    motifs = pd.read_parquet(job.inputs["motif"])
    matrices = {int(row.node): as_matrix(row.matrix) for row in motifs.itertuples()}
    sae = load_checkpoint(trained, job.layer_settings.n_channels)
    with opened_model(job, model_of(trained)) as (model, geometry, genome):
        require_same_activations(model, geometry, job.layer_settings, genome)
        of_job = set_of(settings, genome, geometry, model.input_bp)
        name = of_job.section.name
        kept = KeptParts(
            # a folder of each set, so that its job forgets nothing of another's
            Store(settings.project.store).work(job.key, STAGE) / "parts" / name, STAGE,
            model.fingerprint, model.dtype, dataclasses.asdict(geometry),
            None if model.outputs is None else model.outputs.tracks,
            fingerprint_of_tensors(sae), sae.k, sae.variant,
            a.span_bp, a.n_nodes, a.max_gap, a.max_points,
        )  # fmt: skip
        nodes = VariantNodes(
            model, geometry, sae, genome,
            None if model.outputs is None else score_of(model, a.span_bp),
            # of this set alone, so that no other one changes its rows
            longest_bp=of_job.longest_bp,
            n_nodes=a.n_nodes, tolerance=a.max_gap, max_points=a.max_points,
            batch_size=a.batch_size,
        )  # fmt: skip
        rows = _Attribution(job, model, genome, nodes, of_job, kept, progress).rows()
        both = DiscoveryOptions(**settings.motifs.model_dump()).both_strands
        rows = _with_motifs(rows, of_job, matrices, genome, both)
    rows["rank"] = rows["rank"].fillna(0).astype(np.int64)
    rows["acts_through"] = rows["p_value"] <= a.max_p_value
    with write_artifact(job.output, job.data_version, provenance(job)) as output:
        rows.assign(variant_set=name).to_parquet(output / f"{TABLE}.parquet", index=False)
    kept.forget_others()
    return _figures(rows)


class _Attribution(NamedTuple):
    """What a set's rows are made with."""

    job: Job
    model: SequenceModel
    genome: Genome
    nodes: VariantNodes
    each: SetOfVariants
    kept: KeptParts
    progress: Progress

    def rows(self) -> pd.DataFrame:
        """Rows of the set, with how unusual they are among neutral changes."""
        return with_q_values(self._rows())

    def _rows(self) -> pd.DataFrame:
        a = self.job.settings.attribution
        table, controls = self.each.variants.table, self.each.controls
        if self.model.outputs is None:
            pairs, neutral = (_pairs(t, self.model, a.step_bp, None) for t in (table, controls))
            return self._against_controls(self.nodes.activations, pairs, neutral)
        done, of_controls = (
            scored(self.job.settings, self.model, self.genome, some, self.progress)
            for some in (table, controls)
        )
        # each on the tracks that it moves most itself: on those of its variant, which moved that
        # one most, a control would look weaker than it is
        tracks, control_tracks = (
            scores.tracks[scores.tracks["rank"] <= a.n_explained] for scores in (done, of_controls)
        )
        order = np.argsort(-done.variants["effect_norm"].to_numpy(), kind="stable")
        is_exact = np.zeros(len(table), bool)
        is_exact[order[: a.n_exact]] = True
        frames = []
        for some, method in ((is_exact, self.nodes.exact), (~is_exact, self.nodes.cheap)):
            if not some.any():
                continue
            chosen = table[some]
            pairs = _pairs(chosen, self.model, a.step_bp, tracks)
            beside = controls[controls["control_of"].isin(chosen["variant"])]
            neutral = _pairs(beside, self.model, a.step_bp, control_tracks)
            frames.append(self._against_controls(method, pairs, neutral))
        return pd.concat(frames, ignore_index=True)

    def _against_controls(self, method: _Method, pairs: Pairs, neutral: Pairs) -> pd.DataFrame:
        rows = pd.concat(self._parts(method, pairs), ignore_index=True)
        # of controls the strongest nodes alone are looked at, and may be ten times as many
        kept = [
            part[(part["part"] != "node") | (part["rank"] == 1)]
            for part in self._parts(method, neutral)
        ]
        return against_controls(rows, pd.concat(kept) if kept else pd.DataFrame())

    def _parts(self, method: _Method, pairs: Pairs) -> Iterator[pd.DataFrame]:
        """Rows of pairs by a method of `VariantNodes`; what is done is kept, part by part."""
        n, done = len(pairs.variants), 0
        for some in in_parts(pairs, max(1, chunk_of(self.model.input_bp) // _PARTS_OF_CHUNK)):
            require_going_on(f"{done:,} of {n:,} variants or controls are attributed and kept")
            what = some.variants[["variant"]].assign(
                method=method.__name__, longest_bp=self.each.longest_bp, start_bp=some.start_bp,
                track=some.track, effect=some.effect,
            )  # fmt: skip
            letters = allele_letters(
                self.genome, some.variants, some.start_bp, self.model.input_bp
            ).ref
            yield self.kept.part(what, letters, lambda some=some: pd.concat(method(some)))  # type: ignore[misc]
            done += len(some.variants)
            self.progress("variants and controls attributed", done, n)


_Method = Callable[[Pairs], Iterator[pd.DataFrame]]


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
        "n_variants": int(rows["variant"].nunique()),
        "n_exact": int(exact["variant"].nunique()),
        "n_acting": int(rows.loc[rows["acts_through"], "variant"].nunique()),
    }
    if len(exact):
        key = ["variant", "track"]
        parts = exact.pivot_table(index=key, columns="part", values="attribution")
        effect = exact.groupby(key)["effect"].first()
        moved = float(effect.abs().sum())
        carried = float((parts["all nodes"] * np.sign(effect)).sum())
        figures["share_of_nodes"] = carried / moved if moved else None
        figures["share_of_gap"] = float(parts["gap"].abs().sum()) / moved if moved else None
    return figures
