"""Fidelity has its known values on networks where they follow on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.effects.fidelity import MODEL, Fidelity, fidelity, layer_mean
from saeborzoi.effects.inputs import Batch, SequencesOfWindows
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.models.layer import run_to
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.sae.model import SparseAutoencoder
from tests.effects.nets import (
    INPUT_BP,
    N_CHANNELS,
    TRACKS,
    linear_model,
    random_sequences,
    shrinking_sae,
)


def batches(n: int = 24, size: int = 7) -> list[Batch]:
    return [Batch(part) for part in random_sequences(n).split(size)]


def fidelity_of(
    model: SequenceModel, sae: SparseAutoencoder, given: list[Batch] | None = None
) -> Fidelity:
    return fidelity(model, layer_geometry(model, "conv"), sae, given or batches())


def of(frame: pd.DataFrame, splice: str) -> pd.DataFrame:
    return frame[frame["splice"] == splice].reset_index(drop=True)


def row(figures: Fidelity, splice: str) -> pd.Series:
    return of(figures.over_all, splice).iloc[0]


def all_predictions(model: SequenceModel) -> np.ndarray:
    return model.predict(random_sequences(24)).double().numpy()


def test_a_linear_network_in_closed_form() -> None:
    """Of a reconstruction that keeps half of what differs from the mean, half of y is left."""
    model = linear_model()
    figures = fidelity_of(model, shrinking_sae(0.5))
    y = all_predictions(model)[:, :2].transpose(1, 0, 2).reshape(2, -1)
    square, variance = (y**2).mean(1), y.var(1)
    sae = of(figures.per_track, "sae")
    assert sae["track"].tolist() == list(TRACKS)
    np.testing.assert_allclose(sae["r"][:2], 1, atol=1e-6)
    np.testing.assert_allclose(sae["loss"][:2], 0.25 * square, rtol=1e-4)
    np.testing.assert_allclose(sae["recovered_zero"][:2], 0.75, rtol=1e-4)
    expected = 1 - 0.25 * square / variance
    np.testing.assert_allclose(sae["recovered_mean"][:2], expected, rtol=1e-3)
    # the ablations themselves: a linear network gives 0, and its own mean
    np.testing.assert_allclose(of(figures.per_track, "zero")["loss"][:2], square, rtol=1e-5)
    np.testing.assert_allclose(of(figures.per_track, "mean")["loss"][:2], variance, rtol=1e-5)
    assert (of(figures.per_track, "zero")["recovered_zero"][:2] == 0).all()
    assert (of(figures.per_track, "mean")["recovered_mean"][:2] == 0).all()
    assert of(figures.per_track, "zero")["r"].isna().all()
    assert (figures.n_sequences, figures.loss, figures.loss_against, figures.log_scale) == (
        24, "squared error", "own outputs", "as it is",
    )  # fmt: skip


def test_a_track_that_nothing_moves_has_no_figure_and_is_counted() -> None:
    figures = fidelity_of(linear_model(), shrinking_sae(0.5))
    idle = figures.per_track[figures.per_track["track"] == "idle"]
    assert (
        idle[["r", "r_log", "r_published", "recovered_zero", "recovered_mean"]]
        .isna()
        .all(axis=None)
    )
    assert row(figures, "sae")["n_constant_tracks"] == 1
    assert row(figures, "zero")["n_constant_tracks"] == 3


def test_with_its_error_the_sae_is_the_model() -> None:
    """... whatever the SAE is, as its parts sum to the layer."""
    figures = fidelity_of(linear_model(), random_sae())
    with_error, without = row(figures, "sae_with_error"), row(figures, "sae")
    assert with_error["r"] == pytest.approx(1, abs=1e-9)
    assert with_error["recovered_mean"] == pytest.approx(1, abs=1e-9)
    assert without["r"] < 0.99
    assert row(figures, MODEL)["recovered_zero"] == 1
    assert row(figures, MODEL)["loss"] == 0


def random_sae(n_channels: int = N_CHANNELS) -> SparseAutoencoder:
    sae = SparseAutoencoder(n_channels, 4 * n_channels, 2)
    generator = torch.Generator().manual_seed(1)
    for parameter in (sae.encoder_weight, sae.decoder_weight):
        parameter.data.normal_(generator=generator)
        parameter.data /= parameter.data.norm(dim=1, keepdim=True)
    return sae


def test_an_untrained_sae_fails_where_a_right_one_passes() -> None:
    model = linear_model()
    right, untrained = (
        row(fidelity_of(model, sae), "sae") for sae in (shrinking_sae(1), random_sae())
    )
    for gate in ("r", "recovered_zero", "recovered_mean"):
        assert right[gate] > 0.999
        assert untrained[gate] < 0.9


@pytest.mark.parametrize("scale", ["logit", "probability", "squashed", "raw"])
def test_figures_are_those_of_all_predictions_at_once(scale: str) -> None:
    """Without hooks or sums: the layer by hand through what comes after it."""
    model = linear_model(scale)  # type: ignore[arg-type]
    sae = random_sae()
    sae.channel_max.copy_(torch.logspace(-1, 1, N_CHANNELS))
    x = random_sequences(24)
    layer = run_to(model.module, model.module.get_submodule("conv"), x).transpose(1, 2)

    def after(given: torch.Tensor) -> np.ndarray:
        net = model.module
        read, last = net.get_submodule("read"), net.get_submodule("last")
        return last(read(given.transpose(1, 2))).double().numpy()[:, :2]

    y, s = after(layer), after(sae(layer).detach())
    mean = after(layer.mean((0, 1)).expand_as(layer))
    log = {
        "logit": lambda v: v,
        "probability": lambda v: np.log(v / (1 - v)),
        "squashed": lambda v: np.log2(1 + v),
        "raw": lambda v: np.log2(1 + np.where(v >= 0, v, np.nan)),
    }[scale]

    def loss(v: np.ndarray) -> np.ndarray:
        p, t = (1 / (1 + np.exp(-u)) if scale == "logit" else u for u in (v, y))
        if scale in ("logit", "probability"):
            return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean((0, 2))
        return (
            (v - y * np.log(v)).mean((0, 2)) if scale == "squashed" else ((v - y) ** 2).mean((0, 2))
        )

    def r(a: np.ndarray, b: np.ndarray) -> list[float]:
        return [np.corrcoef(a[:, t].ravel(), b[:, t].ravel())[0, 1] for t in range(2)]

    figures = of(fidelity_of(model, sae).per_track, "sae")[:2]
    np.testing.assert_allclose(figures["r"], r(y, s), rtol=1e-4)
    np.testing.assert_allclose(figures["r_log"], r(log(y), log(s)), rtol=1e-4)
    expected = np.nanmean(
        [[np.corrcoef(y[i, t], s[i, t])[0, 1] for t in range(2)] for i in range(24)], axis=0
    )
    np.testing.assert_allclose(figures["r_published"], expected, rtol=1e-4)
    np.testing.assert_allclose(figures["loss"], loss(s), rtol=1e-4)
    recovered = (loss(mean) - loss(s)) / (loss(mean) - loss(y))
    np.testing.assert_allclose(figures["recovered_mean"], recovered, rtol=1e-3)


def test_the_size_of_batches_changes_nothing() -> None:
    model, sae = linear_model("logit"), random_sae()
    one, other = (fidelity_of(model, sae, batches(size=size)) for size in (24, 5))
    for a, b in ((one.per_track, other.per_track), (one.over_all, other.over_all)):
        pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-6)


def test_targets_are_what_the_loss_is_against_where_they_are_given() -> None:
    model, sae = linear_model(), random_sae()
    y = model.predict(random_sequences(24))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    target = y + noise
    given = [
        Batch(x, t) for x, t in zip(random_sequences(24).split(7), target.split(7), strict=True)
    ]
    figures = fidelity_of(model, sae, given)
    assert figures.loss_against == "targets"
    own = of(figures.per_track, MODEL)
    np.testing.assert_allclose(own["loss"], noise.square().mean((0, 2)), rtol=1e-5)
    expected = [
        np.corrcoef(y[:, t].double().ravel(), target[:, t].double().ravel())[0, 1] for t in range(2)
    ]
    np.testing.assert_allclose(own["r_target"][:2], expected, rtol=1e-6)
    spliced = of(figures.per_track, "sae")
    assert (spliced["r_target"][:2] < own["r_target"][:2]).all()
    assert "r_target" not in fidelity_of(model, sae).per_track
    with pytest.raises(InputError, match="some batches have targets and some do not"):
        fidelity_of(model, sae, [given[0], Batch(given[1].one_hot)])
    with pytest.raises(InputError, match=r"targets of shape \(7, 2, 64\), .* \(7, 3, 64\)"):
        fidelity_of(model, sae, [Batch(given[0].one_hot, target[:7, :2])])
    with pytest.raises(InputError, match="from 0 to 1 for outputs on the scale 'logit'"):
        fidelity_of(linear_model("logit"), sae, given)


def test_the_published_slip_costs_what_the_channel_maxima_make_up_for() -> None:
    """Channels on other scales, read on them: with the maxima the figures stay, without not."""
    sae, scale = shrinking_sae(1), torch.logspace(-1.5, 1.5, N_CHANNELS)
    sae.k = 3  # of six channels
    plain = fidelity_of(linear_model(), sae)
    model = linear_model()
    for name, by in (("conv.weight", scale[:, None, None]), ("conv.bias", scale)):
        model.module.get_parameter(name).data.mul_(by)
    model.module.get_parameter("read.weight").data.div_(scale[:, None])
    sae.channel_max.copy_(scale)
    scaled = fidelity_of(model, sae)
    for figure in ("r", "r_published", "recovered_zero", "recovered_mean"):
        expected = row(plain, "sae")[figure]
        # maxima of 1: the slip is none
        assert row(plain, "sae_without_channel_max")[figure] == pytest.approx(expected, abs=1e-6)
        assert row(scaled, "sae")[figure] == pytest.approx(expected, abs=1e-3)
        assert row(scaled, "sae_without_channel_max")[figure] < expected - 0.1


def test_the_mean_is_over_every_position() -> None:
    model = linear_model()
    geometry = layer_geometry(model, "conv")
    mean = layer_mean(model, geometry, batches(size=7))
    whole = run_to(model.module, model.module.get_submodule("conv"), random_sequences(24))
    torch.testing.assert_close(mean, whole.double().mean((0, 2)), rtol=1e-6, atol=1e-7)


def test_what_cannot_be_measured_is_refused() -> None:
    model = linear_model()
    geometry = layer_geometry(model, "conv")
    with pytest.raises(InputError, match="an SAE on 5 channels, but layer conv has 6"):
        fidelity(model, geometry, random_sae(5), batches())
    with pytest.raises(InputError, match="once only"):
        fidelity(model, geometry, random_sae(), iter(batches()))
    with pytest.raises(InputError, match="no sequences"):
        fidelity(model, geometry, random_sae(), [])
    fidelity(model, geometry, random_sae(), batches(2), model.fingerprint)
    with pytest.raises(InputError, match="the SAE belongs to a model with the fingerprint 0123"):
        fidelity(model, geometry, random_sae(), batches(2), "0123")
    broken = random_sae()
    broken.decoder_weight.data[:] = torch.nan
    with pytest.raises(InputError, match="holds NaN or infinity; fix the SAE"):
        fidelity(model, geometry, broken, batches())


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    letters = np.random.default_rng(0).choice(list("ACGT"), 1000)
    letters[500:510] = "N"
    (tmp_path / "genome.fa").write_text(f">chr1\n{''.join(letters)}\n")
    return Genome(tmp_path / "genome.fa")


def letters_of(batch: Batch) -> list[str]:
    return [
        "".join("ACGT"[int(column.argmax())] if column.any() else "N" for column in row.T)
        for row in batch.one_hot
    ]


def test_sequences_are_the_windows_letters(tmp_path: Path, genome: Genome) -> None:
    text = (tmp_path / "genome.fa").read_text().split("\n")[1]
    bed = tmp_path / "windows.bed"
    bed.write_text("chr1\t100\t228\tw\t0\t+\nchr1\t300\t428\tw\t0\t-\nchr1\t440\t568\tw\t0\t+\n")
    in_batches = SequencesOfWindows(read_windows(bed), genome, INPUT_BP, step_bp=32, batch_size=4)
    sequences = [s for batch in in_batches for s in letters_of(batch)]
    forward = [text[100 + i : 164 + i] for i in (0, 32, 64)]
    other = text[300:428][::-1].translate(str.maketrans("ACGT", "TGCA"))
    reverse = [other[i : i + 64] for i in (0, 32, 64)]
    assert sequences == [*forward, *reverse]  # every one of the third window holds N
    assert (len(in_batches), in_batches.n_left_out) == (6, 3)
    assert [len(b.one_hot) for b in in_batches] == [4, 2]
    few = SequencesOfWindows(read_windows(bed), genome, INPUT_BP, step_bp=32, at_most=2)
    assert [s for b in few for s in letters_of(b)] == [forward[0], reverse[2]]
    allowed = SequencesOfWindows(read_windows(bed), genome, INPUT_BP, step_bp=32, n_fraction=0.2)
    assert (len(allowed), allowed.n_left_out) == (9, 0)


def test_a_window_that_is_shorter_than_the_input_is_extended(
    tmp_path: Path, genome: Genome
) -> None:
    text = (tmp_path / "genome.fa").read_text().split("\n")[1]
    bed = tmp_path / "windows.bed"
    bed.write_text("chr1\t100\t140\n")
    for pad in (0, 12):
        in_batches = SequencesOfWindows(read_windows(bed), genome, INPUT_BP, pad_bp=pad)
        assert [letters_of(b) for b in in_batches] == [[text[88:152]]]
    bed.write_text("chr1\t0\t40\n")
    with pytest.raises(InputError, match="none of 1 sequences of 64 bp is left"):
        SequencesOfWindows(read_windows(bed), genome, INPUT_BP)
    in_batches = SequencesOfWindows(read_windows(bed), genome, INPUT_BP, n_fraction=0.2)
    assert [letters_of(b) for b in in_batches] == [["N" * 12 + text[:52]]]
