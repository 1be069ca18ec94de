"""Opens pages in the reader's browser, from the file or over loopback."""

from __future__ import annotations

import functools
import http.server
import webbrowser
from pathlib import Path
from typing import Any

from saeborzoi.errors import SaeBorzoiError, StoreError

ADDRESS = "127.0.0.1"


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
            "dagster asset materialize --select feature_browser --partition KEY"
        )
    return index_html


def open_file(index_html: Path) -> bool:
    """Open a page from its file; False where there is no browser to open it."""
    return webbrowser.open(require_pages(index_html).resolve().as_uri())


def make_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of the folder's files on this machine only; the caller runs and closes it.

    Parameters
    ----------
    folder
        Folder with the pages.
    port
        Port; 0 takes a free one, which `server_address` then tells.

    Raises
    ------
    SaeBorzoiError
        Where the port is taken or not allowed.
    """
    handler = functools.partial(_Files, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer((ADDRESS, port), handler)
    except (OSError, OverflowError) as error:
        raise SaeBorzoiError(
            f"port {port} of {ADDRESS} cannot be listened on ({error}); choose another --port, "
            "or leave it out for a free one"
        ) from None


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files as they are, never kept by the browser: pages are written anew under the same name."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing for each request."""
