"""Materializes whole SAEs through `dagster asset materialize`, as a person would type it."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from saeborzoi.errors import ComputeError
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import PROJECT_VARIABLE, Settings
from saeborzoi_assets.assets import input_files
from saeborzoi_assets.commands.instance import ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import Step, steps

_CONFIG = json.dumps(
    {
        # the stages tell their progress themselves and failures are told below; Dagster's own
        # events and stack traces stay in the run's log
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        # steps of one command run one after the other anyway: one process starts faster
        "execution": {"config": {"in_process": {}}},
    }
)
# of the newer `dg` command line, which a project without `dg.toml` does not have
_NO_WARNING = "ignore:Function `asset_materialize_command` is superseded"


def command_of(step: Step) -> list[str]:
    """`dagster asset materialize` of a step, without its configuration."""
    option = "--partition" if step.first == step.last else "--partition-range"
    return [
        "dagster", "asset", "materialize", "-m", "saeborzoi_assets.definitions",
        "--select", ",".join(step.assets), option, step.partition,
    ]  # fmt: skip


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
        for seen in input_files.observations(input_files.versions(settings)):
            instance.report_runless_asset_event(seen)
    for hyperparameters in wanted:
        for step in steps(settings, hyperparameters):
            command = command_of(step)
            print(f"\n$ {shlex.join(command)}", flush=True)
            start = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-W", _NO_WARNING, "-m", *command, "--config-json", _CONFIG],
                check=False,
            ).returncode
            if code != 0:
                raise ComputeError(
                    f"{', '.join(step.assets)} of {step.partition} failed: {_why(home)}\n"
                    "Earlier results are untouched; mend it and run the same command again"
                )
            print(f"  {', '.join(step.assets)}: {time.monotonic() - start:.0f} s", flush=True)


def _why(home: Path) -> str:
    """What the newest run says of its failed steps."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(limit=1)
        if not runs:
            return "the reason stands above"
        failed = instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    reasons = []
    for entry in failed:
        data = entry.get_dagster_event().step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        reasons.append(told or (data.error.to_string() if data.error else "unknown"))
    return "\n".join(reasons) or "the reason stands above"
