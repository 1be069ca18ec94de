"""The two stages of variants write what the catalogue expects, from jobs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.schema import TABLE
from saeborzoi.effects.variant_nodes import Pairs, VariantNodes
from saeborzoi.errors import SettingsError
from saeborzoi.genome.alleles import neutral_changes
from saeborzoi.jobs.job import Job, StageInterrupted, silent, stop_requested
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.stages import of_variants, variant_effects, variant_nodes
from tests.effects.nets import INPUT_BP, N_CHANNELS, shrinking_sae

H = Hyperparameters(layer="conv", expansion=2, topk=1.0)
VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
MODEL_AND_LAYER = f"""
[project]
name = "test"
[data]
genome = "g.fa"
[model]
loader = "tests.effects.nets:linear"
device = "cpu"
arguments = {{ scale = "log" }}
[[layer]]
name = "conv"
n_channels = {N_CHANNELS}
bp_per_position = 1
seqlet_width_bp = 20
"""
SETTINGS = f"""{MODEL_AND_LAYER}
pad_bp = 0
train = {{ windows = "w.bed" }}
[[variants]]
name = "traits"
path = "traits.vcf"
controls = "matched"
[[variants]]
name = "matched"
path = "matched.tsv"
[attribution]
span_bp = {INPUT_BP}
n_exact = 2
n_nodes = 4
n_controls = 2
control_bp = 100
"""


def write_inputs(folder: Path) -> None:
    """Genome, windows, two sets of variants and settings."""
    pytest.importorskip("pysam", reason="needs pysam (saeborzoi[variants]) to read VCF")
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 1000))
    (folder / "g.fa").write_text(f">chr1\n{letters}\n")
    (folder / "w.bed").write_text("chr1\t0\t1000\n")

    def other(at: int) -> str:
        return {"A": "G", "G": "A", "C": "T", "T": "C"}[letters[at - 1]]

    rows = [f"1\t{at}\trs{at}\t{letters[at - 1]}\t{other(at)}" for at in (300, 400, 500)]
    rows.append(f"1\t600\t.\t{letters[599:603]}\t{letters[599]}")
    rows.append(f"1\t700\t.\t{letters[699]}\t<DEL>")
    (folder / "traits.vcf").write_text(VCF + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    table = [f"rs{at}\tchr1\t{at}\t{letters[at - 1]}\t{other(at)}\n" for at in (350, 450)]
    (folder / "matched.tsv").write_text("rsid\tchrom\tpos\tref\talt\n" + "".join(table))
    (folder / "dagster_project.toml").write_text(SETTINGS)


@pytest.fixture
def both_sets(tmp_path: Path) -> Settings:
    write_inputs(tmp_path)
    return load_settings(tmp_path)


@pytest.fixture
def settings(both_sets: Settings) -> Settings:
    """As a job of the set `traits` has them."""
    return both_sets.of_set("traits")


def job_of(settings: Settings, stage: str, **fields: object) -> Job:
    store = settings.project.store
    return Job.model_validate(
        {
            "job_id": stage, "stage": stage, "settings": settings, "layer": "conv",
            "output": store / stage, "work": store / "work", **fields,
        }
    )  # fmt: skip


def job_of_nodes(settings: Settings) -> Job:
    store = settings.project.store
    with write_artifact(store / "trained_sae", "v", {}) as folder:
        save_checkpoint(shrinking_sae(0.5), folder)
    motif = pd.DataFrame({"node": [3], "matrix": [[[0.7, 0.1, 0.1, 0.1]] * 6]})
    motif.to_parquet(store / "motif.parquet")
    inputs = {"trained_sae": store / "trained_sae", "motif": store / "motif.parquet"}
    return job_of(settings, "variant_nodes", hyperparameters=H, inputs=inputs)


def columns_of(table: str) -> set[str]:
    return {column.name for column in TABLE[table].columns} - {"hyperparameters"}


def test_tables_have_the_catalogues_columns_and_scores_are_computed_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = variant_effects.run(job_of(settings, "variant_effects"))
    assert (figures["n_variants"], figures["n_skipped"]) == (4, 1)
    assert figures["words"] == "mean of the central bins"
    assert "'1' of the file is 'chr1' of the genome" in figures["notes"]
    output = settings.project.store / "variant_effects"
    tables = {name: pd.read_parquet(output / f"{name}.parquet") for name in variant_effects.TABLES}
    for name, frame in tables.items():
        assert set(frame) == columns_of(name), name
        assert not frame.duplicated(list(TABLE[name].key)).any()
    assert tables["variant"]["p_value"].between(0, 1).all()
    assert tables["variant_skipped"]["reason"].tolist() == [
        "a symbolic allele, which has no sequence"
    ]

    # what is scored once is not scored again, by whatever job
    def never(*_: object, **__: object) -> None:
        raise AssertionError("scores were computed again")

    monkeypatch.setattr(of_variants, "variant_scores", never)
    assert variant_effects.run(job_of(settings, "variant_effects")) == figures
    figures = variant_nodes.run(job_of_nodes(settings))
    assert (figures["n_variants"], figures["n_exact"]) == (4, 2)
    assert figures["share_of_nodes"] == pytest.approx(0.5, abs=0.05)
    rows = pd.read_parquet(settings.project.store / "variant_nodes" / "variant_node.parquet")
    assert set(rows) == columns_of("variant_node")
    assert not rows.duplicated(
        [name for name in TABLE["variant_node"].key if name != "hyperparameters"]
    ).any()
    assert set(rows["method"]) == {"exact", "gradient at ref"}
    of_nodes = rows[rows["part"] == "node"]
    assert of_nodes["p_value"].between(0, 1).all()
    has_motif = of_nodes["motif_ref_bits"].notna()
    assert (has_motif == (of_nodes["node"] == 3)).all()
    assert has_motif.any()
    # parts sum to the effect, whichever way
    sums = rows[rows["part"] != "node"].groupby("variant")["attribution"].sum()
    effect = tables["variant_track"].query("rank == 1").set_index("variant")["effect"]
    np.testing.assert_allclose(sums[effect.index], effect, atol=1e-6)


def test_a_set_more_leaves_what_is_known_of_the_others(
    both_sets: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a job that was stopped nor another set computes anything twice."""
    settings, alone = both_sets.of_set("traits"), both_sets.of_set("matched")
    monkeypatch.setattr(of_variants, "chunk_of", lambda _: 4)
    monkeypatch.setattr(variant_nodes, "chunk_of", lambda _: 4)
    variant_nodes.run(job_of_nodes(alone))
    of_alone = rows_of_nodes(settings)
    computed: list[tuple[str, int]] = []

    def counted(method: Callable[..., Iterator[pd.DataFrame]]) -> Callable[..., object]:
        def counting(self: VariantNodes, pairs: Pairs) -> Iterator[pd.DataFrame]:
            computed.extend(zip(pairs.variants["variant"], pairs.track, strict=True))
            yield from method(self, pairs)

        counting.__name__ = method.__name__
        return counting

    for name in ("exact", "cheap"):
        monkeypatch.setattr(VariantNodes, name, counted(getattr(VariantNodes, name)))

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if what == "variants and controls attributed" and done == 1:
            stop_requested.set()

    try:
        with pytest.raises(StageInterrupted, match="1 of 2 variants or controls are attributed"):
            variant_nodes.run(job_of_nodes(settings), stop)
    finally:
        stop_requested.clear()
    variant_nodes.run(job_of_nodes(settings))
    assert len(computed) == len(set(computed))
    assert not {variant for variant, _ in computed} & set(of_alone["variant"])
    rows = rows_of_nodes(settings)
    assert set(rows["variant_set"]) == {"traits"}
    assert rows["variant"].nunique() == 4
    n_computed = len(computed)
    variant_nodes.run(job_of_nodes(alone))
    assert len(computed) == n_computed
    pd.testing.assert_frame_equal(rows_of_nodes(alone), of_alone)
    # a control is explained on the track that it moves most itself, as a variant is
    with of_variants.opened_model(job_of_nodes(settings), None) as (model, geometry, genome):
        traits = of_variants.set_of(settings, genome, geometry, model.input_bp)
        for table in (traits.variants.table, traits.controls):
            scores = of_variants.scored(settings, model, genome, table, silent)
            top = scores.tracks.query("rank == 1").set_index("variant")["track"]
            assert model.outputs is not None
            for variant, track in computed:
                if variant in top:
                    assert model.outputs.tracks[track] == top[variant]


