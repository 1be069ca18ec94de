"""Compile every loop that numba compiles at its first use, so that the first run need not.

`saeborzoi compile` sends a project of a few thousand positions through the stages, and made seqlets
through motifs, evidence and map, in two processes. What is compiled stays beside the code, or in
the cache folder (`saeborzoi.caches`), until code or processor change. Nothing else is left.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from saeborzoi.caches import require_caches
from saeborzoi.errors import ComputeError, MissingPackageError
from saeborzoi.jobs.job import Job
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.load import load_settings

_SITE = "TGACTCATGTCA"
_SETTINGS = """
[project]
name = "compilation"
[data]
genome = "genome.fa"
[[data.annotation]]
name = "marks"
path = "marks.bed"
[[data.motif_database]]
name = "known"
source = "known.meme"
[[layer]]
name = "layer"
n_channels = 4
bp_per_position = 4
pad_bp = 0
seqlet_width_bp = 16
train = { shards = "shards", windows = "windows.bed" }
validation = { shards = "shards", windows = "windows.bed" }
[[sae]]
layer = "layer"
expansion = 3
topk = 0.25
[training]
n_epochs = 1
batch_size = 512
"""
_N_WINDOWS, _WINDOW_BP = 4, 4_000


def compile_loops() -> float:
    """Compile what is not compiled yet; returns the seconds that it took.

    Raises
    ------
    StoreError
        Where no folder can keep what is compiled.
    ComputeError
        Where a loop cannot be compiled.
    """
    require_caches()
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    parts = [context.Process(target=part) for part in (_matching_and_sae, _motifs_and_map)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    if any(part.exitcode for part in parts):
        raise ComputeError("loops could not be compiled; the error stands above")
    return time.monotonic() - began


def _matching_and_sae() -> None:
    from saeborzoi.stages import (
        concept_scores,
        normalization_constants,
        tomtom_matches,
        top_activations,
        trained_sae,
    )

    with tempfile.TemporaryDirectory(prefix="saeborzoi-compilation-") as temporary:
        folder = Path(temporary)
        motif = np.full((8, 4), 0.05) + 0.8 * np.eye(4)[[0, 1, 2, 3, 3, 2, 1, 0]]
        (folder / "known.meme").write_text(_as_meme(motif))
        settings = load_settings(_write_project(folder))
        motifs = folder / "motifs.parquet"
        columns = {"node": [0, 1], "motif": 0, "matrix": [motif.tolist()] * 2, "n_sites": 100}
        pd.DataFrame({**columns, "is_significant": True}).to_parquet(motifs)
        for stage in (
            tomtom_matches,
            normalization_constants,
            trained_sae,
            top_activations,
            concept_scores,
        ):
            name = stage.__name__.rpartition(".")[2]
            made = {each: folder / each for each in ARTIFACT if (folder / each).exists()}
            stage.run(
                Job(
                    job_id=name,
                    stage=name,
                    settings=settings,
                    layer="layer",
                    hyperparameters=settings.wanted()[0],
                    inputs={"motif": motifs, **made},
                    output=folder / name,
                    work=folder / "work" / name,
                )
            )


def _motifs_and_map() -> None:
    from saeborzoi.motifs.discovery import discover
    from saeborzoi.motifs.fan_in import fan_in_evidence
    from saeborzoi.nodes.embedding import embed_nodes

    rng = np.random.default_rng(0)
    seqlets = pd.DataFrame({"node": np.repeat([0, 1], 60), "rank": np.tile(np.arange(60), 2)})
    texts = ["".join(rng.choice(list("ACGT"), 16)) for _ in range(240)]
    seqlets["sequence"] = [text[:2] + _SITE + text[-2:] for text in texts[:120]]
    seqlets["activation"] = rng.uniform(1, 2, 120)
    motifs = discover(seqlets)
    fan_in_evidence(motifs, seqlets, "compilation", both_strands=True, placed=texts[120:])
    with contextlib.suppress(MissingPackageError):
        # a worker's installation has no map
        embed_nodes(np.arange(60), sparse.csr_array(rng.random((60, 40), np.float32)))


def _write_project(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    size = _N_WINDOWS * _WINDOW_BP
    (folder / "genome.fa").write_text(">chr1\n" + "".join(rng.choice(list("ACGT"), size)) + "\n")
    marks = [f"chr1\t{start}\t{start + 60}\t.\t.\tmark\n" for start in range(0, size, 500)]
    (folder / "marks.bed").write_text("".join(marks))
    windows = [f"chr1\t{i * _WINDOW_BP}\t{(i + 1) * _WINDOW_BP}\n" for i in range(_N_WINDOWS)]
    (folder / "windows.bed").write_text("".join(windows))
    (folder / "shards").mkdir()
    with h5py.File(folder / "shards" / "activations_0.h5", "w") as file:
        values = rng.exponential(1, (_N_WINDOWS, _WINDOW_BP // 4, 4))
        file["activations"] = values.astype(np.float16)
    settings_file = folder / "dagster_project.toml"
    settings_file.write_text(_SETTINGS)
    return settings_file


def _as_meme(matrix: np.ndarray) -> str:
    from saeborzoi.motifs.meme_format import MemeMotif, format_meme

    return format_meme([MemeMotif("known", "known", matrix, 100, 0.0, 0.0)])
