"""Materializes whole SAEs through `dagster asset materialize`, as a person would type it."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from saeborzoi.errors import ComputeError
from saeborzoi.hyperparameters import Hyperparameters, node_key
from saeborzoi.settings import PROJECT_VARIABLE, Settings
from saeborzoi_assets.instance import ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS

_CONFIG = json.dumps(
    {
        # the stages tell their progress themselves; Dagster's events stay in the run's log
        "loggers": {"console": {"config": {"log_level": "WARNING"}}},
        # steps of one command run one after the other anyway: one process starts faster
        "execution": {"config": {"in_process": {}}},
    }
)
# of the newer `dg` command line, which a project without `dg.toml` does not have
_NO_WARNING = "ignore:Function `asset_materialize_command` is superseded"


class Step(NamedTuple):
    """One `dagster asset materialize`: assets that share a partition space."""

    assets: tuple[str, ...]
    partition: str
    is_range: bool = False

    def command(self) -> list[str]:
        """Arguments after the interpreter."""
        return [
            "-m", "dagster", "asset", "materialize",
            "-m", "saeborzoi_assets.definitions",
            "--select", ",".join(self.assets),
            "--partition-range" if self.is_range else "--partition", self.partition,
            "--config-json", _CONFIG,
        ]  # fmt: skip


def steps(settings: Settings, hyperparameters: Hyperparameters) -> list[Step]:
    """What to materialize for one SAE, in order."""
    layer = settings.layer_named(hyperparameters.layer)
    key = hyperparameters.key
    last = node_key(hyperparameters.n_nodes(layer.n_channels) - 1)
    return [
        Step(("normalization_constants",), layer.name),
        Step(("trained_sae", "top_activations"), key),
        Step(
            ("seqlets", "meme_motifs", "tomtom_matches"),
            f"{key}|n0000...{key}|{last}",
            is_range=True,
        ),
        Step(("umap_embedding", "annotation_overlaps", "jaccard_matrix"), key),
    ]


def dagster_dev(settings_file: Path, host: str, port: int) -> int:
    """Run Dagster's web interface and daemon on the project's instance until interrupted."""
    os.environ[PROJECT_VARIABLE] = str(settings_file)
    ensure_home(settings_file.parent)
    print(f"http://{host}:{port} shows {settings_file}; Ctrl-C ends it", flush=True)
    command = [
        sys.executable, "-m", "dagster", "dev", "-m", "saeborzoi_assets.definitions",
        "--host", host, "--port", str(port),
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode


def run(settings_file: Path, settings: Settings, wanted: Sequence[Hyperparameters]) -> None:
    """Materialize every asset of some SAEs, one command after the other, output as it comes.

    Raises
    ------
    ComputeError
        Where a command fails; what was made before stays.
    """
    os.environ[PROJECT_VARIABLE] = str(settings_file)
    home = ensure_home(settings_file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, [h.key for h in wanted])
    for hyperparameters in wanted:
        for step in steps(settings, hyperparameters):
            command = step.command()
            print(f"\n$ {shlex.join(['dagster', *command[2:-2]])}", flush=True)
            start = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-W", _NO_WARNING, *command], check=False
            ).returncode
            if code != 0:
                raise ComputeError(
                    f"{', '.join(step.assets)} of {step.partition} failed (exit code {code}); "
                    "the reason stands above. Earlier results are untouched; mend it and run the "
                    "same command again"
                )
            print(f"  {', '.join(step.assets)}: {time.monotonic() - start:.0f} s", flush=True)
