"""What experiment trackers are told of an SAE is what the catalogue says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import saeborzoi
from saeborzoi.report.trackers import SaeRun, push, sae_run
from saeborzoi_assets.cli import main
from tests.assets.small_project import KEY


@pytest.fixture(scope="module")
def run(made_project: Path) -> SaeRun:
    return sae_run(saeborzoi.open(made_project).sae(KEY))


def test_a_run_holds_what_the_catalogue_says(run: SaeRun, made_project: Path) -> None:
    sae = saeborzoi.open(made_project).sae(KEY)
    assert run.parameters == sae.hyperparameters.model_dump()
    assert run.metrics["fvu"] == sae.summary["fvu"]
    assert run.metrics["n_nodes"] == sae.n_nodes
    assert not set(run.metrics) & set(run.parameters)
    log = sae.table("training_log")
    assert list(run.steps) == sorted(set(log["step"]))
    last = log[log["split"] == "train"].sort_values("step").iloc[-1]
    assert run.steps[last["step"]]["train/fvu"] == last["fvu"]
    assert all(value == value for metrics in run.steps.values() for value in metrics.values())
    assert set(run.figures) == {"training", "activation_frequency", "motifs"}


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_what_lacks_the_package_says_so(
    tracker: str,
    made_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    assert main(["--project", str(made_project), "push", tracker, KEY]) == 2
    assert f"install saeborzoi with its extra `{tracker}`" in capsys.readouterr().err


def test_mlflow_has_it(run: SaeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    assert "run " in push(run, "mlflow", "small")
    (logged,) = mlflow.search_runs(experiment_names=["small"], output_format="list")
    assert logged.data.params["expansion"] == str(run.parameters["expansion"])
    assert logged.data.metrics["fvu"] == run.metrics["fvu"]


def test_wandb_has_it(run: SaeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert str(tmp_path) in push(run, "wandb", "small")
    assert len(list(tmp_path.rglob("*.png"))) == 3
