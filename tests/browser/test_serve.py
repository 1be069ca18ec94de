"""Pages over loopback, and a clear word where there are none."""

from __future__ import annotations

import threading
import urllib.request

import pytest

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
