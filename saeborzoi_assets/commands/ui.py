"""`saeborzoi ui`: Dagster's web interface and daemon on the project's instance."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from saeborzoi.browser.door import is_loopback, own_addresses, this_machine, tunnel
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.files import lock_file, write_json
from saeborzoi.settings.compute_sections import Automation
from saeborzoi.settings.load import PROJECT_VARIABLE, load_settings
from saeborzoi_assets.commands.instance import ensure_home, report_dead_runs
from saeborzoi_assets.sensors.schedule import local_timezone
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.first_release import take_over

_DEFINITIONS = ("-m", "saeborzoi_assets.definitions")


def serve_ui(
    settings_file: Path, host: str, port: int, *, with_token: bool, knows_the_risk: bool
) -> None:
    """Run Dagster's web interface and daemon until they are ended.

    In this process, so that a signal or a closed terminal ends them, too: a daemon that is left
    behind goes on launching runs beside the next one.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    with_token
        Ask for a token on loopback, too, which other users of this machine reach.
    knows_the_risk
        Ask for none anywhere.

    Raises
    ------
    SaeBorzoiError
        Where the port is taken or the project's interface is already running; nothing is started.
    """
    os.environ[PROJECT_VARIABLE] = str(settings_file)
    home = ensure_home(settings_file.parent)
    token = ""
    if not knows_the_risk and (with_token or not is_loopback(host)):
        token = secrets.token_urlsafe(24)
    with _only_one(home) as holder:
        port = require_free_port(host, port)
        names = own_addresses(host) or [this_machine(host)]
        address = f"http://{names[0]}:{port}"
        write_json(holder, {"pid": os.getpid(), "host": os.uname().nodename, "address": address})
        platform = Platform(settings_file=str(settings_file))
        report_dead_runs(settings_file.parent, platform.store.jobs)
        take_over(platform)
        for line in _words(settings_file, host, port, names, token):
            print(line, flush=True)
        _dagster_dev(host, port, token, platform.store.browser, settings_file)


def require_free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises
    ------
    SaeBorzoiError
        Where it cannot be listened on.
    """
    try:
        if not 0 <= port <= 65535:
            # the name service would take the rest of a division
            raise OverflowError("ports are 0-65535")
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # as the web server does, which may follow one that has just ended
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            return int(probe.getsockname()[1])
    except (OSError, OverflowError, UnicodeError) as error:
        raise SaeBorzoiError(
            f"port {port} of {host} cannot be listened on ({error}); nothing was started: choose "
            "another --port (0 takes a free one) or --host, or end what listens there"
        ) from None


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[Path]:
    """Hold the instance for one interface, as two daemons launch everything twice; the file that
    says who holds it."""
    lock = lock_file(home / "ui.lock")
    holder = home / "ui.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            process = json.loads(holder.read_text())
            who = f"process {process['pid']} on {process['host']}, {process['address']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "its process is not known"
        raise SaeBorzoiError(
            f"`saeborzoi ui` of this project runs already ({who}); open that, or end it first"
        ) from None
    try:
        yield holder
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _words(
    settings_file: Path, host: str, port: int, names: list[str], token: str
) -> Iterator[str]:
    query = f"/?token={token}" if token else ""
    first, *others = [f"http://{name}:{port}{query}" for name in names]
    yield f"{first} shows {settings_file}; Ctrl-C ends it"
    for other in others:
        yield f"{other} is the same, where that name is not known"
    yield _launches(load_settings(settings_file).automation)
    name = "" if is_loopback(host) else names[0]
    line = tunnel(port, dict(os.environ), host, name)
    if line:
        closed = ", where this port is closed to it" if name else ""
        there = f"then open http://127.0.0.1:{port}{query} there"
        yield f"From your own machine{closed}: {line}\n{there}"
        if not token and not name:
            yield "Other users of this machine reach it, too; --token asks them for a token"
    if not token and name:
        yield "Everybody who reaches this port controls the project's runs (--i-know)"


def _launches(automation: Automation) -> str:
    """What will be launched by itself."""
    if automation.at_once:
        return "What an SAE lacks is launched as soon as it is seen ([automation] at_once)"
    if automation.schedule:
        return (
            f"What SAEs lack is launched at {automation.schedule!r} of {local_timezone()}, as one "
            "backfill ([automation] schedule)"
        )
    return "Nothing is launched by itself ([automation])"


def _dagster_dev(host: str, port: int, token: str, pages: Path, settings_file: Path) -> None:
    from saeborzoi_assets.commands import guarded_web
    from saeborzoi_resources.dagster_dev import run_dagster_dev

    # Dagster ends its processes with SIGINT. A shell script that starts this command with `&` makes
    # it ignore SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_dagster_dev(
        # else each sensor says each time that there is nothing to do
        [*_DEFINITIONS, "--host", host, "--port", str(port), "--log-level", "warning"],
        guarded_web.__name__,
        guarded_web.description(host, port, token, pages, settings_file),
    )
