"""The Dagster instance of a project: where its history lies, and its default configuration."""

import os
from pathlib import Path

from saeborzoi.artifacts import write_file
from saeborzoi_resources.event_log import set_event_defaults

HOME_VARIABLE = "DAGSTER_HOME"

_CONFIGURATION = """\
# Dagster instance of this project. https://docs.dagster.io/deployment/oss/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false
event_log_storage:
  # SQLite, the events of thousands of nodes written at once; docs/scale.md says when PostgreSQL
  # is better, and how to change
  module: saeborzoi_resources.event_log
  class: BatchedSqliteEventLogStorage
concurrency:
  runs:
    max_concurrent_runs: 4
  pools:
    # a pool is a stage: one training and one pass over the shards at a time, so that a laptop
    # is not drowned; on a cluster raise them: `dagster instance concurrency set trained_sae 8`
    default_limit: 1
    granularity: op
"""


def ensure_home(project: Path) -> Path:
    """The instance's folder: DAGSTER_HOME, else `.dagster` beside the settings file.

    Makes the folder and its `dagster.yaml` where they are missing, and sets DAGSTER_HOME for
    this process and those that it starts.
    """
    home = Path(os.environ.get(HOME_VARIABLE) or project / ".dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        with write_file(home / "dagster.yaml") as temporary:
            temporary.write_text(_CONFIGURATION)
    os.environ[HOME_VARIABLE] = str(home)
    set_event_defaults()
    return home
