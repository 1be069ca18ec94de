"""The demo's known answer: what was planted is found, and named, through the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.demo import DATA, read_planted, recovery_table
from saeborzoi.demo.motifs import planted_motifs
from saeborzoi.demo.network import one_thread
from saeborzoi.demo.recovery import seqlets_on_instances
from saeborzoi.effects.attribution import changed, integrate, shares
from saeborzoi.effects.fidelity import fidelity
from saeborzoi.effects.inputs import SequencesOfWindows
from saeborzoi.effects.loci import find_loci
from saeborzoi.effects.node_effects import node_effects
from saeborzoi.effects.track_scores import score_of
from saeborzoi.effects.variant_nodes import Pairs, VariantNodes, against_controls
from saeborzoi.effects.variant_scores import window_starts
from saeborzoi.genome.alleles import allele_letters, neutral_changes
from saeborzoi.genome.coordinates import Genome, read_bed, read_windows
from saeborzoi.genome.variants import keys_of
from saeborzoi.jobs.job import Job
from saeborzoi.models.layer import one_hot
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.models.splice import Splice
from saeborzoi.motifs.properties import column_bits
from saeborzoi.nodes.overlaps import annotation_overlaps
from saeborzoi.nodes.seqlets import make_seqlets
from saeborzoi.sae.checkpoint import load_sae
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.load import Settings
from saeborzoi.stages import (
    meme_motifs,
    normalization_constants,
    tomtom_matches,
    top_activations,
    trained_sae,
)
from tests.effects import real_variants

_STAGES = {
    "normalization_constants": normalization_constants,
    "trained_sae": trained_sae,
    "top_activations": top_activations,
    "meme_motifs": meme_motifs,
    "tomtom_matches": tomtom_matches,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def seqlets(work: Path, settings: Settings) -> pd.DataFrame:
    """Seqlets of the selected nodes of the demo's SAE."""
    for_layer = run(settings, work, "normalization_constants")
    sae = run(settings, work, "trained_sae", for_layer)
    top = run(settings, work, "top_activations", for_layer, sae)
    layer = settings.layer[0]
    with Genome(settings.data.genome) as genome:
        seqlets, selection = make_seqlets(
            pd.read_parquet(top / "top_activations.parquet"),
            pd.read_parquet(top / "node_statistics.parquet").set_index("node")["n_nonzero"],
            read_windows(layer.train.windows),
            genome,
            width_bp=layer.seqlet_width,
            **layer.geometry,
            **settings.selection.model_dump(),
        )
    assert selection["selected"].sum() > 100
    return seqlets[seqlets["node"].isin(selection.loc[selection["selected"], "node"])]


def run(settings: Settings, work: Path, stage: str, *inputs: Path, suffix: str = "") -> Path:
    hyperparameters = settings.wanted()[0]
    job = Job(
        job_id=stage,
        stage=stage,
        settings=settings,
        layer=hyperparameters.layer,
        hyperparameters=None if stage == "normalization_constants" else hyperparameters,
        inputs={path.stem: path for path in inputs},
        output=work / f"{stage}{suffix}",
        work=work / f"{stage}.work",
    )
    _STAGES[stage].run(job)
    return job.output


