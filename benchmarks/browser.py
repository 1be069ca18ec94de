"""Time and size of the feature browser: writing a site, and what a reader waits for.

Run as `OMP_NUM_THREADS=1 python benchmarks/browser.py [nodes ...]`; needs Chromium and Playwright.
Sites are made of synthetic tables (`tests/browser/made_tables.py`): 1,000 seqlets of 34 bp a node
and a decoder of 1,056 channels, as Borzoi's widest layer has them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

# in the place of this folder: the tests are a package beside it
sys.path[0] = str(Path(__file__).parents[1])

from saeborzoi.browser import write_site  # noqa: E402
from tests.browser.conftest import ARGUMENTS, wait_until  # noqa: E402
from tests.browser.made_tables import make  # noqa: E402

N_REPEATS = 7
SEARCHES = ("CTCF", "family:zinc", "class:Alu", "motif:CACGTG", "")
COLUMNS = ("frequency", "match", "motif", "q", "state", "node")
# from the event to the frame after it was painted
TIMED = """async ([act, value]) => {
  const acts = {
    search: () => {
      const q = document.getElementById('q');
      q.value = value;
      q.dispatchEvent(new Event('input'));
    },
    filter: () => {
      const select = document.getElementById('f-state');
      select.value = value;
      select.dispatchEvent(new Event('change'));
    },
    sort: () => document.querySelector(`[data-sort=${value}]`).click(),
    colour: () => {
      const select = document.getElementById('colour');
      select.value = value;
      select.dispatchEvent(new Event('change'));
    },
    scroll: () => { document.getElementById('table-box').scrollTop = value; },
    node: () => { location.hash = 'node=' + value; },
  };
  const start = performance.now();
  acts[act]();
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  if (act === 'search') {
    while ((new URLSearchParams(location.hash.slice(1)).get('q') || '') !== value) {
      await new Promise((done) => setTimeout(done));
    }
  }
  if (act === 'node') {
    const shown = () => document.querySelector('#node h2')?.textContent === 'Node ' + value;
    while (!shown()) await new Promise((done) => setTimeout(done));
  }
  await painted();
  return performance.now() - start;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", nargs="*", type=int, default=[4224, 10_000])
    for n_nodes in parser.parse_args().nodes:
        folder = Path(tempfile.mkdtemp(prefix="browser-"))
        try:
            _measure(n_nodes, folder)
        finally:
            shutil.rmtree(folder)


def _measure(n_nodes: int, folder: Path) -> None:
    made = make(n_nodes, n_seqlets=1000, width=34, n_channels=1056, folder=folder / "sae")
    wall, cpu = time.perf_counter(), time.process_time()
    site = write_site(made.tables, made.sae_artifact, folder / "site", {}, made.database, "hg38")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    overview = (folder / "site/data/overview.js").stat().st_size
    print(f"\n{n_nodes:,} nodes x 1,000 seqlets of 34 bp")
    print(f"  written in {wall:.1f} s ({cpu:.1f} s of CPU)")
    print(
        f"  {site.n_bytes / 1e6:.1f} MB in {site.n_files} files, {overview / 1e6:.2f} MB overview"
    )
    del made
    _read(site.index_html.as_uri(), n_nodes)


def _read(address: str, n_nodes: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=list(ARGUMENTS)
        )
        first = []
        for _ in range(N_REPEATS):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(address)
            wait_until(page, "document.body.dataset.ready")
            first.append(float(page.evaluate("document.body.dataset.ready")))
            context.close()
        print(
            f"  first view in a new browser context: median {median(first):.0f} ms, "
            f"worst {max(first):.0f} ms"
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        wait_until(page, "document.body.dataset.ready")

        session = page.context.new_cdp_session(page)
        session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        session.send("Performance.enable")

        def busy() -> float:
            """CPU milliseconds of the page's main thread so far."""
            metrics = session.send("Performance.getMetrics")["metrics"]
            return 1000 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")

        def timed(act: str, values: Any) -> tuple[list[float], list[float]]:
            waited, worked = [], []
            for value in values:
                before = busy()
                waited.append(page.evaluate(TIMED, [act, value]))
                worked.append(busy() - before)
            return waited, worked

        _tell("search as typed", *timed("search", SEARCHES * 2))
        _tell("filter by state", *timed("filter", ("m", "d", "n", "", "x", "")))
        _tell("sort", *timed("sort", COLUMNS * 2))
        _tell("colour", *timed("colour", ("q", "frequency", "annotation", "cluster", "family")))
        _tell("scroll by 100 rows", *timed("scroll", range(0, 46 * 2000, 4600)))
        apart = range(60, n_nodes, n_nodes // 11)
        _tell("node page, its file not yet read", *timed("node", map(str, apart)))
        _tell("node page, its file read before", *timed("node", [str(n + 1) for n in apart]))
        browser.close()


def _tell(what: str, waited: list[float], worked: list[float]) -> None:
    print(
        f"  {what}: median {median(waited):.0f} ms, worst {max(waited):.0f} ms; "
        f"CPU of the page {median(worked):.0f} ms, worst {max(worked):.0f} ms"
    )


if __name__ == "__main__":
    main()
