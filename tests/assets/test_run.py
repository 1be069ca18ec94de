"""`saeborzoi run` makes what is missing or stale and nothing else, and can be stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.catalog.scope import Scope
from saeborzoi.errors import PartitionKeyError, SettingsError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands import runner
from saeborzoi_assets.commands.cli import main
from saeborzoi_assets.commands.instance import ensure_home
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.lacking import Range
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, N_NODES, make_small_project

OTHER = "conv_x2_k0.25_lr0.003_s0"
EVERY_STEP = [
    "normalization", "training", "inference", "nodes", "concepts", "fan-in", "pages", "comparison",
]  # fmt: skip


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No instance and no project of an earlier test."""
    for name in ("DAGSTER_HOME", "SAEBORZOI_PROJECT"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)


def made(settings_file: Path, parts: Range = Range(), again: bool = False) -> list[tuple[str, str]]:  # noqa: B008
    """Owner and step of what a run made; it has no failure."""
    settings = load_settings(settings_file)
    outcome = runner.run(
        settings_file, settings, settings.wanted(), parts, display=Display(quiet=True), again=again
    )
    assert outcome.failures == []
    assert not outcome.is_stopped
    return [(owner, step) for owner, step, _ in outcome.made]


def lacking(settings_file: Path, parts: Range = Range(), again: bool = False) -> dict[str, int]:  # noqa: B008
    """Step to the number of partitions that a plan would make."""
    wanted = load_settings(settings_file).wanted()
    plan = runner.plan(settings_file, wanted, parts, again=again)
    return {work.step.name: work.n_lacking for work in plan.work if work.n_lacking}


def change(settings_file: Path, old: str, new: str) -> None:
    text = settings_file.read_text()
    assert old in text
    settings_file.write_text(text.replace(old, new))


@pytest.mark.usefixtures("home")
def test_a_run_makes_what_is_missing_or_stale_and_nothing_else(
    made_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made_project, tmp_path / "project")
    settings_file = tmp_path / "project" / "dagster_project.toml"
    change(settings_file, "seed = [0, 1]\n", "")
    Platform(settings_file=str(settings_file)).catalog.remove(Scope(sae_key=KEY, nodes=(4, 7)))
    assert lacking(settings_file) == {"nodes": 1, "fan-in": 1, "pages": 1, "comparison": 1}

    assert made(settings_file, Range.of(["nodes"], nodes=[4])) == [(KEY, "nodes")]
    assert lacking(settings_file, Range.of(["nodes"])) == {"nodes": 1}
    # what is made from the nodes stands once they are as they were
    assert [step for _, step in made(settings_file)] == ["nodes", "pages", "comparison"]
    assert made(settings_file) == []
    assert main(["--project", str(settings_file), "run", "--dry-run"]) == 0
    assert "nothing is to be made" in capsys.readouterr().out

    # a setting of one asset: what it makes, and what is made from that
    settings_file.write_text(settings_file.read_text() + "\n[overlaps]\nn_shuffles = 3\n")
    assert lacking(settings_file) == {"fan-in": 1, "pages": 1, "comparison": 1}
    assert made(settings_file, Range.of(to="fan-in")) == [(KEY, "fan-in")]
    with dg.DagsterInstance.from_config(str(ensure_home(settings_file.parent))) as instance:
        (newest,) = instance.get_runs(limit=1)
    # clusters of the map are called by classes of annotation, too
    assert newest.asset_selection == {
        dg.AssetKey("annotation_overlaps"),
        dg.AssetKey("umap_embedding"),
    }

    # an artifact that is gone is made again
    gone = settings_file.parent / "store" / "saes" / KEY / "jaccard_matrix"
    gone.rename(gone.with_name("elsewhere"))
    assert lacking(settings_file)["fan-in"] == 1
    assert made(settings_file, Range.of(to="fan-in")) == [(KEY, "fan-in")]
    assert gone.is_dir()

    assert lacking(settings_file, again=True) == {**dict.fromkeys(EVERY_STEP, 1), "nodes": N_NODES}
    assert made(settings_file, Range.of(["jaccard_matrix"]), again=True) == [(KEY, "fan-in")]


