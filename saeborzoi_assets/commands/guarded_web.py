"""Dagster's web server behind a door: ``python -m saeborzoi_assets.commands.guarded_web``.

`dagster dev` starts this in the place of ``python -m dagster_webserver``, with the same arguments.
Dagster's own answers anybody who reaches its port, and pages of any web site that a reader visits
reach the port of the reader's machine. Behind the same door stand the pages of the nodes, to which
the metadata of assets and partitions link.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from saeborzoi.browser.door import Answer, Door, own_names
from saeborzoi.browser.serve import Answering
from saeborzoi_assets.commands.locus_answers import PLACE, answering
from saeborzoi_assets.shown import PAGES
from saeborzoi_resources.dagster_dev import run_web_server

_VARIABLE = "SAEBORZOI_DOOR"
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def description(
    host: str, port: int, token: str, pages: Path, settings_file: Path
) -> dict[str, str]:
    """Variable that tells the web server its door; of that process alone, as runs and their jobs
    must not know the token.

    Parameters
    ----------
    host, port
        Where it listens.
    token
        What browsers must bring; '' for nothing.
    pages
        Folder of the nodes' pages, which may not be there yet.
    settings_file
        Of the project, for what pages ask.
    """
    described = {
        "host": host, "port": port, "token": token, "pages": str(pages),
        "settings_file": str(settings_file),
    }  # fmt: skip
    return {_VARIABLE: json.dumps(described)}


def pages_app(folder: Path, locus: Answering | None = None) -> _App:
    """The application that serves the pages of the nodes; it follows no link out of the folder and
    lists nothing. `locus` answers which nodes fire along an interval."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    text = "There are no such pages yet: materialize feature_browser of the SAE.\n"
    nothing = PlainTextResponse(text, status_code=404)

    def not_there(_request: Request, _error: Exception) -> Response:
        return nothing

    # not async: it waits for a process, in a thread of its own
    def answer(request: Request) -> Response:
        assert locus is not None
        status, document = locus(dict(request.query_params))
        return JSONResponse(document, status)

    routes = [Route(f"{PAGES}/{PLACE}", answer)] if locus is not None else []
    files = Starlette(
        routes=[*routes, Mount(PAGES, StaticFiles(directory=folder, html=True, check_dir=False))],
        exception_handlers={404: not_there},
    )

    async def app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        async def unkept(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                # pages are written anew under the same name
                more = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        if folder.is_dir():
            await files(scope, receive, unkept)
        else:
            await nothing(scope, receive, unkept)

    return app


class Guarded:
    """An ASGI application that answers only whom the door lets in.

    Parameters
    ----------
    app
        Dagster's web server.
    door
        Who is let in.
    pages
        What answers under `PAGES`.
    """

    def __init__(self, app: _App, door: Door, pages: _App) -> None:
        self._app = app
        self._door = door
        self._pages = pages

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, _telling_of_start(send))
            return
        answer = None
        if scope["type"] in ("http", "websocket"):
            answer = self._answer(scope)
        if answer is None:
            is_page = scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PAGES}/")
            await (self._pages if is_page else self._app)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _send(answer, send)

    def _answer(self, scope: _Scope) -> Answer | None:
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
        method = scope.get("method", "GET")
        query = scope["query_string"].decode("latin-1")
        path = scope.get("raw_path") or scope["path"].encode()
        target = path.decode("latin-1").partition("?")[0] + (f"?{query}" if query else "")
        answer = self._door.answer(method, target, headers)
        if answer is not None or scope["type"] == "websocket":
            return answer
        wants_page = any("text/html" in v for n, v in headers if n.lower() == "accept")
        if method != "POST" and scope["path"].endswith("/graphql") and not wants_page:
            # an image of another page could ask so, and old browsers do not say who asks
            text = "GraphQL is asked by POST.\n"
            return Answer(405, {"Content-Type": "text/plain", "Allow": "POST"}, text)
        return None


def _telling_of_start(send: _Send) -> _Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            print("The interface is ready", flush=True)

    return sent


async def _send(answer: Answer, send: _Send) -> None:
    body = answer.text.encode()
    headers = {**answer.headers, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    pairs = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Dagster's web server with its own arguments, behind the door that a variable describes."""
    described = json.loads(os.environ.pop(_VARIABLE))
    host, port = described["host"], described["port"]
    door = Door(own_names(host), any_address=True, token=described["token"], port=port)
    locus = answering(Path(described["settings_file"]))
    pages = pages_app(Path(described["pages"]), locus)
    run_web_server(lambda app: Guarded(app, door, pages))


if __name__ == "__main__":
    main()
