"""Pages ask their server which nodes fire along an interval: what is answered, to whom."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from saeborzoi.browser.serve import make_server
from saeborzoi_assets.cli import main
from saeborzoi_assets.commands.locus_answers import MAX_BP, PLACE, answering
from tests.assets.test_model_commands import KEY, in_this_process, project
from tests.browser.conftest import chromium, opened, site, wait_until

__all__ = ["chromium", "in_this_process", "opened", "project", "site"]


@pytest.mark.usefixtures("in_this_process")
def test_the_answer_is_what_the_command_says(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region = "chr1:3,001-3,100"
    status, document = answering(project / "dagster_project.toml")({"key": KEY, "region": region})
    assert status == 200
    assert main(["--project", str(project), "locus", KEY, region, "--json", "--top", "12"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [each["node"] for each in document["nodes"]] == [n["node"] for n in printed["nodes"]]
    assert document["n_nodes"] == printed["n_nodes"]
    for mine, theirs in zip(document["nodes"], printed["nodes"], strict=True):
        assert len(mine["activation"]) == theirs["n_positions"]
        at = mine["start_bp"].index(theirs["start_bp"])
        assert max(mine["activation"]) == mine["activation"][at]
        assert mine["activation"][at] == pytest.approx(theirs["activation"], rel=1e-3)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "needed is 'chr1:1,000,000-1,030,000'"),
        ({"region": "chr1:1-200,001"}, f"longer than {MAX_BP:,} bp"),
        ({"region": "chr1:1-100", "key": "no such"}, "no such"),
        ({"region": "chr1:1-100", "key": "second_x3_k0.25_lr0.003_s0"}, "not in the store"),
    ],
)
def test_what_cannot_be_answered_is_told(project: Path, query: dict[str, str], words: str) -> None:
    status, document = answering(project / "dagster_project.toml")(query)
    assert status == 400
    assert words in document["error"]


class _Slow:
    """Answers once it is let."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, str]] = []

    def __call__(self, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append(query)
        nodes = [{"node": 12, "start_bp": [90, 110], "end_bp": [95, 120], "activation": [1.0, 2.5]}]
        document = {
            "region": query["region"], "start_bp": 100, "end_bp": 200, "origin": "shards",
            "n_nodes": 7, "nodes": nodes,
        }  # fmt: skip
        return (200, document) if query["region"] == "chr1:101-200" else (400, {"error": "no, <b>"})


@pytest.fixture
def answers() -> _Slow:
    return _Slow()


def test_only_the_pages_may_ask(tmp_path: Path, answers: _Slow) -> None:
    with make_server(tmp_path, 0, "", {PLACE: answers}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def get(headers: dict[str, str]) -> tuple[int, str]:
            port = int(server.server_address[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/locus?key=K&region=chr1:101-200", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        assert get({"Origin": "http://evil.example.com"})[0] == 403
        assert get({"Host": "evil.example.com"})[0] == 421
        assert answers.asked == []
        status, text = get({})
        server.shutdown()
    assert status == 200
    assert json.loads(text)["n_nodes"] == 7
    assert answers.asked == [{"key": "K", "region": "chr1:101-200"}]


@pytest.mark.browser
def test_the_page_draws_the_answer(opened: Any, site: Any, answers: _Slow) -> None:
    with make_server(site.folder.parent, 0, "", {PLACE: answers}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_address[1]}/"
        page = opened(address=f"{origin}{site.folder.name}/index.html")
        page.click("#locus-button")
        page.fill("#locus-region", "chr1:101-200")
        page.press("#locus-region", "Enter")
        wait_until(page, "document.querySelector('#locus-shown svg') !== null")
        row = page.locator("#locus-shown tr")
        assert row.count() == 1
        # its label, as nothing there comes from the server but numbers
        assert row.inner_text().split() == ["node", "12", "<i>half", "site</i>", "2.5"]
        bars = row.locator("rect")
        assert [float(bar.get_attribute("height")) for bar in bars.all()] == [10.4, 26]
        assert [float(bar.get_attribute("x")) for bar in bars.all()] == [0, 100]
        page.click("#locus-shown a")
        assert page.inner_text("#node h2") == "Node 12"
        page.close()
        server.shutdown()
    assert all(url.startswith(origin) for url in opened.requests)
    opened.requests.clear()


@pytest.mark.browser
def test_a_page_from_a_file_says_how_to_ask(opened: Any) -> None:
    page = opened()
    page.click("#locus-button")
    assert "saeborzoi browse" in page.inner_text("#locus")
