"""What Dagster loads: the assets of one project with its resource and executor.

`build_definitions` is the seam for tests and for other deployments: the same graph with another
settings file, or with other resources.
"""

import logging
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import dagster as dg

from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.load import find_settings_file, load_settings
from saeborzoi_assets.assets import input_files
from saeborzoi_assets.partitions import Partitions
from saeborzoi_assets.sensors import automation, schedule, stale_results
from saeborzoi_resources.event_log import set_event_defaults
from saeborzoi_resources.instance_owner import require_owner
from saeborzoi_resources.platform import Platform


@dg.logger(config_schema={"log_level": dg.Field(str, default_value="INFO")})
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Plain lines on the terminal. Unlike Dagster's own console logger it keeps to its level for
    what assets and stages log, too, so that progress does not stand there twice."""
    handler = logging.StreamHandler()
    handler.setLevel(init_context.logger_config["log_level"])
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("saeborzoi.console")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    return logger


def build_definitions(
    settings_file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Definitions of a project.

    Parameters
    ----------
    settings_file
        `dagster_project.toml`; left out, found from SAEBORZOI_PROJECT or the working directory.
    overrides
        Resources to use in the place of those of the same name.

    Raises
    ------
    SettingsError
        Where the settings are missing or wrong.
    """
    settings_file = settings_file or find_settings_file()
    settings = load_settings(settings_file)
    partitions = Partitions.of(settings)
    return dg.Definitions(
        assets=[
            input_files.build(partitions),
            *(
                import_module(f"saeborzoi_assets.assets.{artifact.name}").build(partitions)
                for artifact in artifacts_of(settings)
            ),
        ],
        resources={"platform": Platform(settings_file=str(settings_file)), **(overrides or {})},
        asset_checks=[stale_results.check()],
        sensors=[
            *automation.sensors(partitions),
            input_files.sensor(),
            stale_results.sensor(),
        ],
        schedules=[definition] if (definition := schedule.schedule(partitions)) else [],
        executor=dg.multi_or_in_process_executor,
        loggers={"console": console},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The project that SAEBORZOI_PROJECT or the working directory names."""
    # for the processes of runs, whatever started them and whichever event log they write
    set_event_defaults()
    settings_file = find_settings_file()
    if not (home := os.environ.get("DAGSTER_HOME")):
        # Dagster would make a temporary instance, which knows no SAE and forgets what was made;
        # click, as its commands are: one line instead of the way through them
        raise click.UsageError(
            "DAGSTER_HOME is not set, so that Dagster does not find this project's instance; fix: "
            f"`export DAGSTER_HOME={settings_file.parent / '.dagster'}`, or use `saeborzoi run` "
            "and `saeborzoi ui`, which set it"
        )
    require_owner(Path(home), settings_file.parent)
    return build_definitions(settings_file)
