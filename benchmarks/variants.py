"""Variants per CPU second: scores, attribution by nodes, and what nodes do without an output.

    python benchmarks/variants.py --case <hg38_chr1> [--borzoi <folder>] [--variants 200]
    python -c "from benchmarks.variants import on_a_gpu; on_a_gpu()"    # the projection alone

One core. Of the case: both alleles' scores, exact attribution and one gradient, on SNPs at random
places. Of Borzoi (a folder of its weights, or random ones, which cost the same): its stem to
conv1d_1 near each variant, both alleles through an SAE.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from saeborzoi.effects.track_scores import score_of
from saeborzoi.effects.variant_nodes import Pairs, VariantNodes
from saeborzoi.effects.variant_scores import variant_scores, window_starts
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variants import keys_of
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import LoadedModel, Outputs, SequenceModel
from saeborzoi.sae.model import SparseAutoencoder

K = 5
SCORE_PASSES, EXACT_PASSES = 2, 27
"""Forward passes of a variant: its alleles; and three, with eight gradients of about three each."""
GPU_TERAFLOPS = {"float32": 67, "bfloat16": 989}
"""Of an H100 SXM by its data sheet, dense."""
GPU_SHARE = 0.4
"""Of that, assumed to be reached."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--borzoi", type=Path)
    parser.add_argument("--variants", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with Genome(options.case / "genome" / "chr1_hg38_10M.fa.gz") as genome:
        variants = random_snps(genome, options.variants)
        of_case(options.case, genome, variants)
        if options.borzoi is not None:
            of_borzoi(options.borzoi, genome, variants)
        else:
            with tempfile.TemporaryDirectory() as folder:
                of_borzoi(random_borzoi(Path(folder)), genome, variants)


def random_snps(genome: Genome, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(1_000_000, 9_000_000, 2 * n))
    ref = genome.fetch(["chr1"] * len(start), start, start + 1)
    turned = {"A": "G", "C": "T", "G": "A", "T": "C"}
    rows = [(s, r, turned[r]) for s, r in zip(start.tolist(), ref, strict=True) if r in turned][:n]
    table = pd.DataFrame(rows, columns=["start_bp", "ref", "alt"])
    table = table.assign(chrom="chr1", end_bp=table["start_bp"] + 1)
    key = keys_of(table["chrom"], table["start_bp"] + 1, table["ref"], table["alt"])
    return table.assign(variant=key)


def random_sae(n_channels: int, expansion: int) -> SparseAutoencoder:
    sae = SparseAutoencoder(n_channels, expansion * n_channels, K)
    torch.nn.init.normal_(sae.encoder_weight)
    sae.decoder_weight.data.copy_(torch.nn.functional.normalize(sae.encoder_weight.data))
    return sae


def timed(what: str, n: int, work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    print(f"{what}: {n / seconds:,.1f} variants per CPU second ({seconds:.1f} s for {n:,})")
    return seconds


def of_case(case: Path, genome: Genome, variants: pd.DataFrame) -> None:
    bare = load_model(
        f"{case}/model/explainn.py:load",
        weights=case / "model" / "explainn_max_foxa1_jund.pth",
        input_bp=200,
        device="cpu",
    )
    tracks = Outputs(("MAX", "FOXA1", "JUND"), 1, 200, scale="logit")
    model = loaded(LoadedModel(bare.module, 200, tracks), bare)
    geometry = layer_geometry(model, "stem")
    nodes = VariantNodes(
        model, geometry, random_sae(geometry.n_channels, 4), genome, score_of(model, 200),
        longest_bp=1, batch_size=256,
    )  # fmt: skip
    n = len(variants)
    parts = list(variant_scores(model, genome, variants, batch_size=256))
    timed("hg38_chr1, scores of both alleles", n,
          lambda: list(variant_scores(model, genome, variants, batch_size=256)))  # fmt: skip
    effects = pd.concat([part.tracks for part in parts]).query("rank == 1")
    number = effects["track"].map(tracks.tracks.index).to_numpy()
    pairs = Pairs(variants, window_starts(variants, 200), number, effects["effect"].to_numpy())
    timed("hg38_chr1, nodes, exact", n, lambda: list(nodes.exact(pairs)))
    timed("hg38_chr1, nodes, one gradient", n, lambda: list(nodes.cheap(pairs)))


def loaded(model: LoadedModel, bare: SequenceModel) -> SequenceModel:
    return SequenceModel(
        model.module, model.input_bp or 0, model.outputs, {}, bare.fingerprint, bare.device
    )


def of_borzoi(folder: Path, genome: Genome, variants: pd.DataFrame) -> None:
    whole = load_model(f"borzoi-pytorch:{folder}", device="cpu")
    model = loaded(LoadedModel(whole.module, whole.input_bp), whole)
    geometry = layer_geometry(model, whole.module_of("conv1d_1"))
    nodes = VariantNodes(
        model, geometry, random_sae(geometry.n_channels, 4), genome, None, longest_bp=1,
        batch_size=256,
    )  # fmt: skip
    start = window_starts(variants, model.input_bp)
    n = len(variants)
    pairs = Pairs(variants, start, np.zeros(n, np.int64), np.full(n, np.nan))
    seconds = timed(
        "Borzoi's conv1d_1, activations only", n, lambda: list(nodes.activations(pairs))
    )
    print(f"  of a million SNPs: about {seconds / n * 1e6 / 60:.0f} CPU minutes")
    on_a_gpu()


def on_a_gpu() -> None:
    """Variants per second of the whole model, projected: operations are counted, not run."""
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        Borzoi(BorzoiConfig()).eval()(torch.zeros(1, 4, 524_288))
    tera = counted.get_total_flops() / 1e12
    print(f"Borzoi, a forward pass: {tera:.2f} TFLOP")
    for dtype, peak in GPU_TERAFLOPS.items():
        a_pass = tera / (GPU_SHARE * peak)
        print(
            f"  {dtype} at {GPU_SHARE:.0%} of {peak} TFLOP/s: {1 / (SCORE_PASSES * a_pass):.1f} "
            f"variants per second scored, {1 / (EXACT_PASSES * a_pass):.2f} explained exactly"
        )


def random_borzoi(folder: Path) -> Path:
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    torch.manual_seed(0)
    Borzoi(BorzoiConfig()).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
