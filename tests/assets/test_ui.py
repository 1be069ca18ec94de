"""`saeborzoi ui` as it is really started: who is answered, who is refused, what ends it."""

from __future__ import annotations

import functools
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saeborzoi.errors import SaeBorzoiError
from saeborzoi_assets.commands.ui import require_free_port
from tests.assets.small_project import make_small_project

_START_S = 240
QUERY = json.dumps({"query": "{version}"})


class Ui(NamedTuple):
    """A started interface."""

    process: subprocess.Popen[str]
    reader: threading.Thread
    port: int
    token: str
    lines: list[str]


def command(settings_file: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "saeborzoi_assets.cli", "--project", str(settings_file),
        "ui", "--port", "0", *options,
    ]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "SSH_CONNECTION")}
    return {**kept, **more}


def started(settings_file: Path, *options: str, **variables: str) -> Ui:
    """Start an interface on a free port and wait until it answers."""
    process = subprocess.Popen(
        command(settings_file, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=environment(**variables),
    )  # fmt: skip
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        lines.extend(iter(process.stdout.readline, ""))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    end = time.monotonic() + _START_S
    while not any("The interface is ready" in line for line in lines):
        assert process.poll() is None, "".join(lines)
        assert time.monotonic() < end, "".join(lines)
        time.sleep(0.2)
    address = re.match(r"http://[^:]+:(\d+)(?:/\?token=(\S+))? shows", lines[0])
    assert address, lines[0]
    ui = Ui(process, reader, int(address[1]), address[2] or "", lines)
    while asked(ui, "GET", "/server_info").status >= 500:
        time.sleep(0.2)
    return ui


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def asked(ui: Ui, method: str, target: str, body: str | None = None, **headers: str) -> Answered:
    """What a request is answered; header names with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    end = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=60)
        try:
            connection.request(method, target, body, named)
            answer = connection.getresponse()
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, lower, answer.read().decode())
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.2)
        finally:
            connection.close()


def ended(ui: Ui) -> None:
    ui.process.terminate()
    ui.process.wait(60)
    ui.reader.join(90)  # Dagster's code server ends some time after it
    assert ui.process.stdout is not None
    ui.process.stdout.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_project(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="module")
def ui(project: Path) -> Iterator[Ui]:
    one = started(project, SSH_CONNECTION="10.0.0.9 5022 10.0.0.1 2222", USER="ada")
    yield one
    ended(one)


def graphql(ui: Ui, **headers: str) -> int:
    return asked(ui, "POST", "/graphql", QUERY, Content_Type="application/json", **headers).status


def test_the_interface_answers_its_own_pages(ui: Ui) -> None:
    own = f"127.0.0.1:{ui.port}"
    assert asked(ui, "GET", "/").status == 200
    assert graphql(ui) == 200
    assert graphql(ui, Origin=f"http://{own}", Sec_Fetch_Site="same-origin") == 200
    assert graphql(ui, Host=f"localhost:{ui.port}", Origin=f"http://localhost:{ui.port}") == 200
    # at the near end of a tunnel that begins at another port
    assert graphql(ui, Host="localhost:8080", Origin="http://localhost:8080") == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "evil.example.com:80", "127.0.0.1.evil.example.com", "localhost.evil",
     "", "[::1", "evil.example.com@127.0.0.1.evil", "127.0.0.1 evil"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["/", "/graphql", "/server_info", "/report_asset_check/x"])
def test_a_foreign_name_is_refused(ui: Ui, host: str, target: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        assert asked(ui, method, target, Host=host).status in (400, 421), (method, host)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://[::1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    ],
)
def test_a_foreign_page_is_refused(ui: Ui, headers: dict[str, str]) -> None:
    assert graphql(ui, **headers) == 403
    assert asked(ui, "GET", "/", **headers).status == 403
    assert asked(ui, "POST", "/report_asset_materialization/x", "{}", **headers).status == 403


def test_a_link_of_another_page_may_be_followed(ui: Ui) -> None:
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert asked(ui, "GET", "/", Sec_Fetch_Dest="document", **headers).status == 200
    assert graphql(ui, Sec_Fetch_Dest="document", **headers) == 403


def test_no_query_of_an_image(ui: Ui) -> None:
    for method in ("GET", "HEAD"):
        assert asked(ui, method, "/graphql?query=%7Bversion%7D").status == 405


def web_socket(ui: Ui, **headers: str) -> str:
    """First line of what a web socket's request is answered."""
    lines = [
        "GET /graphql HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: graphql-ws",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", ui.port), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return connection.recv(200).decode().splitlines()[0]


def test_web_sockets_too(ui: Ui) -> None:
    own = f"127.0.0.1:{ui.port}"
    assert " 101 " in web_socket(ui, Host=own, Origin=f"http://{own}")
    assert " 403 " in web_socket(ui, Host=own, Origin="http://evil.example.com")
    assert " 403 " in web_socket(ui, Host="evil.example.com", Origin="http://evil.example.com")


def test_what_is_said_on_a_login_node(ui: Ui) -> None:
    text = "".join(ui.lines)
    port = f"{ui.port}:127.0.0.1:{ui.port}"
    assert f"From your own machine: ssh -N -L {port} -p 2222 ada@10.0.0.1" in text
    assert "Other users of this machine reach it, too; --token asks them" in text


def test_a_second_one_is_refused_before_anything_starts(ui: Ui, project: Path) -> None:
    second = subprocess.run(
        command(project), capture_output=True, text=True, timeout=120, env=environment()
    )
    assert second.returncode == 2
    assert second.stdout == ""
    assert second.stderr.startswith("saeborzoi: `saeborzoi ui` of this project runs already")
    assert f"process {ui.process.pid} on" in second.stderr
    assert f"http://127.0.0.1:{ui.port}" in second.stderr


def test_a_taken_port_is_refused_before_anything_starts(ui: Ui, tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path)
    other = subprocess.run(
        [*command(settings_file), f"--port={ui.port}"], capture_output=True, text=True,
        timeout=120, env=environment(),
    )  # fmt: skip
    assert other.returncode == 2, other.stderr
    assert f"port {ui.port} of 127.0.0.1 cannot be listened on" in other.stderr
    assert "in use" in other.stderr
    assert "nothing was started" in other.stderr


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(SaeBorzoiError, match=f"port {port} .*0-65535.* nothing was started"):
        require_free_port("127.0.0.1", port)


@pytest.mark.browser
def test_in_a_browser(ui: Ui, tmp_path: Path) -> None:
    """Dagster's pages work through the door; a name that is made to point here, and a page of
    another port, get nothing."""
    path = os.environ.get("SAEBORZOI_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not on PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    (tmp_path / "index.html").write_text("<!doctype html><title>foreign</title>")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as foreign,
        playwright.sync_playwright() as running,
    ):
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        browser = running.chromium.launch(
            executable_path=path, headless=True,
            args=["--no-sandbox", "--host-resolver-rules=MAP evil.example.com 127.0.0.1"],
        )  # fmt: skip
        page = browser.new_page()
        page.set_default_timeout(90_000)
        troubles: list[str] = []
        page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
        sockets: list[Any] = []
        page.on("websocket", lambda one: sockets.append(one))
        page.goto(f"http://127.0.0.1:{ui.port}/assets")
        # long names are drawn twice, one copy unseen: attached is what the text can be asked for
        page.locator("text=normalization_constants").first.wait_for(state="attached")
        assert sockets
        assert not any(one.is_closed() for one in sockets)
        assert not [t for t in troubles if "403" in t or "421" in t or "WebSocket" in t]
        # DNS rebinding: the name is this machine's address now
        answer = page.goto(f"http://evil.example.com:{ui.port}/assets")
        assert answer is not None
        assert answer.status == 421
        page.goto(f"http://127.0.0.1:{foreign.server_address[1]}/")
        tried = page.evaluate(
            """async (ui) => {
              const out = [];
              for (const type of ["text/plain", "application/json"]) {
                try {
                  const mode = type === "text/plain" ? "no-cors" : "cors";
                  await fetch(ui + "/graphql?query={version}", {method: "POST", mode, body: "{}",
                    headers: {"Content-Type": type}});
                  out.push("sent");
                } catch { out.push("failed"); }
              }
              out.push(await new Promise((done) => {
                const s = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
                s.onopen = () => done("open"); s.onerror = () => done("failed");
              }));
              return out;
            }""",
            f"http://127.0.0.1:{ui.port}",
        )
        # what a page may send without asking first arrives, and is refused there
        assert tried == ["sent", "failed", "failed"]
        browser.close()
        foreign.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing for each request."""


def test_a_token_is_asked_for_beyond_loopback(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path)
    one = started(settings_file, "--host", "0.0.0.0", SAEBORZOI_TRY="1")
    try:
        assert len(one.token) >= 32
        # what is printed is opened as it stands: 0.0.0.0 leads nowhere on another machine
        printed = re.findall(r"^http://(\S+):\d+/(\?token=\S+)", "".join(one.lines), re.MULTILINE)
        assert printed
        for name, query in printed:
            assert name not in ("0.0.0.0", "127.0.0.1", "localhost")
            connection = http.client.HTTPConnection(name, one.port, timeout=60)
            connection.request("GET", f"/{query}")
            assert connection.getresponse().status == 303, name
            connection.close()
        assert f"ssh -N -L {one.port}:127.0.0.1:{one.port} " in "".join(one.lines)
        for target in ("/", "/graphql", "/server_info"):
            assert asked(one, "GET", target).status == 401
            assert asked(one, "GET", f"{target}?token=wrong").status == 403
        assert graphql(one) == 401
        assert graphql(one, Cookie=f"saeborzoi_{one.port}=wrong") == 401
        assert graphql(one, Cookie="saeborzoi_1=x; ;;=") == 401
        assert " 403 " in web_socket(one, Host="h")
        came = asked(one, "GET", f"//evil.example.com/?a=1&token={one.token}", Host="login7:1")
        assert came.status == 303
        assert came.headers["location"] == "/evil.example.com/?a=1"
        cookie = came.headers["set-cookie"]
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        held = cookie.partition(";")[0]
        assert graphql(one, Host="login7:1", Cookie=f"other=1; {held}") == 200
        assert graphql(one, Cookie=held, Origin="http://evil.example.com") == 403
        # no process of the project but the web server knows it, and no command line shows it
        knowing = [
            Path(f"/proc/{pid}").name
            for pid in os.listdir("/proc")
            if pid.isdigit() and one.token in _shown_by(Path(f"/proc/{pid}"), "cmdline")
        ]
        assert knowing == []
        daemons = [p for p in _processes() if "_daemon run" in _shown_by(p, "cmdline")]
        mine = [p for p in daemons if "SAEBORZOI_TRY=1" in _shown_by(p, "environ")]
        assert mine
        assert not any(one.token in _shown_by(p, "environ") for p in mine)
        assert not any(one.token in text for text in _files(tmp_path))
    finally:
        ended(one)


def _processes() -> list[Path]:
    return [Path("/proc") / pid for pid in os.listdir("/proc") if pid.isdigit()]


def _shown_by(process: Path, what: str) -> str:
    try:
        return (process / what).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode(errors="replace")
