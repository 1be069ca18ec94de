"""The Dagster instance of a project: where its history lies, and its default configuration."""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from saeborzoi.errors import StoreError
from saeborzoi.files import write_file
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.commands.opened import opened_instance
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_resources.dead_runs import end_dead_runs
from saeborzoi_resources.event_log import set_event_defaults
from saeborzoi_resources.instance_owner import note_owner, require_owner
from saeborzoi_resources.runs import UNFINISHED, owners_of

HOME_VARIABLE = "DAGSTER_HOME"

_CONFIGURATION = """\
# Dagster instance of this project. https://docs.dagster.io/deployment/oss/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false
python_logs:
  # else each run tells the terminal of every event
  python_log_level: INFO
event_log_storage:
  # SQLite, the events of thousands of nodes written at once; docs/scale.md says when PostgreSQL
  # is better, and how to change
  module: saeborzoi_resources.event_log
  class: BatchedSqliteEventLogStorage
sensors:
  # side by side: one that reads new inputs for 20 s must not keep the launching one waiting
  use_threads: true
  num_workers: 4
concurrency:
  runs:
    max_concurrent_runs: 4
  pools:
    # a pool is a stage: one training and one pass over the shards at a time, so that a laptop
    # is not drowned; on a cluster raise them: `dagster instance concurrency set trained_sae 8`.
    # Whole runs wait in the queue: a step that waits inside a run keeps a core busy with asking
    default_limit: 1
    granularity: run
"""


def home_of(project: Path) -> Path:
    """The instance's folder: DAGSTER_HOME, else `.dagster` beside the settings file."""
    return Path(os.environ.get(HOME_VARIABLE) or project / ".dagster").resolve()


def ensure_home(project: Path) -> Path:
    """The instance's folder: DAGSTER_HOME, else `.dagster` beside the settings file.

    Makes the folder and its `dagster.yaml` where they are missing, and sets DAGSTER_HOME for
    this process and those that it starts.

    Raises
    ------
    StoreError
        Where it cannot be written.
    SettingsError
        Where it belongs to another project.
    """
    home = home_of(project)
    require_owner(home, project)
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written")
    except OSError as error:
        raise StoreError(
            f"{home}: Dagster's history cannot be kept there ({error.strerror}); fix: set "
            f"{HOME_VARIABLE} to a folder that can be written, or give the project's folder back "
            "to its owner"
        ) from error
    if not (home / "dagster.yaml").exists():
        with write_file(home / "dagster.yaml") as temporary:
            temporary.write_text(_CONFIGURATION)
    note_owner(home, project)
    os.environ[HOME_VARIABLE] = str(home)
    set_event_defaults()
    return home


def known_partitions(project: Path) -> list[str]:
    """Partition keys of the SAEs that Dagster knows; none where there is no instance."""
    with _existing(project) as instance:
        return [] if instance is None else list(instance.get_dynamic_partitions(HYPERPARAMETERS))


def report_dead_runs(project: Path, jobs_folder: Path) -> None:
    """Report runs failed of which no process lives, and print which."""
    with _existing(project) as instance:
        if instance is not None:
            print_dead_runs(instance, jobs_folder)


def print_dead_runs(instance: dg.DagsterInstance, jobs_folder: Path) -> None:
    """As `report_dead_runs`, of an instance that is open."""
    for dead in end_dead_runs(instance, jobs_folder):
        print(dead, flush=True)


def unfinished_runs(project: Path, owners: Collection[str]) -> list[str]:
    """Runs of partitions of some layers and SAEs that wait or work; none where there is no
    instance."""
    with _existing(project) as instance:
        if instance is None:
            return []
        unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        order = list(instance.get_dynamic_partitions(HYPERPARAMETERS))
    return [run.run_id for run in unfinished if owners_of(run, order) & set(owners)]


class Forgotten(NamedTuple):
    """What an instance forgot: partitions of SAEs, and how often one was made.

    `shows_made` names assets whose partitions go on showing as made, since the event log of the
    instance cannot forget single ones.
    """

    n_partitions: int
    n_made: int
    shows_made: tuple[str, ...]


def forget(
    project: Path,
    saes: Collection[str],
    assets: Iterable[str],
    goes: Callable[[PartitionKey], bool],
) -> Forgotten:
    """Make an instance forget SAEs' partitions, and that partitions of assets were made.

    Parameters
    ----------
    project
        Folder of the settings file.
    saes
        Partition keys that go as a whole.
    assets
        Assets that may have been made.
    goes
        Whether a partition of an asset is to be forgotten.
    """
    n_made, shows_made = 0, []
    with _existing(project) as instance:
        if instance is None:
            return Forgotten(0, 0, ())
        known = [key for key in saes if instance.has_dynamic_partition(HYPERPARAMETERS, key)]
        # the partitions first: a sensor that looks in between starts nothing for them
        for key in known:
            instance.delete_dynamic_partition(HYPERPARAMETERS, key)
        for asset in assets:
            keys = instance.get_materialized_partitions(dg.AssetKey(asset))
            gone = sorted(key for key in keys if goes(PartitionKey.parse(key)))
            if not gone:
                continue
            try:
                instance.wipe_asset_partitions(dg.AssetKey(asset), gone)
                n_made += len(gone)
            except NotImplementedError:
                shows_made.append(asset)
    return Forgotten(len(known), n_made, tuple(shows_made))


@contextlib.contextmanager
def _existing(project: Path) -> Iterator[dg.DagsterInstance | None]:
    """The project's instance, None where it has none; none is made."""
    if not (home_of(project) / "dagster.yaml").exists():
        yield None
        return
    with opened_instance(ensure_home(project)) as instance:
        yield instance
