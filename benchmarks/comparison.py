"""CPU time and memory of comparing two SAEs, at the size of conv1d_4 (4,224 nodes).

Prints the steps of one pair beside each other and what they come to for 100 SAEs of one layer.
Run: ``python benchmarks/comparison.py [n_nodes] [n_channels] [n_top]``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from saeborzoi.comparison import stability


def main(n_nodes: int = 4224, n_channels: int = 1056, n_top: int = 1000) -> None:
    """Make two SAEs that share half of their nodes, and time what the asset does with them."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n_nodes // 2, n_channels))
    with tempfile.TemporaryDirectory() as name:
        files = [_make_sae(Path(name), side, shared, n_nodes, n_top) for side in "ab"]
        before = _memory_mb()
        read_s, dictionaries = _timed(lambda: [stability.read_dictionary(*f) for f in files])
    a, b = dictionaries
    match_s, found = _timed(lambda: stability.match_nodes(a, b, 0.7, 0.0))
    jaccard_s, _ = _timed(lambda: stability.jaccard_of_sets(a.loci, b.loci))
    print(f"{n_nodes} nodes, {n_channels} channels, {n_top} positions a node; CPU seconds")
    print(f"  read one SAE                 {read_s / 2:.2f}")
    print(f"  match a pair                 {match_s:.2f}   ({len(found.node_a)} pairs of nodes)")
    print(f"    of it, Jaccard, all nodes  {jaccard_s:.2f}")
    print(f"  peak memory of the pair      {_memory_mb() - before:.0f} MB")
    pairs = 100 * 99 // 2
    reads = sum(1 for _ in _reads(100))
    total = pairs * match_s + reads * read_s / 2
    print(f"  100 SAEs of one layer: {pairs} pairs, {reads} reads: {total / 3600:.2f} CPU hours")
    print(f"  one SAE more: {(99 * match_s + 100 * read_s / 2) / 60:.1f} CPU minutes")


def _make_sae(
    folder: Path, side: str, shared: np.ndarray, n_nodes: int, n_top: int
) -> tuple[Path, Path]:
    rng = np.random.default_rng(ord(side))
    own = rng.normal(size=(n_nodes - len(shared), shared.shape[1]))
    weights, top = folder / f"{side}.safetensors", folder / f"{side}.parquet"
    save_file({"W_dec": np.vstack([shared, own]).astype(np.float32)}, weights)
    node = np.repeat(np.arange(n_nodes, dtype=np.int32), n_top)
    position = rng.permuted(np.arange(n_nodes * n_top, dtype=np.int32))
    pd.DataFrame({"node": node, "window": position % 6000, "position": position}).to_parquet(top)
    return weights, top


def _timed(work):  # type: ignore[no-untyped-def]
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _reads(n: int):  # type: ignore[no-untyped-def]
    """SAEs in the order in which they are read, the last 2 x TILE being kept."""
    kept: list[str] = []
    for pair in stability.tiled_pairs([f"{i:03d}" for i in range(n)]):
        for key in pair:
            if key not in kept:
                yield key
            kept = [*(other for other in kept if other != key), key][-2 * stability.TILE :]


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
