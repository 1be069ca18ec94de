"""Variants' effects and the nodes behind them, on networks where they follow on paper."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.effects.track_scores import TrackScore, score_of
from saeborzoi.effects.variant_layer import NearLayer, cut_positions, joined
from saeborzoi.effects.variant_motifs import motif_bits
from saeborzoi.effects.variant_nodes import Pairs, VariantNodes, against_controls, with_q_values
from saeborzoi.effects.variant_scores import variant_scores, window_starts
from saeborzoi.errors import InputError
from saeborzoi.genome.alleles import allele_letters
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variants import keys_of
from saeborzoi.models.layer import one_hot
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import Outputs, SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from tests.effects.nets import INPUT_BP, N_CHANNELS, TRACKS, linear_model, shrinking_sae

LETTERS = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">chr1\n{LETTERS}\n")
    return Genome(path)


def variants(*changes: tuple[int, int, str]) -> pd.DataFrame:
    """Of (start, base pairs of the reference allele, alternative allele)."""
    table = pd.DataFrame(
        [(at, LETTERS[at : at + n], alt) for at, n, alt in changes],
        columns=["start_bp", "ref", "alt"],
    ).assign(chrom="chr1")
    table["end_bp"] = table["start_bp"] + table["ref"].str.len()
    table["variant"] = keys_of(table["chrom"], table["start_bp"] + 1, table["ref"], table["alt"])
    return table


def other(at: int) -> str:
    return {"A": "G", "G": "A", "C": "T", "T": "C"}[LETTERS[at]]


def snps(*places: int) -> pd.DataFrame:
    return variants(*((at, 1, other(at)) for at in places))


INDELS = ((200, 4, LETTERS[200]), (210, 1, LETTERS[210] + "GATTA"), (190, 2, "TTTCA"))


def effects(model: SequenceModel, genome: Genome, table: pd.DataFrame) -> pd.DataFrame:
    parts = variant_scores(model, genome, table, n_tracks=3, span_bp=INPUT_BP, batch_size=4)
    return pd.concat([part.tracks for part in parts], ignore_index=True)


def attribution(
    model: SequenceModel, genome: Genome, sae: SparseAutoencoder, **options: int
) -> VariantNodes:
    score = score_of(model, INPUT_BP) if model.outputs is not None else None
    return VariantNodes(
        model, layer_geometry(model, "conv"), sae, genome, score,
        longest_bp=8, batch_size=4, **options,
    )  # fmt: skip


def pairs_of(table: pd.DataFrame, track: int, effect: pd.DataFrame | None = None) -> Pairs:
    start = window_starts(table, INPUT_BP)
    values = np.full(len(table), np.nan)
    if effect is not None:
        of_track = effect[effect["track"] == TRACKS[track]].set_index("variant")["effect"]
        values = of_track[table["variant"]].to_numpy()
    return Pairs(table, start, np.full(len(table), track), values)


def total(rows: pd.DataFrame) -> np.ndarray:
    return rows[rows["part"] != "node"].groupby("variant", sort=False)["attribution"].sum()


def letters_of(text: str) -> np.ndarray:
    return np.array(list(text.encode()), np.uint8)


def by_hand(model: SequenceModel, table: pd.DataFrame, track: int) -> np.ndarray:
    """Means of the predictions of both alleles, letter by letter."""
    differences = []
    for row in table.itertuples():
        start = (row.start_bp + row.end_bp) // 2 - INPUT_BP // 2
        whole = LETTERS[: row.start_bp] + row.alt + LETTERS[row.end_bp :]
        y = [
            model.predict(one_hot(letters_of(text[start : start + INPUT_BP]))[None])
            for text in (LETTERS, whole)
        ]
        differences.append(float((y[1] - y[0])[0, track].mean()))
    return np.array(differences)


def test_effects_are_those_of_both_sequences(genome: Genome) -> None:
    model, table = linear_model(), pd.concat([snps(60, 150, 300), variants(*INDELS)])
    rows = effects(model, genome, table)
    for track in (0, 1):
        by_variant = rows[rows["track"] == TRACKS[track]].set_index("variant")["effect"]
        np.testing.assert_allclose(
            by_variant[table["variant"]], by_hand(model, table, track), atol=1e-6
        )
    size = rows.assign(size=rows["effect"].abs()).groupby("variant")["size"]
    assert size.apply(lambda sizes: sizes.is_monotonic_decreasing).all()
    assert (rows.loc[rows["track"] == "idle", "rank"] == 3).all()


def test_parts_sum_to_the_effect_for_every_kind_of_variant(genome: Genome) -> None:
    model, sae = linear_model(), shrinking_sae(0.5)
    table = pd.concat([snps(60, 150, 300), variants(*INDELS)])
    expected = effects(model, genome, table)
    nodes = attribution(model, genome, sae, n_nodes=100)
    rows = pd.concat(nodes.exact(pairs_of(table, 0, expected)))
    effect = by_hand(model, table, 0)
    np.testing.assert_allclose(total(rows)[table["variant"]], effect, atol=1e-6)
    first = rows.drop_duplicates("variant").set_index("variant")
    np.testing.assert_allclose(first.loc[table["variant"], "effect"], effect, atol=1e-6)
    parts = rows[rows["part"] != "node"].pivot(
        index="variant", columns="part", values="attribution"
    ).loc[table["variant"]]  # fmt: skip
    # a linear network: no gap; nothing goes past its layer; SNPs are aligned
    np.testing.assert_allclose(parts[["gap", "bypass"]], 0, atol=1e-6)
    np.testing.assert_allclose(parts["alignment"].iloc[:3], 0, atol=1e-7)
    # its SAE keeps half of what differs from the mean, and the mean moves no track
    np.testing.assert_allclose(parts["all nodes"], parts["error"], atol=1e-6)
    np.testing.assert_allclose(parts["background"], 0, atol=1e-6)
    np.testing.assert_allclose(
        rows[rows["part"] == "node"].groupby("variant", sort=False)["attribution"].sum(),
        parts["all nodes"], atol=1e-6,
    )  # fmt: skip


def test_one_gradient_is_enough_for_a_linear_network(genome: Genome) -> None:
    model, sae = linear_model(), shrinking_sae(0.5)
    table = pd.concat([snps(60, 61, 150, 300, 301), variants(*INDELS)])
    expected = effects(model, genome, table)
    nodes = attribution(model, genome, sae)
    exact = pd.concat(nodes.exact(pairs_of(table, 1, expected)))
    cheap = pd.concat(nodes.cheap(pairs_of(table, 1, expected)))
    assert set(cheap["method"]) == {"gradient at ref"}
    columns = ["variant", "node", "attribution", "position_bp", "activation_ref", "state"]
    a, b = (
        rows.loc[rows["part"] == "node", columns].sort_values(["variant", "node"])
        for rows in (exact, cheap)
    )
    pd.testing.assert_frame_equal(
        a.reset_index(drop=True), b.reset_index(drop=True), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(total(cheap)[table["variant"]], by_hand(model, table, 1), atol=1e-6)


def test_windows_are_shared_within_a_step(genome: Genome) -> None:
    table = snps(150, 151, 165)
    assert window_starts(table, INPUT_BP, 16).tolist() == [120, 120, 136]
    model, sae = linear_model(), shrinking_sae(0.5)
    expected = effects(model, genome, table)
    pairs = pairs_of(table, 0, expected)._replace(
        start_bp=window_starts(table, INPUT_BP, 16), track=np.array([0, 1, 0])
    )
    rows = pd.concat(attribution(model, genome, sae).cheap(pairs))
    assert rows.groupby("variant", sort=False)["track"].first().tolist() == ["a", "b", "a"]


def test_near_the_variant_the_layer_is_that_of_the_whole_window(genome: Genome) -> None:
    model = linear_model()
    geometry = layer_geometry(model, "conv")
    table = pd.concat([snps(150, 200), variants(*INDELS)])
    start = window_starts(table, INPUT_BP)
    near = NearLayer(model, geometry, genome, 8, 4)(table, start)
    letters = allele_letters(genome, table, start, INPUT_BP)
    splice = Splice(model, geometry)
    ref, left, right = (splice.layer(one_hot(given))[0] for given in letters)
    alt = joined(left, right, torch.tensor(cut_positions(table, start, geometry)))
    for activations, given in ((near.change.ref, ref), (near.change.alt, alt)):
        index = near.change.positions[:, :, None].expand(-1, -1, given.shape[2])
        torch.testing.assert_close(activations, given.gather(1, index))
    # nothing that sees the change is left out
    differs = (ref != alt).any(2)
    assert differs.any(1).all()
    assert not differs.scatter(1, near.change.positions, torch.zeros_like(differs)).any()


def test_a_stem_says_what_its_nodes_do_and_nothing_of_outputs(genome: Genome) -> None:
    whole = linear_model()
    stem = SequenceModel(
        whole.module, whole.input_bp, None, whole.layers, whole.fingerprint, whole.device
    )
    table = snps(150, 200)
    rows = pd.concat(attribution(stem, genome, shrinking_sae(1)).activations(pairs_of(table, 0)))
    assert set(rows["method"]) == {"activation only"}
    assert set(rows["part"]) == {"node"}
    assert rows[["effect", "share"]].isna().all(axis=None)
    assert (rows["track"] == "").all()
    assert (rows["attribution"] > 0).all()
    with pytest.raises(InputError, match="has no outputs, so that a variant moves none"):
        next(variant_scores(stem, genome, table))


def test_a_chromosomes_end_is_told(genome: Genome) -> None:
    table = snps(1, 150, 399)
    model = linear_model()
    summary = next(variant_scores(model, genome, table, batch_size=2)).variants
    assert summary["n_unknown"].tolist() == [31, 0, 31]
    near = NearLayer(model, layer_geometry(model, "conv"), genome, 1, 2)
    is_unknown = near(table, window_starts(table, INPUT_BP)).sees_unknown
    assert is_unknown.any(1).tolist() == [True, False, True]


def test_a_variant_must_fit_the_input(genome: Genome) -> None:
    with pytest.raises(InputError, match=r"variant chr1:101:.*: 40 bp and steps of 1 bp are more"):
        next(variant_scores(linear_model(), genome, variants((100, 40, LETTERS[100]))))


def test_scores_are_fold_changes_on_the_scale_of_the_outputs() -> None:
    y = torch.tensor([[[1.0, 3.0, 5.0, 7.0]]])
    for scale, expected in (("raw", 4.0), ("squashed", np.log2(5)), ("log", 4.0)):
        score = TrackScore(Outputs(("t",), 4, 8, scale=scale), 32, 16)  # type: ignore[arg-type]
        assert score(y).item() == pytest.approx(expected)
        assert (score.bins.start, score.bins.stop) == (1, 3)
    score = TrackScore(Outputs(("t",), 4, 8, scale="probability"), 32, 1)
    assert score(y / 10).item() == pytest.approx(0.0)  # the bin that holds the middle
    with pytest.raises(InputError, match="lies in none of the model's 4 bins"):
        TrackScore(Outputs(("t",), 4, 8, crop_bp=100), 32, 16)


def test_claims_are_held_against_the_strongest_node_of_neutral_changes() -> None:
    def rows(*values: float) -> pd.DataFrame:
        return pd.DataFrame(
            [("node", f"v{i // 2}", "ab"[i % 2], 1, value) for i, value in enumerate(values)],
            columns=["part", "variant", "track", "rank", "attribution"],
        )

    claims = with_q_values(against_controls(rows(-5.0, 0.5, 0.0), rows(*np.linspace(-1, 1, 20))))
    assert claims["p_value"].tolist() == pytest.approx([1 / 21, 11 / 21, 1])
    assert claims["q_value"].tolist() == pytest.approx([3 / 21, 33 / 42, 1])
    # where there is no control, nothing is claimed
    assert (
        with_q_values(against_controls(rows(-5.0), rows()))
        .filter(like="_value")
        .isna()
        .all(axis=None)
    )


def test_a_motif_is_scored_on_both_alleles(genome: Genome) -> None:
    at = 200
    word = LETTERS[at - 2 : at + 3]
    matrix = np.array([[1.0 if letter == base else 0.0 for base in "ACGT"] for letter in word])
    table = pd.concat([snps(at), variants((at, 1, LETTERS[at] + "GG"))])
    nodes = np.array([7, 7])
    bits = motif_bits(table, nodes, {7: matrix}, genome, both_strands=True)
    assert bits["motif_ref_bits"].tolist() == pytest.approx([10, 10], abs=0.1)
    assert (bits["motif_alt_bits"] < 5).all()
    turned = matrix[::-1, ::-1]
    back = motif_bits(table, nodes, {7: turned}, genome, both_strands=True)
    pd.testing.assert_frame_equal(back, bits)
    forward = motif_bits(table, nodes, {7: turned}, genome, both_strands=False)
    assert (forward["motif_ref_bits"] < 5).all()
    assert motif_bits(table, nodes, {}, genome, both_strands=True).isna().all(axis=None)


def test_an_sae_of_another_layer_is_refused(genome: Genome) -> None:
    with pytest.raises(InputError, match=f"7 channels, but layer conv has {N_CHANNELS}"):
        attribution(linear_model(), genome, SparseAutoencoder(7, 14, 2))
