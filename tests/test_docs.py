"""The README shows what is there, and the documentation site builds: no page is missing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.cli import app

ROOT = Path(__file__).parents[1]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)


def _commands() -> Iterator[list[str]]:
    for block in _blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "saeborzoi":
                yield words[1:]


def test_the_settings_of_the_readme_are_taken(tmp_path: Path) -> None:
    """They are what a newcomer copies; the later blocks are added to the first."""
    (tmp_path / "dagster_project.toml").write_text("\n".join(_blocks("toml")))
    settings = load_settings(tmp_path)
    assert [h.topk for h in settings.wanted()] == [0.05, 0.02]
    assert (settings.layer[0].n_channels, settings.layer[0].bp_per_position) == (608, 2)


def test_the_commands_of_the_readme_are_there() -> None:
    """Every one with its subcommand, arguments and options; none of them is run."""
    commands = list(_commands())
    assert len(commands) > 8
    for words in commands:
        command, context = typer.main.get_command(app), None
        name, rest = "saeborzoi", list(words)
        while True:
            context = command.make_context(name, list(rest), parent=context)
            if not hasattr(command, "commands"):
                break
            name, rest = rest[0], rest[1:]
            command = command.commands[name]


def test_the_make_targets_of_the_readme_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"^make ([a-z-]+)", "\n".join(_blocks("bash")), re.M)
    assert {"demo", "ui", "test"} <= set(named) <= targets


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """The pages of settings and API are made from docstrings."""
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    settings = (tmp_path / "settings.html").read_text()
    assert "bp_per_position" in settings
    assert "MotifDatabase" in settings