def test_at_least_nine_in_ten_are_found_and_named(
    demo: Path, work: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    """Motifs of the node that is purest for each planted motif: the others take time and could
    only name what is named already."""
    planted, instances = read_planted(demo / DATA)
    purest = seqlets_on_instances(planted, instances, seqlets).idxmax()
    chosen = seqlets[seqlets["node"].isin(purest)]
    chosen.to_parquet(work / "seqlet.parquet")
    motifs = run(settings, work, "meme_motifs", work / "seqlet.parquet", suffix=".parquet")
    motif_rows = pd.read_parquet(motifs)
    motif_rows.to_parquet(work / "motif.parquet")
    matches = run(settings, work, "tomtom_matches", work / "motif.parquet", suffix=".parquet")
    table = recovery_table(planted, instances, chosen, motif_rows, pd.read_parquet(matches))
    assert table["is_right"].mean() >= 0.9, table[~table["is_right"]].to_string()
    assert (table.loc[table["is_right"], "q_value"] < 0.05).all()


def test_tastes_for_annotation_are_found(
    demo: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    planted, instances = read_planted(demo / DATA)
    hits = seqlets_on_instances(planted, instances, seqlets)
    layer = settings.layer[0]
    overlaps = annotation_overlaps(
        seqlets,
        {a.name: read_bed(a.path, a.class_column) for a in settings.data.annotation},
        read_windows(layer.train.windows),
        width_bp=layer.seqlet_width,
        **layer.geometry,
        **settings.overlaps.model_dump(),
    )
    best = overlaps.sort_values("z_shuffled").drop_duplicates("node", keep="last")
    best = best.set_index("node")
    right = []
    for row in planted.itertuples():
        node = hits[row.motif_id].idxmax()
        if hits.loc[node, row.motif_id] < 500:
            continue  # not recovered: nothing is known of its taste
        if row.annotation_class:
            right.append(
                best.loc[node, "annotation_class"] == row.annotation_class
                and best.loc[node, "odds_ratio_low"] > 3
            )
        else:
            right.append(best.loc[node, "odds_ratio_low"] < 1.5)
    assert len(right) >= 28
    assert np.mean(right) >= 0.9


def moves_its_factor_most(
    settings: Settings, sae: SparseAutoencoder, node_of: dict[str, int]
) -> tuple[float, float]:
    """Share of factors whose node, ablated, moves the factor's output more than any other output;
    and loss recovered with the SAE in the model, against mean ablation."""
    layer = settings.layer[0]
    assert settings.model is not None
    with one_thread(), Genome(settings.data.genome) as genome:
        model = load_settings_model(settings.model)
        geometry = settings_geometry(model, layer)
        windows = read_windows(layer.held_out.folder_and_windows[1])
        sequences = SequencesOfWindows(
            windows, genome, model.input_bp, pad_bp=layer.pad_bp, batch_size=8, at_most=24
        )
        loci = find_loci(model, geometry, sae, sequences, sorted(set(node_of.values())), 2)
        effects = node_effects(
            model, geometry, sae, sequences, loci, n_controls=1, batch_size=8
        )  # fmt: skip
        kept = fidelity(model, geometry, sae, sequences).over_all.set_index("splice")
    by_activation = effects[effects["loci"] == "activation"]
    moved = by_activation.pivot(index="node", columns="track", values="ablated").abs()
    most = moved.idxmax(axis=1)
    right = [most.get(node) == factor for factor, node in node_of.items()]
    return float(np.mean(right)), float(kept.loc["sae", "recovered_mean"])


def test_ablating_the_node_of_a_factor_moves_its_output_most(
    demo: Path, work: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    planted, instances = read_planted(demo / DATA)
    purest = seqlets_on_instances(planted, instances, seqlets).idxmax()
    node_of = dict(zip(planted["name"], purest[planted["motif_id"]].astype(int), strict=True))
    trained = load_sae(work / "trained_sae")
    share, recovered = moves_its_factor_most(settings, trained, node_of)
    assert share >= 0.9
    assert recovered >= settings.checks.min_recovered
    # the same gates without training, with the node that points most to each factor's output
    untrained = SparseAutoencoder(trained.n_channels, trained.n_nodes, trained.k)
    untrained.channel_max.copy_(trained.channel_max)
    torch.manual_seed(0)
    torch.nn.init.normal_(untrained.encoder_weight)
    directions = torch.nn.functional.normalize(untrained.encoder_weight.data)
    untrained.encoder_weight.data.copy_(directions)
    untrained.decoder_weight.data.copy_(directions)
    assert settings.model is not None
    read = load_settings_model(settings.model).module.outputs.weight[:, :, 0]
    closest = (directions @ (read * trained.channel_max).T).argmax(0).tolist()
    node_of = dict(zip(planted["name"], closest, strict=True))
    share, recovered = moves_its_factor_most(settings, untrained, node_of)
    assert share < 0.8
    assert recovered < settings.checks.min_recovered


def strongest_instances(
    planted: pd.DataFrame, instances: pd.DataFrame, genome: Genome
) -> pd.DataFrame:
    """SNPs that break the best instance of each motif at its most telling base pair."""
    matrices = {motif.target.identifier: motif.target.matrix for motif in planted_motifs()}
    rows = []
    for motif in planted.itertuples():
        matrix = matrices[motif.motif_id]
        of = instances[instances["motif_id"] == motif.motif_id]
        letters = genome.fetch_bytes(of["chrom"], of["start_bp"], len(matrix))
        codes = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), letters)
        score = np.log2(matrix + 0.01)[np.arange(len(matrix)), codes].sum(1)
        best = int(score.argmax())
        column = int(column_bits(matrix).argmax())
        start = int(of["start_bp"].iloc[best]) + column
        ref, alt = "ACGT"[codes[best, column]], "ACGT"[int(matrix[column].argmin())]
        chrom = of["chrom"].iloc[best]
        rows.append((chrom, start, start + 1, ref, alt, "SNP", 0, motif.name))
    columns = ["chrom", "start_bp", "end_bp", "ref", "alt", "kind", "line", "factor"]
    table = pd.DataFrame(rows, columns=columns)
    key = keys_of(table["chrom"], table["start_bp"] + 1, table["ref"], table["alt"])
    return table.assign(variant=key)


def test_snps_in_planted_motifs_act_through_the_motifs_node(
    demo: Path, work: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    planted, instances = read_planted(demo / DATA)
    purest = seqlets_on_instances(planted, instances, seqlets).idxmax()
    node_of = dict(zip(planted["name"], purest[planted["motif_id"]].astype(int), strict=True))
    assert settings.model is not None
    with one_thread(), Genome(settings.data.genome) as genome:
        model = load_settings_model(settings.model)
        assert model.outputs is not None
        table = strongest_instances(planted, instances, genome)
        tracks = np.array([model.outputs.tracks.index(name) for name in table["factor"]])
        nodes = VariantNodes(
            model, settings_geometry(model, settings.layer[0]), load_sae(work / "trained_sae"),
            genome, score_of(model, 256), longest_bp=1, max_points=16, batch_size=8,
        )  # fmt: skip

        def rows_of(variants: pd.DataFrame, tracks: np.ndarray) -> pd.DataFrame:
            start = window_starts(variants, model.input_bp)
            pairs = Pairs(variants, start, tracks, np.full(len(variants), np.nan))
            return pd.concat(nodes.exact(pairs), ignore_index=True)

        rows = rows_of(table, tracks)
        neutral = neutral_changes(genome, table, 2, 100, 1000, seed=0)
        of_variant = dict(zip(table["variant"], tracks, strict=True))
        control = rows_of(neutral, neutral["control_of"].map(of_variant).to_numpy())
    rows = against_controls(rows, control)
    top = rows[(rows["part"] == "node") & (rows["rank"] == 1)].set_index("variant")
    factor = table.set_index("variant")["factor"]
    right = top["node"] == factor[top.index].map(node_of)
    assert len(top) == len(planted)
    assert (right & (top["p_value"] <= 0.05)).mean() >= 0.9, top[~right].to_string()
    # neutral changes have nodes beyond the other ones as often as chance has it
    strongest = control[(control["part"] == "node") & (control["rank"] == 1)]
    assert strongest["attribution"].abs().max() < top["attribution"].abs().median()
    is_first = control["variant"].isin(control["variant"].unique()[::2])
    half = against_controls(control[is_first], control[~is_first])
    beyond = half.loc[half["p_value"] <= 0.05, "variant"].nunique()
    assert beyond <= 0.1 * half["variant"].nunique()


def test_restoring_a_node_gives_back_what_was_attributed(
    demo: Path, work: Path, settings: Settings, seqlets: pd.DataFrame
) -> None:
    """By a forward pass for each of 200 nodes and SNPs in planted motifs."""
    planted, instances = read_planted(demo / DATA)
    sae = load_sae(work / "trained_sae")
    assert settings.model is not None
    with one_thread(), Genome(settings.data.genome) as genome:
        model = load_settings_model(settings.model)
        assert model.outputs is not None
        table = strongest_instances(planted, instances, genome)
        tracks = np.array([model.outputs.tracks.index(name) for name in table["factor"]])
        letters = allele_letters(
            genome, table, window_starts(table, model.input_bp), model.input_bp
        )
        splice = Splice(model, settings_geometry(model, settings.layer[0]))
        score = score_of(model, 256)
        with torch.no_grad():
            (layer, _), (other, _) = (splice.layer(one_hot(x)) for x in letters[:2])
        change = changed(layer, other)
        ref = one_hot(letters.ref)
        done = integrate(
            splice, score, ref, layer, change, tracks, tolerance=0.02, max_points=16, batch_size=8
        )
        _, nodes = shares(sae, change, done.gradient)
        chosen = real_variants.strongest_entries(nodes, 8)[:200]
        restored = real_variants.restored(
            splice, score, sae, ref, layer, change, nodes, chosen, tracks
        )
    assert len(restored) == 200
    assert np.corrcoef(nodes.attribution[chosen], restored)[0, 1] >= 0.95
