"""Discovery in processes: what ends the session of the process that waits for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import ComputeError
from saeborzoi.motifs.discovery import discover_nodes
from saeborzoi.motifs.pool import search_pool

_SEARCH = """
import importlib, os, signal, sys, threading
import numpy as np, pandas as pd
from saeborzoi.motifs.discovery import discover_nodes
from saeborzoi.motifs.pool import _MODULES, _context, search_pool

def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print(_context().get_start_method())
    with search_pool(2) as pool:
        rng = np.random.default_rng(0)
        texts = ["".join(rng.choice(list("ACGT"), 14)) for _ in range(2400)]
        seqlets = pd.DataFrame({
            "node": np.repeat(np.arange(40), 60), "rank": np.tile(np.arange(60), 40),
            "activation": 1.0, "sequence": texts,
        })
        for node in discover_nodes(seqlets, pool=pool, stop=stop):
            print(node.node, flush=True)
    print("ended", stop.is_set(), flush=True)

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        for module in _MODULES:
            importlib.import_module(module)
    if sys.argv[1] == "fork" and (copy := os.fork()):
        # what loads libraries has threads of theirs; a copy of it has not
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked, or not told")
@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_a_signal_to_the_whole_session_ends_the_search_with_the_nodes_under_way(
    start: str,
) -> None:
    """As `saeborzoi run` asks a worker to stop: the processes, and the server that they may be
    forked from, get it, too."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SEARCH, start],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == start
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    *nodes, ended = [first.strip(), *output.split("\n")[:-1]]
    assert ended == "ended True"
    assert len(nodes) < 40


def test_a_process_that_is_killed_is_told_in_words() -> None:
    rng = np.random.default_rng(0)
    seqlets = pd.DataFrame(
        {
            "node": np.repeat(np.arange(8), 40),
            "rank": np.tile(np.arange(40), 8),
            "activation": 1.0,
            "sequence": ["".join(rng.choice(list("ACGT"), 14)) for _ in range(320)],
        }
    )
    with search_pool(2) as pool:
        nodes = discover_nodes(seqlets, pool=pool)
        next(nodes)
        multiprocessing.active_children()[0].kill()
        with pytest.raises(ComputeError, match="was killed, mostly because memory ran out"):
            list(nodes)
