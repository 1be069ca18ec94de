"""Activations straight from genome and model: the values of the whole sequence, at the right
places, and the same chain as from shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
from saeborzoi.genome.coordinates import Genome, Windows, position_intervals, read_windows
from saeborzoi.jobs.job import Job
from saeborzoi.models.layer import LayerRunner, one_hot, run_to
from saeborzoi.models.measure import layer_geometry
from saeborzoi.nodes.seqlets import make_seqlets
from saeborzoi.sae.data_fit import require_trained_on
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.settings.sections import Selection
from saeborzoi.sources.positions import plans_of
from saeborzoi.stages import normalization_constants, top_activations, trained_sae
from tests.models.nets import model_of

N_BP, FIRST_N, LAST_N = 6_000, 2_600, 2_637
BP, WINDOW_BP = 2, 1_000
WINDOWS = [("chr1", 0, "+"), ("chr1", 1_001, "-"), ("chr1", 2_300, "+"), ("chr1", 2_301, "-"),
           ("chr1", 5_000, "+")]  # fmt: skip
"""At both of the chromosome's ends, at odd places, on both strands, around a run of N."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    letters = np.random.default_rng(1).choice(list("ACGTacgt"), N_BP)
    letters[FIRST_N:LAST_N] = "N"
    (tmp_path / "genome.fa").write_text(f">chr1\n{''.join(letters)}\n>chr2\nACGT\n")
    write_bed(tmp_path / "windows.bed", WINDOWS)
    return tmp_path


def write_bed(path: Path, windows: list[tuple[str, int, str]]) -> None:
    path.write_text(
        "".join(f"{c}\t{start}\t{start + WINDOW_BP}\tw\t0\t{s}\n" for c, start, s in windows)
    )


def source_of(
    folder: Path, net: str = "padded", module: str = "conv", pad_bp: int = 0, **options: Any
) -> LiveSource:
    model = model_of(net)
    places = Places(read_windows(folder / "windows.bed"), BP, pad_bp)
    return LiveSource(
        model, layer_geometry(model, module), Genome(folder / "genome.fa"), places, **options
    )


