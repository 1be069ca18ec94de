"""Names of users' files in Dagster's Markdown mean nothing there."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from saeborzoi_resources.markdown import plain, table, verbatim

HOSTILE = (
    "[x](javascript:alert(1))", "![x](http://evil.example.com/a.png)", "<img src=x onerror=y>",
    "http://evil.example.com", "<http://evil.example.com>", "`code` **bold** _it_ ~~no~~", "a|b",
    "&lt;b&gt;", "# head", "\\[x](y)", "conv1d_1_x4_k0.05_lr0.003_s0", "two\nlines", "1. a", "- b",
)  # fmt: skip


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_shows_what_it_holds(text: str) -> None:
    html = rendered(table(["class"], [[text]]).value or "")
    shown = " ".join(text.split("\n"))
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<td>{escaped.replace(chr(34), '&quot;')}</td>" in html


@pytest.mark.parametrize("text", ["```\n# head\n```", "````", "<b>", "~~~\nx"])
def test_a_log_stays_in_its_block(text: str) -> None:
    html = rendered(verbatim(text).value or "")
    assert html.count("<pre>") == 1
    assert html.startswith("<pre><code>")
    assert html.endswith("</code></pre>\n")


def test_numbers_stay_as_they_are() -> None:
    assert plain(-1.5e-05) == "-1.5e-05"
