"""Opens pages in the reader's browser, from the file or over loopback."""

from __future__ import annotations

import functools
import http
import http.server
import io
import json
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl

from saeborzoi.browser.door import Door
from saeborzoi.errors import SaeBorzoiError, StoreError

ADDRESS = "127.0.0.1"
Answering = Callable[[Mapping[str, str]], tuple[int, dict[str, Any]]]


def require_pages(index_html: Path) -> Path:
    """The page, refused where it was not written yet.

    Raises
    ------
    StoreError
        Names the asset to materialize.
    """
    if not index_html.is_file():
        raise StoreError(
            f"there are no pages at {index_html}; materialize feature_browser first: "
            "saeborzoi run --to pages"
        )
    return index_html


def open_file(index_html: Path) -> bool:
    """Open a page from its file; False where there is no browser to open it."""
    return webbrowser.open(require_pages(index_html).resolve().as_uri())


def make_server(
    folder: Path, port: int, token: str = "", answers: Mapping[str, Answering] | None = None
) -> http.server.ThreadingHTTPServer:
    """A server of the folder's files on this machine only; the caller runs and closes it.

    Parameters
    ----------
    folder
        Folder with the pages; links that lead out of it are not followed.
    port
        Port; 0 takes a free one, which `server_address` then tells.
    token
        What a browser must bring; '' for nothing.
    answers
        Path, without the first slash, to what answers its query: an HTTP status and a document.

    Raises
    ------
    SaeBorzoiError
        Where the port is taken or not allowed.
    """
    try:
        server = _Server((ADDRESS, port), functools.partial(_Files, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise SaeBorzoiError(
            f"port {port} of {ADDRESS} cannot be listened on ({error}); choose another --port, "
            "or leave it out for a free one"
        ) from None
    server.folder = folder.resolve()
    server.answers = answers or {}
    server.door = Door(token=token, port=int(server.server_address[1]))
    return server


class _Server(http.server.ThreadingHTTPServer):
    folder: Path
    door: Door
    answers: Mapping[str, Answering]


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files as they are, never kept by the browser: pages are written anew under the same name."""

    server: _Server
    timeout = 60
    server_version = "saeborzoi"
    sys_version = ""

    def send_head(self) -> BinaryIO | None:
        """A file of the folder, or a refusal."""
        answer = self.server.door.answer(self.command, self.path, self.headers.items())
        if answer is not None:
            return self._send(answer.status, answer.headers, answer.text.encode())
        path, _, query = self.path.partition("?")
        asked = self.server.answers.get(path.removeprefix("/"))
        if asked is not None:
            status, document = asked(dict(parse_qsl(query)))
            body = json.dumps(document).encode()
            return self._send(status, {"Content-Type": "application/json"}, body)
        if not self._is_in_folder():
            self.send_error(http.HTTPStatus.NOT_FOUND, "There is no such page")
            return None
        return cast("BinaryIO | None", super().send_head())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> BinaryIO:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        return io.BytesIO(body)

    def _is_in_folder(self) -> bool:
        """Whether what is asked for lies in the folder, also where links are followed."""
        try:
            path = Path(self.translate_path(self.path))
            if path.is_dir() and self.path.partition("?")[0].endswith("/"):
                path = path / "index.html"
            real = path.resolve(strict=True)
            return real.is_relative_to(self.server.folder) and (real.is_file() or real.is_dir())
        except (OSError, ValueError, RuntimeError):
            # not there, no name of a file at all, or a circle of links
            return False

    def list_directory(self, path: object) -> None:
        """No folder is listed."""
        self.send_error(http.HTTPStatus.NOT_FOUND, "There is no such page")

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing for each request."""