def test_nodes_that_lack_are_made_in_stretches(made_project: Path, tmp_path: Path) -> None:
    shutil.copytree(made_project, tmp_path / "project")
    settings_file = tmp_path / "project" / "dagster_project.toml"
    Platform(settings_file=str(settings_file)).catalog.remove(Scope(sae_key=KEY, nodes=(4, 5, 7)))
    wanted = load_settings(settings_file).wanted()[:1]
    work = runner.plan(settings_file, wanted, Range()).work
    assert [each.n_lacking for each in work if each.step.name == "nodes"] == [2, 1]


@pytest.mark.usefixtures("home")
def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path / "project")
    assert lacking(settings_file) == {**dict.fromkeys(EVERY_STEP, 1), "nodes": N_NODES}
    assert not (tmp_path / "project" / "store").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_a_new_project_is_made_step_by_step(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path / "project")
    assert [step for _, step in made(settings_file, Range.of(to="inference"))] == EVERY_STEP[:3]
    assert made(settings_file, Range.of(["nodes"], nodes=[4, 7])) == [(KEY, "nodes")] * 2
    later = list(dict.fromkeys(step for _, step in made(settings_file)))
    # concepts and the fan-in are made side by side
    assert sorted(later[1:3]) == EVERY_STEP[4:6]
    assert later[:1] + EVERY_STEP[4:6] + later[3:] == EVERY_STEP[3:]
    assert made(settings_file) == []


@pytest.mark.usefixtures("home")
def test_a_failure_costs_its_sae_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other SAE is trained; the reason and how to go on stand at the end."""
    settings_file = make_small_project(tmp_path / "project")
    checkpoint = tmp_path / "project" / "best_model.pt"
    checkpoint.write_bytes(b"no checkpoint")
    change(settings_file, "expansion = 3", 'expansion = 3\ncheckpoint = "best_model.pt"')
    change(
        settings_file,
        "[training]",
        '[[sae]]\nlayer = "conv"\nexpansion = 2\ntopk = 0.25\n[training]',
    )
    assert main(["--project", str(settings_file), "run", "--to", "training", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [(f["owner"], f["step"]) for f in document["failures"]] == [(KEY, "training")]
    assert "best_model.pt" in document["failures"][0]["reason"]
    assert {"owner": OTHER, "step": "training"}.items() <= document["made"][-1].items()
    assert lacking(settings_file, Range.of(to="training")) == {"training": 1}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_leaves_nothing_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    """No traceback, the run is canceled, the worker is gone, and the command goes on later."""
    settings_file = make_small_project(tmp_path / "project")
    change(settings_file, "n_epochs = 6", "n_epochs = 6000")
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from saeborzoi_assets.cli import main; "
         "sys.exit(main())", "--project", str(settings_file), "run", "--to", "training"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("training: ") and "of" in line:
            break
    process.send_signal(number)
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait(timeout=120) == 130, "".join(lines)
    text = "".join(lines)
    assert "Traceback" not in text
    assert "go on with the same command" in text
    with dg.DagsterInstance.from_config(str(ensure_home(settings_file.parent))) as instance:
        runs = instance.get_runs()
    assert {run.status for run in runs} == {
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.CANCELED,
    }
    deadline = time.monotonic() + 30
    while workers_of(settings_file) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert workers_of(settings_file) == []


def workers_of(settings_file: Path) -> list[str]:
    """Command lines of workers of a project that still live."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [
        line
        for line in lines.splitlines()
        if "saeborzoi.worker" in line and str(settings_file.parent) in line
    ]


def test_unknown_stages_and_nodes_are_refused(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path / "project")
    with pytest.raises(SettingsError, match="stages are normalization, training"):
        Range.of(["trainign"])
    with pytest.raises(SettingsError, match="there is no stage ''"):
        Range.of(to="")
    with pytest.raises(PartitionKeyError, match="has 12 nodes"):
        lacking(settings_file, Range.of(nodes=[12]))
