"""Pages over loopback, and a clear word where there are none."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from saeborzoi.browser.door import own_addresses
from saeborzoi.browser.serve import make_server, open_file
from saeborzoi.errors import SaeBorzoiError, StoreError


def test_pages_are_served_on_this_machine_only_and_never_kept(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>pages")
    with make_server(tmp_path, port=0) as server:
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://{host}:{port}/index.html") as answer:
            assert answer.read() == b"<!doctype html>pages"
            assert answer.headers["Cache-Control"] == "no-store"
        server.shutdown()


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder of pages, with what must not be served in it and beside it."""
    folder = tmp_path / "pages"
    (folder / "KEY/data").mkdir(parents=True)
    (folder / "index.html").write_text("start")
    (folder / "KEY/index.html").write_text("sae")
    (folder / "KEY/data/overview.js").write_text("data")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/index.html").write_text("secret")
    (folder / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "leak").symlink_to(tmp_path / "outside")
    (folder / "KEY/up").symlink_to("../..")
    (folder / "circle").symlink_to("circle")
    (folder / "within.html").symlink_to("KEY/index.html")
    (folder / "leaking_index").mkdir()
    (folder / "leaking_index/index.html").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(folder / "pipe")
    (tmp_path / "linked").symlink_to(folder)
    return tmp_path / "linked"


@pytest.fixture(params=["", "a-token-of-some-length"], ids=["open", "token"])
def server(pages: Path, request: pytest.FixtureRequest) -> Iterator[_Asked]:
    with make_server(pages, 0, request.param) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield _Asked(int(made.server_address[1]), request.param)
        made.shutdown()


class _Asked:
    """Asks the server as it is."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token

    def __call__(self, target: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named.setdefault("Cookie", f"saeborzoi_{self.port}={self.token}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, target, skip_host="Host" in named)
            for name, value in named.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("target", "body"),
    [("/", "start"), ("/index.html?x=1", "start"), ("/KEY/", "sae"), ("/within.html", "sae"),
     ("/KEY/data/overview.js", "data"), ("/KEY/up/pages/index.html", "start"),
     ("/%00/../index.html", "start")],
)  # fmt: skip
def test_pages_are_served(server: _Asked, target: str, body: str) -> None:
    assert server(target) == (200, body)
    assert server(target, Host="localhost:1", Origin="http://localhost:1") == (200, body)


@pytest.mark.parametrize(
    "target",
    ["/leak.txt", "/leak/", "/leak/index.html", "/KEY/up/secret.txt",
     "/circle", "/circle/", "/leaking_index/", "/pipe", "/../secret.txt", "/%2e%2e/secret.txt",
     "/..%2fsecret.txt", "/..%5csecret.txt", "//../secret.txt", "/KEY/../../secret.txt",
     "/%00", "/index.html%00", "/%ff%fe", "/" + "a" * 5000,
     "/" + "a/" * 4000, "/KEY/data/", "/index.html/", "/nothing"],
)  # fmt: skip
def test_nothing_else_is_served(server: _Asked, target: str) -> None:
    for method in ("GET", "HEAD"):
        status, body = server(target, method)
        # what leads up out of the folder stays at its top
        assert status in (404, 414) or (status, body) == (200, "")
        assert "secret" not in body.replace("secret.txt", "")
        assert "Traceback" not in body
    assert server("/")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example.com"}, {"Host": "127.0.0.1.evil.example.com:80"}, {"Host": ""},
     {"Origin": "http://evil.example.com"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
     {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}],
)  # fmt: skip
def test_foreign_names_and_pages_are_refused(server: _Asked, headers: dict[str, str]) -> None:
    if headers.get("Host") and server.token:
        # no cookie of this machine goes with another name
        assert server("/", Cookie="", **headers)[0] == 401
        return
    status, body = server("/", **headers)
    assert status in (403, 421)
    assert "start" not in body.replace("started", "")


def test_a_token_is_asked_for(pages: Path) -> None:
    with make_server(pages, 0, "a-token") as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        server = _Asked(int(made.server_address[1]), "a-token")
        assert server("/", Cookie="")[0] == 401
        assert server("/?token=other", Cookie="")[0] == 403
        assert server("/?token=a-token", Cookie="")[0] == 303
        assert server("/KEY/", Cookie=f"x=1; saeborzoi_{server.port}=a-token") == (200, "sae")
        assert server("/KEY/", Cookie=f"saeborzoi_{server.port}=a-toke")[0] == 401
        made.shutdown()


def test_a_port_that_is_taken_is_told(tmp_path):
    with make_server(tmp_path, port=0) as server:
        taken = server.server_address[1]
        with pytest.raises(SaeBorzoiError, match=rf"port {taken} .* choose another --port"):
            make_server(tmp_path, port=taken)


def test_missing_pages_name_the_asset(tmp_path):
    with pytest.raises(StoreError, match="materialize feature_browser first"):
        open_file(tmp_path / "index.html")


@pytest.mark.browser
def test_pages_work_over_loopback_too(opened, site):
    with make_server(site.folder.parent, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_address[1]}/"
        page = opened("node=20", address=f"{origin}{site.folder.name}/index.html")
        assert page.inner_text("#node h2") == "Node 20"
        page.close()
        server.shutdown()
    assert all(url.startswith(origin) for url in opened.requests)
    opened.requests.clear()


@pytest.mark.parametrize("name", ["localhost.localdomain", "no-such-machine"])
def test_a_name_that_leads_nowhere_is_not_printed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(name: str, *_: object) -> list[object]:
        if name == "no-such-machine":
            raise socket.gaierror("Name or service not known")
        return []

    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    addresses = own_addresses("0.0.0.0")
    assert name not in addresses
    assert "0.0.0.0" not in addresses
    assert all(ipaddress.ip_address(address) for address in addresses)