def test_where_there_is_no_room_for_controls_nothing_is_claimed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_variants, "neutral_changes", lambda *a: neutral_changes(*a).iloc[:0])
    assert variant_effects.run(job_of(settings, "variant_effects"))["n_beyond_controls"] == 0
    assert variant_nodes.run(job_of_nodes(settings))["n_acting"] == 0
    assert rows_of_nodes(settings)["p_value"].isna().all()


def rows_of_nodes(settings: Settings) -> pd.DataFrame:
    return pd.read_parquet(settings.project.store / "variant_nodes" / "variant_node.parquet")


def test_a_model_without_outputs_says_what_its_nodes_do(settings: Settings) -> None:
    assert settings.model is not None
    silent = settings.model_copy(
        update={"model": settings.model.model_copy(update={"predicts": False})}
    )
    figures = variant_effects.run(job_of(silent, "variant_effects"))
    assert (figures["n_variants"], figures["words"]) == (4, None)
    variant_nodes.run(job_of_nodes(silent))
    rows = pd.read_parquet(settings.project.store / "variant_nodes" / "variant_node.parquet")
    assert set(rows["method"]) == {"activation only"}
    assert set(rows["part"]) == {"node"}
    assert rows["effect"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "matched"', 'name = "traits"'), r"two \[\[variants\]\] share the name 'traits'"),
        (('controls = "matched"', 'controls = "none"'), "controls = 'none' is no other set"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    settings: Settings, change: tuple[str, str], message: str
) -> None:
    folder = settings.project.store.parent
    (folder / "dagster_project.toml").write_text(SETTINGS.replace(*change))
    with pytest.raises(SettingsError, match=message):
        load_settings(folder)
