"""What was measured on the windows, from its file into `fidelity`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.catalog.schema import TABLE
from saeborzoi.demo.network import one_thread
from saeborzoi.errors import InputError, SettingsError
from saeborzoi.jobs.job import Job
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.models.layer import one_hot
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.sources import ask
from saeborzoi.sources.__main__ import describe
from saeborzoi.stages import fidelity
from saeborzoi_resources.upkeep.project_check import check_project
from tests.effects.nets import INPUT_BP, TRACKS, linear_model, shrinking_sae
from tests.stages.test_variant_stages import MODEL_AND_LAYER, H, job_of

STARTS = tuple(range(100, 500, 80))
SETTINGS = f"""{MODEL_AND_LAYER}
train = {{ windows = "w.bed", targets = "targets.h5" }}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Targets are what the model itself predicts, its tracks in another order and named."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 600)
    (tmp_path / "g.fa").write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
    (tmp_path / "w.bed").write_text("".join(f"chr1\t{s}\t{s + INPUT_BP}\n" for s in STARTS))
    model = linear_model()
    x = torch.stack([one_hot(letters[s : s + INPUT_BP]) for s in STARTS])
    with one_thread(), torch.no_grad():
        y = model.predict(x).numpy()
    write(tmp_path, y[:, ::-1].transpose(0, 2, 1), TRACKS[::-1])
    (tmp_path / "dagster_project.toml").write_text(SETTINGS)
    return load_settings(tmp_path)


def write(folder: Path, targets: np.ndarray, tracks: tuple[str, ...] | None = None) -> None:
    with h5py.File(folder / "targets.h5", "w") as file:
        file["targets"] = targets
        if tracks is not None:
            file["tracks"] = list(tracks)


def job(settings: Settings) -> Job:
    store = settings.project.store
    with write_artifact(store / "trained_sae", "v", {}) as folder:
        save_checkpoint(shrinking_sae(0.5), folder)
    inputs = {"trained_sae": store / "trained_sae"}
    return job_of(settings, "fidelity", hyperparameters=H, inputs=inputs)


def tables_of(settings: Settings) -> list[pd.DataFrame]:
    with one_thread():
        fidelity.run(job(settings))
    folder = settings.project.store / "fidelity"
    frames = [pd.read_parquet(folder / f"{n}.parquet") for n in ("fidelity", "fidelity_track")]
    for name, frame in zip(("fidelity", "fidelity_track"), frames, strict=True):
        assert set(frame) == {column.name for column in TABLE[name].columns} - {"hyperparameters"}
    return frames


def test_outputs_are_held_against_the_targets(settings: Settings) -> None:
    over_all, per_track = (t.set_index("splice") for t in tables_of(settings))
    assert set(over_all["loss_against"]) == {"targets"}
    # the targets are the model's own outputs: it fits them, and the SAE as far as it keeps them
    assert over_all.loc["model", "r_target"] == pytest.approx(1)
    assert over_all.loc["model", "loss"] == pytest.approx(0, abs=1e-12)
    columns = per_track[["r", "r_log", "r_published"]]
    np.testing.assert_allclose(
        per_track[["r_target", "r_log_target", "r_published_target"]], columns, rtol=1e-6
    )
    assert over_all.loc["mean", "r_target"] != over_all.loc["sae", "r_target"]


def test_without_targets_their_columns_are_empty(settings: Settings) -> None:
    folder = settings.project.store.parent
    (folder / "dagster_project.toml").write_text(SETTINGS.replace(', targets = "targets.h5"', ""))
    for frame in tables_of(load_settings(folder)):
        assert frame[["r_target", "r_log_target", "r_published_target"]].isna().all(axis=None)
        assert "loss_against" not in frame or set(frame["loss_against"]) == {"own outputs"}


ONES = np.ones((len(STARTS), INPUT_BP, 3), np.float32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "targets.h5").unlink(), "not there"),
        (lambda f: (f / "targets.h5").write_text("x"), "not an HDF5 file"),
        (lambda f: write(f, ONES[:3]), r"shape \(3, 64, 3\), needed is \(5 windows"),
        (lambda f: write(f, ONES[:, :32]), r"64 bins of 1 bp"),
        (lambda f: write(f, ONES[..., :2]), r"of 2 tracks, but the model has 3; .*'tracks'"),
        (lambda f: write(f, ONES, ("a", "b", "b")), "holds 2 different names, but .* 3 tracks"),
        (lambda f: write(f, ONES, ("a", "b", "c")), "1 of the 3 tracks, as of 'idle'"),
        (lambda f: write(f, ONES.astype("S1")), "holds .*S1, needed are numbers"),
        (lambda f: write(f, np.nan * ONES), "targets must be finite"),
        (lambda f: h5py.File(f / "targets.h5", "w").close(), "no dataset 'targets' in it"),
    ],
)
def test_targets_that_do_not_fit_are_refused(
    settings: Settings, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(settings.project.store.parent)
    with pytest.raises(InputError, match=message):
        fidelity.run(job(settings))


def test_a_window_that_gives_several_sequences_is_refused(settings: Settings) -> None:
    folder = settings.project.store.parent
    (folder / "w.bed").write_text("".join(f"chr1\t{s}\t{s + 2 * INPUT_BP}\n" for s in STARTS))
    with pytest.raises(InputError, match=r"5 windows give 10 sequences of 64 bp, but .* one row a"):
        fidelity.run(job(settings))


def test_check_looks_at_them(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ask, "ask_model", lambda model, layers, **_: describe({"model": model, "layers": layers})
    )

    def finding() -> tuple[bool, str]:
        check = next(f for f in check_project(settings) if f.what == "layer conv, targets")
        return check.ok, check.detail

    assert finding() == (True, "5 windows, 64 bins, 3 tracks")
    write(settings.project.store.parent, ONES[:3])
    ok, detail = finding()
    assert not ok
    assert "needed is (5 windows" in detail


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('windows = "w.bed"', 'windows = "genome"'), "targets has a row a window of a BED"),
        (("\ntrain =", '\nvalidation = { windows = "w.bed" }\ntrain ='), "are of train, but"),
    ],
)
def test_targets_where_none_can_be_used_are_refused(
    settings: Settings, change: tuple[str, str], message: str
) -> None:
    folder = settings.project.store.parent
    (folder / "dagster_project.toml").write_text(SETTINGS.replace(*change))
    with pytest.raises(SettingsError, match=message):
        load_settings(folder)
