"""Everything about a GPU in one run of at most eight minutes; figures beside the card's name.

    python benchmarks/gpu.py --work FOLDER                   # all parts, as far as time goes
    python benchmarks/gpu.py --work FOLDER --only step feed

Without a GPU it says what it would do, and runs the kernels under Triton's interpreter. A step's
*share* counts the five dense products of a position against the rate of a large half-precision
product in the same run. Published peers are measured where they are installed (`gpu_peers.py`).
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sae_quality import data_of

from saeborzoi.activations.loader import TrainingStream
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.nodes.top_activations import top_activations
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.gpu.feed import DeviceStream
from saeborzoi.sae.gpu.plain import PlainLayer
from saeborzoi.sae.gpu.products import product
from saeborzoi.sae.gpu.trainer import DeviceTrainer
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import TrainingLoop, in_batches
from saeborzoi.settings.hyperparameters import Hyperparameters

ROOT = Path(__file__).parents[1]
LIMIT_S = 480
TESTS = ["tests/sae/gpu", "tests/nodes/test_top_activations.py", "tests/sae/test_training.py"]
SHAPES = {"608 -> 2432, k 30": (608, 2432, 30), "1056 -> 4224, k 52": (1056, 4224, 52)}
BATCHES = (4096, 16_384, 65_536)
BEGAN = time.monotonic()


def microseconds(work: Callable[[], object], n: int = 20) -> float:
    """Of one call, on the device."""
    for _ in range(3):
        work()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(n):
        work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / n * 1e3


def matrix_rate(size: int = 8192) -> float:
    """Operations a second of a large float16 product."""
    a = torch.randn(size, size, device="cuda").half()
    return 2 * size**3 / microseconds(lambda: a @ a) * 1e6


def trainer_of(
    shape: tuple[int, int, int], raw: torch.Tensor, *, variant: str = "topk", plain: bool = False
) -> DeviceTrainer:
    """A trainer whose batch is `raw`; with the layer that the card gets, or the plain one."""
    sae = SparseAutoencoder(*shape, variant)  # type: ignore[arg-type]
    h = Hyperparameters(layer="known", variant=variant)  # type: ignore[arg-type]
    sample = raw[:4096].float().cpu()
    initialize(sae, RECIPES["default"], h, sample)
    variance = float(sample.var(0).sum())
    trainer = DeviceTrainer(
        sae.cuda(), h, RECIPES["default"], 100_000, len(raw), variance, raw
    )  # fmt: skip
    if plain:
        layer = trainer.layer
        trainer.layer = PlainLayer(layer.weights, layer.batch, layer.progress, layer.constants)
    trainer.prepare()
    return trainer


def positions(n_channels: int, n: int) -> torch.Tensor:
    """(n, n_channels) float16 of the known dictionary's kind, drawn on the device."""
    generator = torch.Generator("cuda").manual_seed(0)
    n_features = 2 * n_channels
    directions = torch.randn(n_features, n_channels, generator=generator, device="cuda")
    directions /= directions.norm(dim=1, keepdim=True)
    parts = []
    for _ in range(-(-n // 8192)):
        strength = torch.randn(8192, n_features, generator=generator, device="cuda").mul(0.8).exp()
        is_active = torch.rand(8192, n_features, generator=generator, device="cuda") < 0.016
        noise = torch.randn(8192, n_channels, generator=generator, device="cuda")
        parts.append(((strength * is_active) @ directions + 0.12 * noise).half())
    return torch.cat(parts)[:n].contiguous()


def tests(_: Path) -> None:
    """The tests that need a GPU, and the kernels on it."""
    run_tests(["-k", "cuda or kernels or device or selection"])


def run_tests(more: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", *TESTS, "-q", "--maxfail=10", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, timeout=240, check=False)


def step(_: Path) -> None:
    """A step by each layer, of each shape and batch; its parts at 16,384."""
    rate = matrix_rate()
    print(f"large float16 product: {rate / 1e12:.0f} TFLOP/s")
    for name, shape in SHAPES.items():
        for n in BATCHES:
            raw = positions(shape[0], n)
            rates = {}
            for layer in ("chosen", "plain"):
                trainer = trainer_of(shape, raw, plain=layer == "plain")
                us = microseconds(lambda: trainer.train_step(raw))  # noqa: B023
                rates[layer] = n / us
                share = n / us * 1e6 * 10 * shape[0] * shape[1] / rate
                print(
                    f"{name}, batch {n:,}, {trainer.layer.name}: {us:,.0f} us a step, "
                    f"{n / us:.2f} M positions/s, {share:.0%} of the product's rate"
                )
                if n == 16_384:
                    print(f"  us: {parts(trainer)}")
                trainer.window()
                del trainer
                torch.cuda.empty_cache()
            print(f"  {rates['chosen'] / rates['plain']:.1f} times plain PyTorch")
    for variant in ("batch_topk", "matryoshka"):
        for n in BATCHES[:2]:
            raw = positions(608, n)
            for plain in (False, True):
                trainer = trainer_of(SHAPES["608 -> 2432, k 30"], raw, variant=variant, plain=plain)
                us = microseconds(lambda: trainer.train_step(raw))  # noqa: B023
                print(f"{variant}, batch {n:,}, {trainer.layer.name}: {n / us:.2f} M positions/s")


def parts(trainer: DeviceTrainer) -> str:
    """Microseconds of each part by itself."""
    b, w, layer = trainer.batch, trainer.weights, trainer.layer
    work = {
        "prepare": layer.prepare,
        "encode": lambda: product(b.y, w.encoder_half.T, b.h),
        "select": layer.select,
        "decode": layer.decode,
        "gradients": trainer._gradients,
        "figures": trainer._figures,
        "AuxK": trainer._revive,
        "update": layer.update,
    }
    with torch.no_grad():
        return ", ".join(f"{name} {microseconds(f, 10):.0f}" for name, f in work.items())


def accuracy(_: Path) -> None:
    """Gradients and selection of a step against float32, after 80 steps."""
    raw = positions(608, 8 * 4096).view(8, 4096, 608)
    trainer = trainer_of(SHAPES["608 -> 2432, k 30"], raw[0].clone())
    for i in range(80):
        trainer.train_step(raw[i % 8])
    sae = copy.deepcopy(trainer.sae)
    trainer.batch.raw.copy_(raw[3])
    n = sae.normalize(raw[3])
    h = sae.pre_activations(n.y).relu()
    value, node = h.topk(sae.k)
    z = torch.zeros_like(h).scatter(1, node, value)
    error = (z @ sae.decoder_weight + sae.pre_bias) * n.std - n.y * (n.std + 1e-5)
    error.square().mean().backward()
    with torch.no_grad():
        trainer.run()
    b, scale = trainer.batch, trainer.layer.constants.gradient_scale
    mine = (
        b.gradient[0, :, :608], b.gradient[0, :, 608], b.gradient[1, :, :608], b.pre_bias_sum,
    )  # fmt: skip
    for (name, parameter), gradient in zip(sae.named_parameters(), mine, strict=True):
        assert parameter.grad is not None
        difference = (gradient * scale - parameter.grad).norm() / parameter.grad.norm()
        print(f"gradient of {name}: {float(difference):.1e} relative (wanted: below 6e-2)")
    same = (b.z > 0).gather(1, node)[value > 0].float().mean()
    print(f"selected nodes equal to float32's: {float(same):.4%} (wanted: 99.9%)")


def feed(work: Path) -> None:
    """From files in the page cache: to the device, and through the whole training call."""
    data = data_of(work, KnownDictionary(), 524_288)
    n = 8 * data.train.n_positions
    for _ in data.train.in_order():
        pass
    for threads in (1, 4, 8):
        stream = TrainingStream(data.train, 0, 256, threads)
        stream.keeps = False  # as data that does not fit memory
        source = DeviceStream(stream, 16_384, torch.device("cuda"))
        began = time.perf_counter()
        for _, _batch in zip(range(n // 16_384), source.batches(16_384), strict=False):
            pass
        torch.cuda.synchronize()
        print(
            f"files to the device, {threads} threads: "
            f"{n / (time.perf_counter() - began) / 1e6:.2f} M positions/s"
        )
    for batch_size in (4096, 16_384):
        schedule = Schedule(
            n_positions=4 * n, batch_size=batch_size, validate_every_positions=10**9
        )
        loop = TrainingLoop(data, schedule, torch.device("cuda"), threads=8)
        began = time.perf_counter()
        loop.run([Hyperparameters(layer="known")])
        rate = 4 * n / (time.perf_counter() - began)
        print(f"TrainingLoop.run, batch {batch_size:,}: {rate / 1e6:.2f} M positions/s")


def quality(work: Path) -> None:
    """3M positions of the known dictionary, three seeds, on the GPU and on the CPU."""
    known = KnownDictionary()
    data = data_of(work, known, 524_288)
    schedule = Schedule(n_positions=3_000_000, batch_size=4096, validate_every_positions=10**9)
    torch.set_num_threads(8)
    for seed in range(3):
        for device in ("cuda", "cpu"):
            loop = TrainingLoop(data, schedule, torch.device(device), threads=8)
            sae = loop.run([Hyperparameters(layer="known", seed=seed)])[0].sae.cpu()
            measured = evaluate(sae, in_batches(data.validation, 4096), 8)  # type: ignore[arg-type]
            recovery = known.recovery(sae)
            print(
                f"seed {seed}, {device}: FVU {measured.fvu:.4f}, MMCS {recovery.mmcs:.4f}, "
                f"{recovery.recovered_fraction:.1%} recovered, {measured.dead_fraction:.2%} dead"
            )


def inference(work: Path) -> None:
    """The pass over positions, from files and of what is on the device."""
    from saeborzoi.nodes.device_scan import Sums, Top
    from saeborzoi.sae.gpu.selector import DeviceSelector

    known = KnownDictionary()
    data = data_of(work, known, 524_288)
    sae = SparseAutoencoder(608, 2432, 30)
    sae.channel_max.copy_(torch.from_numpy(data.channel_max))
    sample = torch.from_numpy(known.positions(4096, "sample")[0])
    initialize(sae, RECIPES["default"], Hyperparameters(layer="known"), sample)
    sae = sae.cuda().requires_grad_(False)
    raw, n = positions(608, 16_384), 16_384
    sums, top = Sums(sae), Top(2432, 1000, raw.device)
    identity = torch.arange(n, device="cuda")
    selector = DeviceSelector(sae)
    value, node = selector(raw)
    work_of = {
        "activations": lambda: selector(raw),
        "sums": lambda: sums.add(value, node),
        "strongest": lambda: top.add(value, node, identity),
    }
    us = {name: microseconds(f) for name, f in work_of.items()}
    each = ", ".join(f"{name} {t / n * 1e3:.0f}" for name, t in us.items())
    print(f"on the device: {n / sum(us.values()):.2f} M positions/s (ns a position: {each})")
    for _ in range(2):  # the first one compiles and fills the page cache
        began = time.perf_counter()
        top_activations(sae, data.train, 1000, 0.5, threads=8)
        rate = data.train.n_positions / (time.perf_counter() - began)
    print(f"top_activations from files: {rate / 1e6:.2f} M positions/s")


def peers(_: Path) -> None:
    """Steps of published libraries on the same data."""
    from gpu_peers import rates

    for n in BATCHES:
        for name, rate in rates(positions(608, n).float(), 2432, 30, microseconds):
            print(f"{name}, batch {n:,}: {rate}")


PARTS = {
    part.__name__: part for part in (step, accuracy, inference, feed, peers, quality, tests)
}  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for made shards")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU that PyTorch can use is here. With one this would measure:")
        for name in options.only:
            print(f"  {name}: {PARTS[name].__doc__}")
        print("The kernels under Triton's interpreter, and what else is right without a GPU:")
        run_tests(["-k", "gpu"])
        return
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (libraries measured beside)
    print(
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} CPUs, PyTorch {torch.__version__}",
        flush=True,
    )
    for name in options.only:
        left = LIMIT_S - (time.monotonic() - BEGAN)
        if left < 30:
            print(f"{name}: left out, the eight minutes are over")
            continue
        print(f"\n{name}: {PARTS[name].__doc__}", flush=True)
        try:
            PARTS[name](options.work)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"{name}: failed, {error}")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