def whole(folder: Path, start: int, strand: str) -> np.ndarray:
    """(500, 12) float32: the layer on one long sequence around a window, in one piece."""
    around = 200
    text = (folder / "genome.fa").read_text().split("\n")[1].upper()
    padded = "N" * around + text + "N" * around
    letters = padded[start : start + WINDOW_BP + 2 * around]
    if strand == "-":
        letters = letters[::-1].translate(str.maketrans("ACGT", "TGCA"))
    model = model_of("padded")
    x = one_hot(np.frombuffer(letters.encode(), np.uint8))
    with torch.no_grad():
        y = run_to(model.module, model.module.get_submodule("conv"), x[None])[0].T
    return y[around // BP : around // BP + WINDOW_BP // BP].numpy()


@pytest.mark.parametrize("tile_positions", [500, 128, 77])
def test_values_are_those_of_the_whole_sequence(folder: Path, tile_positions: int) -> None:
    source = source_of(folder, stored_as="float32", tile_positions=tile_positions)
    for row, (_, start, strand) in enumerate(WINDOWS):
        expected = whole(folder, start, strand)
        block = source.read(0, slice(row, row + 1), slice(0, 500))[0]
        np.testing.assert_allclose(block, expected, atol=2e-6)
        # whatever is asked for around it, a value is the same to the bit
        assert np.array_equal(source.read(0, slice(row, row + 1), slice(90, 163))[0], block[90:163])


def test_padding_only_says_where_position_0_is(folder: Path) -> None:
    plain, padded = source_of(folder), source_of(folder, pad_bp=100)
    assert padded.n_positions == plain.n_positions + 100
    for row in range(len(WINDOWS)):
        rows = slice(row, row + 1)
        a, b = plain.read(0, rows, slice(0, 500)), padded.read(0, rows, slice(50, 550))
        np.testing.assert_allclose(a.astype(float), b.astype(float), atol=2e-3)
    assert [p[4] for p in plain.scan.pieces] == [p[4] for p in padded.scan.pieces]
    assert np.array_equal(plain.scan.pieces[:, 2] + 50, padded.scan.pieces[:, 2])


def test_positions_that_see_n_or_beyond_the_chromosome_do_not_count(folder: Path) -> None:
    source = source_of(folder)
    g = source.geometry
    assert (g.before_bp, g.after_bp) == (7, 7)
    counted = {(int(row), p) for _, row, a, b, _ in source.scan.pieces for p in range(a, b)}
    for row, (_, start, strand) in enumerate(WINDOWS):
        for p in range(500):
            low = start + 2 * p if strand == "+" else start + WINDOW_BP - 2 * p - 2
            low, high = low - 7, low + 2 + 7
            clean = low >= 0 and high <= N_BP and (high <= FIRST_N or low >= LAST_N)
            assert ((row, p) in counted) == clean, (row, p)


def test_positions_on_the_reverse_strand_lie_where_the_model_saw_them(folder: Path) -> None:
    windows = read_windows(folder / "windows.bed")
    assert windows.reverse([0, 1]).tolist() == [False, True]
    chrom, start, end = position_intervals(windows, [1, 1], [0, 3], 6, BP, 0)
    # position 0 covers the window's last two base pairs, 1999 and 2000
    assert list(zip(chrom, start, end, strict=True)) == [("chr1", 1997, 2003), ("chr1", 1991, 1997)]
    # an odd base goes to the right as the model reads
    assert position_intervals(windows, [1], [0], 5, BP, 0)[1:] == (
        np.array([1997]),
        np.array([2002]),
    )
    (folder / "odd.bed").write_text("chr1\t0\t10\t.\t.\t+\nchr1\t0\t10\t.\t.\tx\n")
    with pytest.raises(InputError, match=r"line 2: strand 'x'"):
        read_windows(folder / "odd.bed")


def test_seqlets_are_cut_from_the_windows_strand(folder: Path) -> None:
    top = pd.DataFrame(
        [(0, 0, 0, 50, 2.0), (0, 1, 1, 50, 1.0)],
        columns=["node", "rank", "window", "position", "activation"],
    )
    with Genome(folder / "genome.fa") as genome:
        windows = read_windows(folder / "windows.bed")
        rows = make_seqlets(
            top, pd.Series({0: 2}), windows, genome, width_bp=12, bp_per_position=2, pad_bp=0,
            **Selection().model_dump(),
        ).seqlets  # fmt: skip
    text = (folder / "genome.fa").read_text().split("\n")[1].upper()
    assert rows["strand"].tolist() == ["+", "-"]
    for row in rows.itertuples():
        forward = text[row.start_bp : row.end_bp]
        other = forward[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert row.sequence == (other if row.strand == "-" else forward)


def test_a_window_is_not_lost_where_the_other_strand_was_read(folder: Path) -> None:
    write_bed(folder / "windows.bed", [("chr1", 100, "+"), ("chr1", 100, "-"), ("chr1", 300, "-")])
    pieces = source_of(folder).scan.pieces
    # on the same strand a locus counts once: of the last window the 200 bp at its right end
    assert [(p[1], p[2], p[3]) for p in pieces.tolist()] == [(0, 0, 500), (1, 0, 500), (2, 0, 100)]


def test_its_identity_is_model_layer_genome_and_windows(folder: Path) -> None:
    before = source_of(folder).identity()
    assert source_of(folder, tile_positions=64).identity() == before
    assert set(before["data_parts"]) == {"model", "layer", "computed as", "windows on genome"}

    def other_part(**options: Any) -> list[str]:
        now = source_of(folder, **options).identity()
        assert now["data_fingerprint"] != before["data_fingerprint"]
        return [n for n, v in now["data_parts"].items() if v != before["data_parts"][n]]

    assert other_part(module="pool") == ["layer", "windows on genome"]
    assert other_part(stored_as="float32") == ["computed as"]
    text = (folder / "genome.fa").read_text()
    position = text.index("\n") + 1 + 5_500  # in the last window
    changed = "A" if text[position] not in "Aa" else "C"
    (folder / "genome.fa").write_text(text[:position] + changed + text[position + 1 :])
    assert other_part() == ["windows on genome"]
    (folder / "genome.fa").write_text(text)
    write_bed(folder / "windows.bed", WINDOWS[:-1])
    assert other_part() == ["windows on genome"]


def test_values_beyond_float16_are_refused_in_words(folder: Path) -> None:
    source = source_of(folder)
    source.model.module.conv.weight.data *= 1e6
    with pytest.raises(InputError, match='set stored_as = "float32"'):
        source.read(0, slice(0, 1), slice(0, 10))
    source.model.module.conv.weight.data *= 1e38
    with pytest.raises(InputError, match="weights or dtype make it overflow"):
        source.read(0, slice(0, 1), slice(0, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t0\t1000\nchr1\t0\t1002\n", r"line 2: the window has 1002 bp .* one length"),
        ("chr1\t0\t1001\n", r"line 1: .* a multiple of the 2 bp"),
        (f"chr1\t{FIRST_N}\t{LAST_N - 1}\n", "no position is left"),
        ("chr9\t0\t1000\n", r"chr9.*not in the FASTA"),
    ],
)
def test_windows_that_do_not_fit_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "windows.bed").write_text(text)
    with pytest.raises(InputError, match=message):
        _ = source_of(folder).scan


def test_a_layer_that_sees_everything_takes_whole_windows_only(folder: Path) -> None:
    model = model_of("attending")
    geometry = layer_geometry(model, "mix")
    genome = Genome(folder / "genome.fa")
    with pytest.raises(InputError, match=r"whole inputs of 64 positions \(256 bp\) only"):
        LiveSource(model, geometry, genome, Places(read_windows(folder / "windows.bed"), 4, 0))
    (folder / "windows.bed").write_text("chr1\t500\t728\n")
    source = LiveSource(
        model, geometry, genome, Places(read_windows(folder / "windows.bed"), 4, 14)
    )
    letters = genome.fetch_bytes(["chr1"], [500 - 14], 256)[0]
    with torch.no_grad():
        expected = model.module(one_hot(letters)[None])[0].numpy().astype(np.float16)
    assert np.array_equal(source.read(0, slice(0, 1), slice(0, 64))[0], expected)


# -- the chain ------------------------------------------------------------------------------------

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
