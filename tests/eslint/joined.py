"""Writes the scripts of the pages as they are delivered, joined, into the folder `joined`."""

from pathlib import Path

from saeborzoi.browser.site import SCRIPTS, START_SCRIPTS, _joined

folder = Path(__file__).parent / "joined"
folder.mkdir(exist_ok=True)
for name, scripts in (("browser.js", SCRIPTS), ("start.js", START_SCRIPTS)):
    (folder / name).write_text(_joined(scripts), encoding="utf-8")
