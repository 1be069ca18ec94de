"""The web server of the interface serves the nodes' pages, to whom the door lets in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from saeborzoi.browser.door import Door
from saeborzoi_assets.commands.guarded_web import Guarded, pages_app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pages = tmp_path / "browser" / "KEY"
    pages.mkdir(parents=True)
    (pages / "index.html").write_text("<title>nodes</title>")
    (tmp_path / "secret").write_text("secret")
    (pages / "out").symlink_to(tmp_path / "secret")
    return tmp_path / "browser"


def _get(folder: Path, path: str, host: str = "127.0.0.1:3000") -> tuple[int, dict[str, str], str]:
    """Status, headers and text that a browser is answered."""
    sent: list[dict[str, Any]] = []

    async def dagster(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"Dagster"})

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)  # a browser that says no more
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"region=x", "root_path": "", "headers": [(b"host", host.encode())],
        "scheme": "http", "server": ("127.0.0.1", 3000), "extensions": {},
    }  # fmt: skip
    pages = pages_app(folder, lambda query: (400, {"error": f"no {query['region']}"}))
    asyncio.run(Guarded(dagster, Door(port=3000), pages)(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], headers, body.decode()


def test_pages_are_under_the_interface_s_address(folder: Path) -> None:
    status, headers, text = _get(folder, "/pages/KEY/index.html")
    assert (status, text) == (200, "<title>nodes</title>")
    assert headers["cache-control"] == "no-store", "they are written anew under the same name"
    assert _get(folder, "/runs")[2] == "Dagster"
    assert _get(folder, "/pagesize")[2] == "Dagster"


def test_what_is_not_there_says_what_makes_it(folder: Path, tmp_path: Path) -> None:
    for where, path in (
        (folder, "/pages/OTHER/index.html"),
        (tmp_path / "no", "/pages/index.html"),
    ):
        status, _, text = _get(where, path)
        assert status == 404
        assert "materialize feature_browser" in text


@pytest.mark.parametrize("path", ["/pages/KEY/out", "/pages/../secret", "/pages/KEY/../../secret"])
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    status, _, text = _get(folder, path)
    assert status == 404
    assert "secret" not in text.replace("../secret", "")


def test_only_whom_the_door_lets_in(folder: Path) -> None:
    assert _get(folder, "/pages/KEY/index.html", host="evil.example.com")[0] == 421


def test_pages_may_ask_which_nodes_fire_where(folder: Path) -> None:
    assert _get(folder, "/pages/locus")[::2] == (400, '{"error":"no x"}')
    assert _get(folder, "/pages/locus", host="evil.example.com")[0] == 421
