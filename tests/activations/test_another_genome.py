"""Shards and a model that made them: a genome of another build than the windows is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.regions import parse_region
from saeborzoi.settings.load import Settings
from saeborzoi.sources import ask
from saeborzoi.sources.__main__ import describe
from saeborzoi.sources.positions import plans_of
from saeborzoi.sources.regions import fasta_regions, layer_region
from saeborzoi_resources.upkeep.project_check import Finding, check_project
from tests.activations.made_windows import make_genome
from tests.activations.test_live_chain import settings_of

LIVE = 'train = { windows = "windows.bed" }\nvalidation = { windows = "windows.bed" }'
CACHED = LIVE.split("\n")[0].replace(" }", ', cache = "shards" }')
SHARDS = 'module = "conv"\ntrain = { shards = "shards", windows = "windows.bed" }'
OUTSIDE = parse_region("chr1:2,200-2,300")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a project whose shards are what the model computed."""
    folder = make_genome(tmp_path_factory.mktemp("build"))
    cached = settings_of(folder, LIVE, CACHED)
    with plans_of(cached, cached.layer[0]) as (plan, _):
        for _ in plan.in_order():
            pass
    return settings_of(folder, LIVE, SHARDS)


def finding(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """What `saeborzoi check` says of the layer's module."""
    monkeypatch.setattr(
        ask,
        "ask_model",
        lambda model, layers, genome: describe(
            {"model": model, "layers": layers, "genome": genome}
        ),
    )
    return next(f for f in check_project(settings) if f.what == "layer second, module")


def test_the_genome_of_the_windows_passes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok, detail = finding(settings, monkeypatch)[1:]
    assert ok, detail
    assert "the shards hold what it computes on the genome" in detail
    assert layer_region(settings, settings.layer[0], OUTSIDE).start_bp[0] == 2_198


def test_another_build_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fasta: Path = settings.data.genome
    header, letters = fasta.read_text().split("\n", 1)
    # a base more in front
    moved = fasta.with_name("other.fa")
    moved.write_text(f"{header}\nG{letters}")
    data = settings.data.model_copy(update={"genome": moved})
    other = settings.model_copy(update={"data": data})
    ok, detail = finding(other, monkeypatch)[1:]
    assert not ok
    assert "a genome of another build than the windows" in detail
    with pytest.raises(InputError, match=r"they differ by \d+% of a standard deviation"):
        layer_region(other, other.layer[0], OUTSIDE)
    with pytest.raises(InputError, match="genome of another build"):
        next(fasta_regions(moved, other, other.layer[0]))
