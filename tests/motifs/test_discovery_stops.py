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

_SEARCH = """
import signal, sys, threading
import numpy as np, pandas as pd
from saeborzoi.motifs.discovery import discover_nodes

def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rng = np.random.default_rng(0)
    seqlets = pd.DataFrame({
        "node": np.repeat(np.arange(40), 60), "rank": np.tile(np.arange(60), 40),
        "activation": 1.0, "sequence": ["".join(rng.choice(list("ACGT"), 14)) for _ in range(2400)],
    })
    for node in discover_nodes(seqlets, threads=2, stop=stop):
        print(node.node, flush=True)
    print("ended", stop.is_set(), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_to_the_whole_session_ends_the_search_with_the_nodes_under_way() -> None:
    """As `saeborzoi run` asks a worker to stop: the server that the processes are forked from gets
    it, too."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SEARCH],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
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
    nodes = discover_nodes(seqlets, threads=2)
    next(nodes)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(ComputeError, match="was killed, mostly because memory ran out"):
        list(nodes)
