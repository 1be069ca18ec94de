"""Dagster's own processes as `saeborzoi ui` wants them. A part of the door to Dagster's inside."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from subprocess import Popen
from typing import Any


def run_dagster_dev(
    arguments: Sequence[str], web_server: str, environment: Mapping[str, str]
) -> None:
    """Run `dagster dev` in this process, until it is ended, with a web server of our own.

    Parameters
    ----------
    arguments
        Those of `dagster dev`.
    web_server
        Module that is started in the place of `dagster_webserver`, with the same arguments.
    environment
        More variables for the web server alone.
    """
    from dagster._cli import dev

    start = dev.open_ipc_subprocess

    def start_ours(parts: Sequence[str], **options: Any) -> Popen[Any]:
        if list(parts[1:3]) == ["-m", "dagster_webserver"]:
            parts = [parts[0], "-m", web_server, *parts[3:]]
            options["env"] = {**os.environ, **environment}
        return start(parts, **options)

    dev.open_ipc_subprocess = start_ours
    # of the newer `dg` command line, which a project without `dg.toml` does not have
    warnings.filterwarnings("ignore", message="Function `dev_command` is superseded")
    dev.dev_command.main(list(arguments), prog_name="dagster dev", standalone_mode=False)


def run_web_server(wrapped: Callable[[Any], Any]) -> None:
    """Run Dagster's web server with this process's arguments, its application wrapped."""
    from dagster_webserver import cli

    make = cli.create_app_from_workspace_process_context

    def make_wrapped(*arguments: Any, **options: Any) -> Any:
        return wrapped(make(*arguments, **options))

    cli.create_app_from_workspace_process_context = make_wrapped
    cli.main()
