"""Whoever reads an artifact is told of one flipped bit, a cut file, or another result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from saeborzoi.errors import StoreError
from saeborzoi.jobs.provenance import (
    PROVENANCE,
    again,
    require_whole,
    write_artifact,
    written_files,
)

KEY = "conv_x3_k0.25_lr0.003_s0"
AGAIN = rf"saeborzoi run {KEY} --select trained_sae --again"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A folder with weights, a table and its provenance."""
    folder = tmp_path / "store" / "saes" / KEY / "trained_sae"
    with write_artifact(
        folder, "v1", {"job": None, "figures": {"fvu": 0.25, "names": ["ü"]}}
    ) as new:
        (new / "sae.safetensors").write_bytes(random.Random(0).randbytes(5000))
        (new / "data").mkdir()
        (new / "data" / "log.parquet").write_bytes(b"PAR1" * 100)
    return folder


def test_a_whole_artifact_passes(artifact: Path) -> None:
    assert require_whole(artifact, "v1") == artifact
    assert require_whole(artifact) == artifact


def test_one_flipped_bit_anywhere_is_named_with_the_command(artifact: Path) -> None:
    rng = random.Random(1)
    for file in (artifact / "sae.safetensors", artifact / "data" / "log.parquet"):
        content = file.read_bytes()
        for _ in range(20):
            damaged = bytearray(content)
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(StoreError, match=rf"{file.name}: is damaged.*{AGAIN}"):
                require_whole(artifact, "v1")
        file.write_bytes(content)
    require_whole(artifact, "v1")


def test_a_flipped_bit_of_the_provenance_is_named_or_changes_nothing(artifact: Path) -> None:
    file = artifact / PROVENANCE
    content = file.read_bytes()
    meaning = json.loads(content)
    n_named = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        try:
            require_whole(artifact, "v1")
        except StoreError:
            n_named += 1
        else:
            assert json.loads(bytes(damaged)) == meaning, f"byte {place}: space for space"
    assert n_named > len(content) * 0.8


@pytest.mark.parametrize("check", [require_whole, written_files])
def test_cut_empty_and_missing_files_are_named(
    artifact: Path, check: Callable[[Path, str], object]
) -> None:
    file = artifact / "data" / "log.parquet"
    for content in (b"PAR1" * 99, b""):
        file.write_bytes(content)
        with pytest.raises(StoreError, match=rf"bytes, 400 were written\); make it again: {AGAIN}"):
            check(artifact, "v1")
    file.unlink()
    with pytest.raises(StoreError, match=rf"log\.parquet: is missing; make it again: {AGAIN}"):
        check(artifact, "v1")
    (artifact / PROVENANCE).unlink()
    with pytest.raises(StoreError, match=rf"provenance\.json: is missing.*{AGAIN}"):
        check(artifact, "v1")


def test_another_result_than_the_catalogues_is_refused(artifact: Path) -> None:
    with pytest.raises(
        StoreError, match=rf"data version v1\) than the catalogue says \(v2\).*{AGAIN}"
    ):
        require_whole(artifact, "v2")


def test_an_artifact_of_the_first_release_passes(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE).write_text(json.dumps({"job": None, "code_version": "0.1.0"}))
    assert require_whole(tmp_path, "v1") == tmp_path


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("layers/conv/normalization_constants", "--select normalization_constants"),
        (f"saes/{KEY}/seqlets/n0003_ab_cd", f"{KEY} --select seqlets --nodes 3"),
        (
            f"saes/{KEY}/seqlets/n0000-n0011.0a1b2c3d_ab_cd",
            f"{KEY} --select seqlets --nodes 0-11",
        ),
        (f"saes/{KEY}/variant_nodes/traits", f"{KEY} --select variant_nodes"),
        (f"browser/{KEY}", f"{KEY} --select feature_browser"),
        ("project/sae_comparison", "--select sae_comparison"),
    ],
)
def test_the_command_makes_that_very_artifact(place: str, command: str) -> None:
    message = again(Path("/home/saes/me/project") / "store" / place)
    assert message == f"make it again: saeborzoi run {command} --again"
