"""The chain of stages on live activations is the same as from shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.demo.network import one_thread
from saeborzoi.errors import InputError, SettingsError
from saeborzoi.genome.coordinates import Genome, Windows, read_windows
from saeborzoi.jobs.job import Job
from saeborzoi.models.layer import LayerRunner
from saeborzoi.models.measure import layer_geometry
from saeborzoi.sae.data_fit import require_trained_on
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.sources.positions import plans_of
from saeborzoi.stages import normalization_constants, top_activations, trained_sae
from tests.activations.made_windows import (
    FIRST_N,
    LAST_N,
    N_BP,
    WINDOW_BP,
    WINDOWS,
    make_genome,
    source_of,
    write_bed,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_genome(tmp_path)


_SETTINGS = """
[project]
name = "live"
[data]
genome = "genome.fa"
[model]
loader = "tests.models.nets:padded"
tile_positions = 200
device = "cpu"
[[layer]]
name = "second"
n_channels = 12
bp_per_position = 2
seqlet_width_bp = 16
train = { windows = "windows.bed" }
validation = { windows = "windows.bed" }
[[sae]]
layer = "second"
topk = 0.25
[training]
n_positions = 6000
batch_size = 256
"""


H = Hyperparameters(layer="second", topk=0.25)
STAGES = {
    "normalization_constants": normalization_constants,
    "trained_sae": trained_sae,
    "top_activations": top_activations,
}


def settings_of(folder: Path, old: str = "", new: str = "") -> Settings:
    assert old in _SETTINGS
    (folder / "dagster_project.toml").write_text(_SETTINGS.replace(old, new))
    return load_settings(folder / "dagster_project.toml")


def run_chain(settings: Settings, store: Path) -> dict[str, dict[str, Any]]:
    figures = {}
    for name, stage in STAGES.items():
        inputs = {n: store / n for n in STAGES if n != name}
        figures[name] = stage.run(
            Job.model_validate(
                {
                    "job_id": name, "stage": name, "settings": settings, "layer": "second",
                    "hyperparameters": None if name == "normalization_constants" else H,
                    "inputs": inputs, "output": store / name, "work": store / "work",
                }
            )
        )  # fmt: skip
    return figures


def test_the_chain_is_the_same_live_from_a_cache_and_from_shards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = run_chain(settings_of(folder), folder / "live")
    cached = settings_of(folder, 'train = { windows = "windows.bed" }',
                         'train = { windows = "windows.bed", cache = "cache" }')  # fmt: skip
    first = run_chain(cached, folder / "first")
    with monkeypatch.context() as patched:
        patched.setattr(LayerRunner, "tile", None)  # the model does not run any more
        no_validation = cached.layer[0].model_copy(update={"validation": None})
        with plans_of(
            cached.model_copy(update={"layer": (no_validation,)}), no_validation
        ) as plans:
            assert sum(len(slab.position) for slab in plans[0].in_order()) == plans[0].n_positions
    for name in ("trained_sae", "top_activations"):
        for key in ("n_positions", "fvu", "n_dead", "data_fingerprint"):
            assert live[name].get(key) == first[name].get(key), (name, key)
    weights = [load_file(folder / s / "trained_sae/sae.safetensors") for s in ("live", "first")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # the cache is ordinary shards
    shards = ShardFolder.open(folder / "cache", 12)
    assert (shards.n_sequences, shards.n_positions) == (5, 500)
    ranges = [pd.read_parquet(folder / s / "top_activations/top_activations.parquet")
              for s in ("live", "first")]  # fmt: skip
    pd.testing.assert_frame_equal(*ranges)
    write_bed(folder / "windows.bed", WINDOWS[:-1])
    with pytest.raises(InputError, match="holds activations of other weights, layer, windows"):
        run_chain(cached, folder / "second")
    with (
        plans_of(settings_of(folder), settings_of(folder).layer[0]) as (plan, _),
        pytest.raises(InputError, match=r"\(another windows on genome: .* then, .* now\)"),
    ):
        require_trained_on(folder / "live" / "trained_sae", plan.source, H.key)


def test_a_folder_that_is_no_cache_is_left_alone(folder: Path) -> None:
    (folder / "cache").mkdir()
    (folder / "cache" / "thesis.txt").write_text("years of work")
    settings = settings_of(folder, 'train = { windows = "windows.bed" }',
                           'train = { windows = "windows.bed", cache = "cache" }')  # fmt: skip
    with pytest.raises(InputError, match="is no cache of activations"):
        run_chain(settings, folder / "store")
    assert (folder / "cache" / "thesis.txt").exists()


def test_several_saes_share_the_models_cost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_tiles = 0
    plain = LayerRunner.tile

    def counted(self: LayerRunner, x: torch.Tensor) -> torch.Tensor:
        nonlocal n_tiles
        n_tiles += 1
        return plain(self, x)

    monkeypatch.setattr(LayerRunner, "tile", counted)
    source = source_of(folder, tile_positions=200)
    for _ in SlabPlan(source, source.scan.pieces).in_order():
        pass
    # a tile each, and none twice, but where N cuts a tile into two pieces of one slab
    assert n_tiles == len(WINDOWS) * 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_channels = 12", "n_channels = 13", "n_channels = 13 in the settings, measured is 12"),
        ("bp_per_position = 2", "bp_per_position = 4", "bp_per_position = 4 in the settings"),
        ("n_channels = 12", "receptive_field_bp = 18\nn_channels = 12", "measured is 16"),
        ('name = "second"', 'name = "second"\nmodule = "cnov"', "the nearest are 'conv'"),
        ("nets:padded", "nets:numbered", "no module 'second'"),
    ],
)
def test_settings_that_the_module_contradicts_are_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    settings = settings_of(folder, old, new)
    with pytest.raises(InputError, match=message), plans_of(settings, settings.layer[0]):
        pass


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[model]", "[models]", "unknown key 'models'"),
        ('loader = "tests.models.nets:padded"', "", "'model.loader' is missing"),
        (_SETTINGS[_SETTINGS.index("[model]") : _SETTINGS.index("[[layer]]")], "",
         "layer 'second' has windows without `shards`, and there is no \\[model\\]"),
        ('train = { windows = "windows.bed" }',
         'train = { shards = "s", windows = "windows.bed", cache = "c" }', "cache goes with"),
        ('train = { windows = "windows.bed" }', 'train = { shards = "s", windows = "genome" }',
         "goes with a model"),
        ('train = { windows = "windows.bed" }', 'train = { windows = "w.bed", mask = "m.bed" }',
         "mask goes with windows"),
        ('train = { windows = "windows.bed" }', 'train = { windows = "genome", window_bp = 77 }',
         "window_bp = 77 is no multiple of bp_per_position = 2"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings_of(folder, old, new)


def test_paths_of_the_model_start_at_the_settings_file(folder: Path) -> None:
    settings = settings_of(
        folder, 'loader = "tests.models.nets:padded"', 'loader = "net.py:load"\nweights = "w.pth"'
    )
    assert settings.model is not None
    assert settings.model.loader == f"{folder}/net.py:load"
    assert settings.model.files == [folder / "net.py", folder / "w.pth"]
    layer = settings.layer[0]
    assert settings.activation_files([layer.train]) == [
        folder / "windows.bed", folder / "genome.fa", folder / "net.py", folder / "w.pth",
    ]  # fmt: skip
    other = settings_of(folder, 'loader = "tests.models.nets:padded"', 'loader = "keras-h5:m.h5"')
    assert other.model is not None
    assert other.model.loader == f"keras-h5:{folder}/m.h5"


def test_windows_beyond_a_chromosome_are_refused(folder: Path) -> None:
    write_bed(folder / "windows.bed", [("chr1", N_BP - WINDOW_BP + 1, "+")])
    settings = settings_of(folder)
    with (
        pytest.raises(InputError, match=r"line 1: .* reaches beyond the chromosome of 6000 bp"),
        plans_of(settings, settings.layer[0]),
    ):
        pass


def test_the_whole_genome_but_what_is_masked(folder: Path) -> None:
    (folder / "mask.bed").write_text(f"chr1\t{FIRST_N}\t{LAST_N}\n")
    new = 'train = { windows = "genome", window_bp = 1000, mask = "mask.bed" }'
    settings = settings_of(folder, 'train = { windows = "windows.bed" }', new)
    with plans_of(settings, settings.layer[0], validation=False) as (plan, _):
        windows: Windows = plan.source.places.windows  # type: ignore[attr-defined]
        assert windows.start_bp.tolist() == [0, 1000, 1600, 2637, 3637, 4637, 5000]
        assert set(windows.chrom) == {"chr1"}
        # all of it but the mask and what sees it or the ends: 7 bp on either side of a position
        assert plan.n_positions == pytest.approx((N_BP - (LAST_N - FIRST_N)) / 2, abs=20)
    (folder / "mask.bed").write_text(f"chr1\t0\t{N_BP + 1}\n")
    with (
        pytest.raises(InputError, match="reaches beyond the chromosome"),
        plans_of(settings, settings.layer[0]),
    ):
        pass
    (folder / "mask.bed").write_text(f"chr1\t0\t{N_BP - 999}\n")
    with (
        pytest.raises(InputError, match="no stretch of 1,000 bp is left"),
        plans_of(settings, settings.layer[0]),
    ):
        pass


def test_the_real_network_gives_the_shards(hg38_case: Path) -> None:
    from saeborzoi.models.loaders import load_model

    model = load_model(
        f"{hg38_case}/model/explainn.py:load",
        weights=hg38_case / "model" / "explainn_max_foxa1_jund.pth",
        input_bp=200,
        device="cpu",
    )
    geometry = layer_geometry(model, "stem")
    assert (geometry.n_channels, geometry.bp_per_position, geometry.receptive_field_bp) == (
        100, 7, 25,
    )  # fmt: skip
    folder = hg38_case / "activations" / "val"
    places = Places(read_windows(folder / "sequences.bed"), 7, 0)
    with Genome(hg38_case / "genome" / "chr1_hg38_10M.fa.gz") as genome:
        live = LiveSource(model, geometry, genome, places).read(0, slice(0, 8), slice(0, 4680))
    with ShardFolder.open(folder).reader() as reader:
        shards = reader.read(0, slice(0, 8), slice(0, 4680))
    assert float((live == shards).mean()) >= 0.9998
    assert isinstance(model.module, nn.Module)
