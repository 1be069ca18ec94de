"""Following jobs from a Dagster run: their logs, their Pipes messages, the run's own state.

Files are read and never truncated or deleted, so that another Dagster process can take over.
Nothing here starts or ends a job.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
    OpExecutionContext,
    PipesMessageHandler,
    PipesMessageReader,
    PipesSession,
)
from dagster_pipes import PipesContextData, PipesDefaultContextLoader, PipesDefaultMessageWriter

from saeborzoi_resources.compute.folder import JobFolder

Context = AssetExecutionContext | OpExecutionContext
_CATCH_UP_BYTES = 64_000
ROOT_RUN_TAG = "dagster/root_run_id"


def _print(line: str) -> None:
    print(line, flush=True)


_show: Callable[[str], None] = _print


def show_lines(show: Callable[[str], None] | None) -> None:
    """Hand the lines of jobs' logs to a function; None prints them."""
    global _show
    _show = show or _print


def show(line: str) -> None:
    """Show a line as those of jobs are shown."""
    _show(line)


class DagsterRun:
    """What a compute backend needs of the Dagster run that asks."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.run_id = context.run.run_id
        self.root_run_id = context.run.tags.get(ROOT_RUN_TAG, self.run_id)

    def say(self, message: str) -> None:
        """A line in the run's event log."""
        self.context.log.info(message)

    def tag(self, name: str, value: str) -> None:
        """Add a value to a tag of the run, after those that it or another step added before."""
        instance = self.context.instance
        run = instance.get_run_by_id(self.run_id)
        values = [part for part in (run.tags.get(name, "") if run else "").split(",") if part]
        if value not in values:
            instance.add_run_tags(self.run_id, {name: ",".join([*values, value])})

    def is_canceling(self) -> bool:
        """Whether somebody terminated the run. Asked of the instance, as not every executor
        sends its workers a signal (Celery does not)."""
        run = self.context.instance.get_run_by_id(self.run_id)
        return run is not None and run.status in (
            DagsterRunStatus.CANCELING,
            DagsterRunStatus.CANCELED,
        )

    def stop_if_canceling(self) -> None:
        """Leave the loop where somebody terminated the run."""
        if self.is_canceling():
            raise DagsterExecutionInterruptedError


class Tail:
    """New whole lines of a growing file; half a line waits for its end."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def lines(self, *, is_last: bool = False) -> list[str]:
        """Lines since the last call; `is_last` gives an unfinished one too."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        if not is_last:
            data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return data.decode(errors="replace").splitlines()


class MessageFile(PipesMessageReader):
    """Pipes messages of one job from a file that outlives the session."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._tail = Tail(path, offset)

    @property
    def expected_writer_count(self) -> int:
        """One worker writes into the file."""
        return 1

    @contextlib.contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[dict[str, Any]]:
        """Where the worker writes its messages. `drain` reads them, called by whoever follows."""
        yield {PipesDefaultMessageWriter.FILE_PATH_KEY: str(self._path)}

    def drain(self, handler: PipesMessageHandler) -> None:
        """Hand on the messages since the last call."""
        for line in self._tail.lines():
            handler.handle_message(json.loads(line))

    def no_messages_debug_text(self) -> str:
        """Where the messages were looked for."""
        return f"Attempted to read messages from {self._path}."


class Follower:
    """Streams one attempt of one job into a Dagster run.

    Parameters
    ----------
    run
        The run.
    folder
        The job's folder.
    prefix
        Stands before each line of the log, to tell jobs apart.
    is_new
        Whether the attempt starts now; else a running one is joined: its messages are told again
        from the start, its log from a little before the end.
    """

    def __init__(self, run: DagsterRun, folder: JobFolder, prefix: str, *, is_new: bool) -> None:
        self._run = run
        self._prefix = prefix
        sizes = [
            path.stat().st_size if path.exists() else 0 for path in (folder.log, folder.messages)
        ]
        log_offset = sizes[0] if is_new else max(0, sizes[0] - _CATCH_UP_BYTES)
        self._log = Tail(folder.log, log_offset)
        self._reader = MessageFile(folder.messages, sizes[1] if is_new else 0)
        self._handler = PipesMessageHandler(run.context, self._reader)

    def environment(self, extras: dict[str, Any]) -> dict[str, str]:
        """Environment variables that connect the worker with this run through Pipes."""
        context = self._run.context
        # not `open_pipes_session`: it forces the asset's way of returning, deletes what a
        # restarted Dagster needs, and describes one partition where a job is for many
        data = PipesContextData(
            asset_keys=None,
            code_version_by_asset_key=None,
            provenance_by_asset_key=None,
            partition_key=None,
            partition_key_range=None,
            partition_time_window=None,
            run_id=self._run.run_id,
            job_name=context.run.job_name,
            retry_number=context.retry_number,
            extras=extras,
        )
        with self._handler.handle_messages() as messages:
            session = PipesSession(
                context_data=data,
                message_handler=self._handler,
                context_injector_params={PipesDefaultContextLoader.DIRECT_KEY: data},
                message_reader_params=messages,
                context=context,
            )
            return dict(session.get_bootstrap_env_vars())

    def drain(self, *, is_last: bool = False) -> None:
        """Stream what is new: log lines to the step's output, messages to the event log."""
        for line in self._log.lines(is_last=is_last):
            _show(f"{self._prefix}{line}")
        self._reader.drain(self._handler)
