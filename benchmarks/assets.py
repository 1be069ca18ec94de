"""Wall time and peak memory of each asset, and the import time of the definitions.

    python -m benchmarks.assets              the demo, made in a temporary folder
    python -m benchmarks.assets FOLDER       a project of yours; its results are made again

Each asset is one `dagster asset materialize`, start of the interpreter included. Peak memory is of
the largest process of the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from saeborzoi.settings.load import FILE_NAME, PROJECT_VARIABLE, load_settings
from saeborzoi_assets.commands.instance import HOME_VARIABLE, ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import command_of, steps

_IMPORT = (
    "import sys, time; start = time.perf_counter(); "
    "from saeborzoi_assets.definitions import build_definitions; build_definitions(); "
    "heavy = [m for m in ('torch', 'umap', 'numba') if m in sys.modules]; "
    "print(time.perf_counter() - start, heavy)"
)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        if len(sys.argv) > 1:
            settings_file = Path(sys.argv[1]).resolve() / FILE_NAME
        else:
            # in a process of its own: what this one ever held counts as its children's peak
            make = "import sys, pathlib; from saeborzoi.demo import make_demo; "
            make += "make_demo(pathlib.Path(sys.argv[1]))"
            subprocess.run([sys.executable, "-c", make, temporary], check=True)
            settings_file = Path(temporary) / FILE_NAME
        os.environ[PROJECT_VARIABLE] = str(settings_file)
        os.environ.pop(HOME_VARIABLE, None)
        # an instance of its own: the figures are of a fresh one
        home = ensure_home(Path(temporary) / "instance")
        for _ in range(3):
            done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True)
            print(
                f"definitions load in {done.stdout.decode().strip()} s, heavy modules in brackets"
            )
        settings = load_settings(settings_file)
        wanted = settings.wanted()[0]
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions(HYPERPARAMETERS, [wanted.key])
        print(f"\n{wanted.key}\n\n| asset | wall s | peak MiB |\n|---|---|---|")
        for step in steps(settings, wanted):
            for asset in step.assets:
                command = command_of(step._replace(assets=(asset,)))
                start = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
                assert process.stderr is not None
                log = process.stderr.read()
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    sys.exit(log.decode())
                wall = time.perf_counter() - start
                print(f"| {asset} | {wall:.1f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
