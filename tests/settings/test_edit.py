"""Adding an SAE: the file gains exactly one block, and what does not fit changes nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from saeborzoi.errors import PartitionKeyError, SettingsError
from saeborzoi.settings.edit import add_sae
from saeborzoi.settings.hyperparameters import Hyperparameters, make_hyperparameters
from saeborzoi.settings.load import load_settings

_HEAD = """\
# my project
[project]
name   =   "test"     # odd spacing stays

[data]
genome = "genome.fa"

[[layer]]
name = "conv1d_1"
n_channels = 608
bp_per_position = 2
train = { shards = "shards", windows = "train_seqs.bed" }
"""
_GRID = """
[[sae]]
layer = "conv1d_1"
seed = [
  0,  # the first
  1,
]

# how long to train: this comment belongs to the next table
[training]
n_epochs = 2
"""
_NEW = Hyperparameters(layer="conv1d_1", expansion=8, topk=0.02, seed=3)


def _write(folder: Path, text: str) -> Path:
    path = folder / "dagster_project.toml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        _HEAD,
        _HEAD.rstrip("\n"),
        _HEAD + _GRID,
        (_HEAD + _GRID).replace("\n", "\r\n"),
        (_HEAD + _GRID).replace("]\n\n#", "]\n#"),
        _HEAD + _GRID + '\n[[sae]]\nlayer = "conv1d_1"\nexpansion = 2\n# the end\n',
        _HEAD.replace("[data]", '[[ "sae" ]] # first\nlayer="conv1d_1"\n[data]'),
        _HEAD + _GRID.rstrip("\n"),
        _HEAD + '[training]\nn_epochs = 2\n[[sae]]\nlayer = "conv1d_1" # the only one',
    ],
)
def test_the_file_gains_one_block_and_keeps_every_byte(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path, text)
    before = load_settings(path)
    block = add_sae(path, _NEW)
    after = load_settings(path)
    assert set(after.wanted()) == {*before.wanted(), _NEW}
    assert after.training == before.training
    written = path.read_bytes().decode()
    start = written.index(block)
    around = written[:start].rstrip("\r\n"), written[start + len(block) :]
    assert text.startswith(around[0])
    assert text.endswith(around[1].lstrip("\r\n"))
    assert len(written) - len(text) <= len(block) + 6


def test_a_comment_that_introduces_the_next_table_stays_before_it(tmp_path: Path) -> None:
    path = _write(tmp_path, _HEAD + _GRID)
    add_sae(path, _NEW)
    assert "next table\n[training]" in path.read_text()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("between", ["\n\n# how", "\n# how", "\n", "\n\n\n"])
def test_the_block_stands_by_itself(tmp_path: Path, newline: str, between: str) -> None:
    before = _HEAD + '\n[[sae]]\nlayer = "conv1d_1"'
    after = "\n[training]\nn_epochs = 2\n"
    path = _write(tmp_path, (before + between + after).replace("\n", newline))
    block = add_sae(path, _NEW).replace(newline, "\n")
    assert block.startswith("[[sae]]\nlayer")
    written = path.read_bytes().decode().replace(newline, "\n")
    assert "\r" not in written
    gap = "" if between.startswith("\n\n") or (between + after).startswith("\n\n") else "\n"
    assert written == f"{before}\n\n{block}{gap}{between}{after}"


def test_variant_and_recipe_are_written_where_not_the_usual_ones(tmp_path: Path) -> None:
    path = _write(tmp_path, _HEAD)
    block = add_sae(path, make_hyperparameters(layer="conv1d_1", recipe="published"))
    assert block.splitlines()[-2:] == ["seed = 0", 'recipe = "published"']
    assert load_settings(path).wanted()[0].learning_rate == 1e-5


def test_links_and_rights_of_the_file_stay(tmp_path: Path) -> None:
    path = _write(tmp_path, _HEAD)
    path.chmod(0o600)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    add_sae(link, _NEW)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["dagster_project.toml", "link.toml"]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is a mount of its own: nothing can be renamed to it."""

    def refused(source: object, target: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))

    monkeypatch.setattr(os, "replace", refused)


@pytest.mark.usefixtures("mounted")
def test_a_file_that_is_mounted_by_itself_is_written_in_place(tmp_path: Path) -> None:
    path = _write(tmp_path, _HEAD + _GRID)
    inode = path.stat().st_ino
    block = add_sae(path, _NEW)
    assert path.stat().st_ino == inode
    assert path.read_text() == (_HEAD + _GRID).replace("]\n\n#", f"]\n\n{block}\n\n#")
    assert _NEW in load_settings(path).wanted()
    assert os.listdir(tmp_path) == ["dagster_project.toml"]


@pytest.mark.usefixtures("mounted")
def test_a_disk_that_is_full_leaves_a_mounted_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, _HEAD + _GRID)
    synced = os.fsync
    mounted = path.stat().st_ino

    def full_once(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == mounted:
            monkeypatch.setattr(os, "fsync", synced)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", full_once)
    with pytest.raises(SettingsError, match=r"mounted by itself .*No space left") as caught:
        add_sae(path, _NEW)
    assert "seed = 3" in str(caught.value)
    assert path.read_text() == _HEAD + _GRID


@pytest.mark.parametrize(
    ("hyperparameters", "error", "message"),
    [
        (Hyperparameters(layer="conv1d_1", seed=1), SettingsError, "is asked for already"),
        (Hyperparameters(layer="conv9"), PartitionKeyError, "layer 'conv9' is not in the settings"),
        (Hyperparameters(layer="conv1d_1", topk=0.001), PartitionKeyError, "keeps no node"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    tmp_path: Path, hyperparameters: Hyperparameters, error: type[Exception], message: str
) -> None:
    path = _write(tmp_path, _HEAD + _GRID)
    with pytest.raises(error, match=message):
        add_sae(path, hyperparameters)
    assert path.read_text() == _HEAD + _GRID


def test_an_inline_array_is_refused_and_stays(tmp_path: Path) -> None:
    text = 'sae = [{ layer = "conv1d_1" }]\n' + _HEAD
    path = _write(tmp_path, text)
    with pytest.raises(SettingsError, match="written as an inline array"):
        add_sae(path, _NEW)
    assert path.read_text() == text
    assert os.listdir(tmp_path) == ["dagster_project.toml"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.* cannot be read"):
        add_sae(tmp_path / "nowhere" / "dagster_project.toml", _NEW)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expansion": 0}, "expansion = 0: Input should be greater"),
        ({"topk": 2.0}, r"topk = 2\.0: Input should be less"),
        ({"variant": "relu"}, "variant = 'relu'"),
        ({"learning_rate": 0.00123456789}, "use 0.00123457"),
    ],
)
def test_impossible_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(PartitionKeyError, match=message):
        make_hyperparameters(layer="conv1d_1", **values)


def test_two_who_add_at_once_both_succeed(tmp_path: Path) -> None:
    path = _write(tmp_path, _HEAD)
    fork = multiprocessing.get_context("fork")
    adders = [fork.Process(target=_add, args=(path, seed)) for seed in range(4)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join(30)
        assert adder.exitcode == 0
    assert sorted(h.seed for h in load_settings(path).wanted()) == [0, 1, 2, 3]


def _add(path: Path, seed: int) -> None:
    add_sae(path, Hyperparameters(layer="conv1d_1", seed=seed))
