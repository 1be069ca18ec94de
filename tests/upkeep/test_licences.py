"""Licences: every package that the installation rests on, as its own metadata state it."""

from __future__ import annotations

import importlib.metadata
import json
from email.message import Message

import pytest

from saeborzoi_assets.cli import main
from saeborzoi_resources.upkeep import licences


def test_every_package_is_there_with_version_and_licence() -> None:
    packages = {package.name.lower(): package for package in licences.packages()}
    assert "saeborzoi" not in packages
    assert {"numpy", "torch", "dagster", "sympy"} <= set(packages), "directly and not"
    assert packages["numpy"].version == importlib.metadata.version("numpy")
    assert "BSD" in packages["numpy"].licence
    assert packages["dagster"].licence == "Apache-2.0"
    assert not [package for package in packages.values() if not package.licence]


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "MIT", "License": "something else"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, "BSD License"),
        ({"License": "Apache 2.0\n\nTerms and conditions"}, "Apache 2.0"),
        ({"License": "LICENSE"}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_what_the_metadata_say(fields: dict[str, str], licence: str) -> None:
    about = Message()
    for name, value in fields.items():
        about[name] = value
    assert licences._licence(about) == licence  # type: ignore[arg-type]


def test_the_command_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["licences", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "version", "licence", "url"} == set(rows[0])
    assert len(rows) > 50
