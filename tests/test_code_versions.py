"""A changed algorithm with an old code version is found before stale results pass as current."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.code_versions import (
    ROOT,
    Artifact,
    explanation,
    files_of,
    hash_of,
    read_record,
    record,
    state,
    untold,
)

ENGINE = "saeborzoi/motifs/engine/starts.py"
_CONSTANT = re.compile(r"^(_?[A-Z][A-Z_]* = )(\d+)$", re.MULTILINE)


def test_every_change_of_source_was_told() -> None:
    recorded, now = read_record(), state()
    changes = untold(recorded, now)
    assert not changes, explanation(changes)
    for part in ("artifacts", "files"):
        assert recorded[part] == now[part], "what is recorded is old: run `make code-versions`"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages, to change."""
    for package in ("saeborzoi", "saeborzoi_assets"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_a_changed_constant_of_the_motif_engine_has_to_be_told(copy: Path) -> None:
    before = state(copy)
    assert not untold(before, state(copy))
    text = (copy / ENGINE).read_text()
    changed, n = _CONSTANT.subn(lambda m: f"{m[1]}{int(m[2]) + 1}", text, count=1)
    assert n == 1, "the engine has no constant left: change another line here"
    (copy / ENGINE).write_text(changed)
    now = state(copy)
    assert untold(before, now)["meme_motifs"] == [ENGINE]
    assert not {"trained_sae", "seqlets", "tomtom_matches"} & untold(before, now).keys()
    with pytest.raises(
        ValueError, match=rf"meme_motifs: changed .* {ENGINE}\n(.|\n)*bump .*no-effect"
    ):
        record(None, before, now)
    recorded = record("a bound that was never reached", before, now)
    assert recorded["no_effect"][-1]["files"] == [ENGINE]
    assert not untold(recorded, now)
    for artifact in now["artifacts"].values():
        artifact["version"] += "a"
    assert record(None, before, now)["no_effect"] == []


def test_words_and_layout_of_source_are_no_change(tmp_path: Path) -> None:
    plain, other, changed = (tmp_path / f"{name}.py" for name in ("plain", "other", "changed"))
    plain.write_text("N = 3\n\ndef f(x):\n    return x + N\n")
    other.write_text(
        '"""Words."""\nN = (  # three\n    3\n)\n"""A number."""\n'
        'def f(\n    x,\n):\n    """Adds."""\n    return (x + N)\n'
    )
    changed.write_text("N = 3\n\ndef f(x):\n    return x - N\n")
    assert hash_of(plain) == hash_of(other) != hash_of(changed)


def test_source_is_followed_through_functions_and_not_into_types(tmp_path: Path) -> None:
    package = tmp_path / "saeborzoi"
    (package / "room").mkdir(parents=True)
    for file, text in {
        "stage.py": "def run():\n    from saeborzoi.room import deep\n",
        "room/__init__.py": "",
        "room/deep.py": (
            "from typing import TYPE_CHECKING\nimport saeborzoi.far\n"
            "if TYPE_CHECKING:\n    from saeborzoi.types import T\n"
        ),
        "far.py": "", "types.py": "", "errors.py": "", "elsewhere.py": "",
    }.items():  # fmt: skip
        (package / file).write_text(text)
    artifact = Artifact("made", "1", ("saeborzoi.stage",))
    assert files_of(artifact, tmp_path) == [
        f"saeborzoi/{file}" for file in ("far.py", "room/__init__.py", "room/deep.py", "stage.py")
    ]


def test_a_new_import_counts_though_no_file_changed_otherwise(copy: Path) -> None:
    before = state(copy)
    stage = copy / "saeborzoi" / "stages" / "meme_motifs.py"
    stage.write_text(stage.read_text() + "\nfrom saeborzoi.nodes import jaccard\n")
    assert set(untold(before, state(copy))["meme_motifs"]) >= {
        "saeborzoi/nodes/jaccard.py", "saeborzoi/stages/meme_motifs.py",
    }  # fmt: skip


def test_the_pages_own_files_belong_to_the_feature_browser(copy: Path) -> None:
    before = state(copy)
    script = copy / "saeborzoi" / "browser" / "static" / "app.js"
    script.write_text(script.read_text() + "\n")
    assert set(untold(before, state(copy))) == {"feature_browser"}
