"""Runs side by side in one process."""

from __future__ import annotations

import logging.config
import os
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi_assets.commands.instance import ensure_home
from saeborzoi_assets.commands.launch import Launcher
from saeborzoi_assets.plan import steps
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import make_small_project

_HANDLERS = """python_logs:
  dagster_handler_config:
    handlers:
      own:
        class: logging.FileHandler
        filename: {path}
        level: INFO
"""


@pytest.mark.filterwarnings("ignore:Handling yaml-defined logging configuration")
def test_runs_side_by_side_do_not_configure_logging_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Dagster does at each run, under a lock that an event of the run beside it may wait for. What
    `dagster.yaml` wants of logging holds for both. Afterwards the terminal is as it was."""
    for name in ("DAGSTER_HOME", "SAEBORZOI_PROJECT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    settings_file = make_small_project(tmp_path / "project")
    monkeypatch.setenv("SAEBORZOI_PROJECT", str(settings_file))
    home, log = ensure_home(settings_file.parent), tmp_path / "own.log"
    yaml = (home / "dagster.yaml").read_text()
    own = _HANDLERS.format(path=log)
    (home / "dagster.yaml").write_text(yaml.replace("python_logs:\n", own))
    settings = Platform(settings_file=str(settings_file)).settings
    wanted = steps(settings, settings.wanted()[0])
    configure, configured = logging.config.dictConfig, list[threading.Thread]()

    def note(config: dict[str, Any]) -> None:
        configured.append(threading.current_thread())
        configure(config)

    monkeypatch.setattr(logging.config, "dictConfig", note)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        launcher = Launcher(settings_file, instance)
        ends: dict[str, str] = {}
        # without the normalization both fail at once, with a dozen of events each
        threads = [
            threading.Thread(
                target=lambda step=step: ends.update({step.name: launcher.run(step).state})
            )
            for step in wanted
            if step.name in ("training", "fan-in")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "the runs wait for each other"
    os.write(1, b"to the terminal")
    assert capfd.readouterr().out.endswith("to the terminal")
    assert ends == {"training": "failure", "fan-in": "failure"}
    assert configured == [threading.current_thread()]
    lines = log.read_text()
    assert all(f"{asset} - STEP_FAILURE" in lines for asset in ("trained_sae", "motif_evidence"))
