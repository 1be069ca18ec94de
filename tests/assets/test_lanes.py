"""Which steps of which SAEs go side by side, and what a failure ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from saeborzoi.pipeline import JOB_STEPS
from saeborzoi_assets.commands.lanes import Lanes
from saeborzoi_assets.commands.launch import Ended
from saeborzoi_assets.commands.outcome import Outcome
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.costs import Costs
from saeborzoi_assets.lacking import Range
from saeborzoi_assets.plan import PipelineStep
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project

NEXT = "conv_x3_k0.25_lr0.003_s1"
TIMEOUT_S = 20


class _Launcher:
    """Runs that make nothing; some wait until another one has begun, some fail."""

    def __init__(self, waiting: dict[str, str], failing: str = "") -> None:
        self._waiting, self._failing = waiting, failing
        self._has_begun = {name: threading.Event() for name in waiting.values()}
        self._under_way: set[bool] = set()
        self.ran: list[str] = []

    def run(self, step: PipelineStep) -> Ended:
        label = f"{step.name} of {step.first.owner}"
        has_job = step.name in JOB_STEPS
        assert has_job not in self._under_way, f"{label} beside one of its kind"
        self._under_way.add(has_job)
        self.ran.append(label)
        if label in self._has_begun:
            self._has_begun[label].set()
        if label in self._waiting:
            other = self._waiting[label]
            assert self._has_begun[other].wait(TIMEOUT_S), f"{other} waits for {label}"
        self._under_way.remove(has_job)
        return Ended(*(("failure", "no", ()) if label == self._failing else ("success", "", ())))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Two SAEs of which nothing is made."""
    settings_file = make_small_project(tmp_path_factory.mktemp("lanes") / "project")
    text = settings_file.read_text()
    settings_file.write_text(text.replace("expansion = 3", "expansion = 3\nseed = [0, 1]"))
    return Platform(settings_file=str(settings_file))


def taken(platform: Platform, launcher: _Launcher, outcome: Outcome, n_lanes: int = 1) -> list[str]:
    """What the lanes launch for everything anew; in one, one SAE's jobs at a time."""
    lanes = Lanes(
        platform, launcher, Costs.of(platform), Display(quiet=True), outcome,  # type: ignore[arg-type]
        Range(), again=True,
    )  # fmt: skip
    lanes.run(platform.settings.wanted(), n_lanes)
    return launcher.ran


def test_light_steps_go_beside_jobs_of_the_same_and_of_the_next_sae(platform: Platform) -> None:
    outcome = Outcome()
    waiting = {
        f"fan-in of {KEY}": f"concepts of {KEY}",
        f"pages of {KEY}": f"nodes of {NEXT}",
        # a job goes beside what is light, too
        f"training of {NEXT}": f"pages of {KEY}",
    }
    ran = taken(platform, _Launcher(waiting), outcome)
    assert outcome.failures == []
    steps = ["training", "inference", "nodes", "concepts", "fan-in", "pages"]
    of_saes = [f"{step} of {key}" for step in steps for key in (KEY, NEXT)]
    # the launcher makes nothing, so that the second SAE lacks its layer's constants, too
    of_layer = ["normalization of conv"] * 2
    assert sorted(ran) == sorted([*of_layer, *of_saes, "comparison of project"])
    assert ran[-1] == "comparison of project"
    for key in (KEY, NEXT):
        order = [ran.index(f"{step} of {key}") for step in steps]
        assert order[:4] == sorted(order[:4])
        assert order[2] < order[4] < order[5]
        assert order[3] < order[5]


@pytest.mark.parametrize("n_lanes", [1, 2])
def test_the_untrained_dictionary_is_there_for_the_evidence_of_the_others(
    tmp_path: Path, n_lanes: int
) -> None:
    settings_file = make_small_project(tmp_path / "project")
    text = settings_file.read_text()
    recipes = 'expansion = 3\nrecipe = ["default", "untrained"]'
    settings_file.write_text(text.replace("expansion = 3", recipes))
    launcher, outcome = _Launcher({}), Outcome()
    ran = taken(Platform(settings_file=str(settings_file)), launcher, outcome, n_lanes)
    assert outcome.failures == []
    assert ran.index(f"nodes of {KEY}_untrained") < ran.index(f"fan-in of {KEY}")


@pytest.mark.parametrize(
    ("failing", "lost"),
    [
        ("training", ["inference", "nodes", "concepts", "fan-in", "pages"]),
        ("nodes", ["fan-in", "pages"]),
        ("concepts", ["pages"]),
        ("fan-in", ["pages"]),
    ],
)
def test_a_failure_ends_what_is_made_from_it(
    platform: Platform, failing: str, lost: list[str]
) -> None:
    outcome = Outcome()
    ran = taken(platform, _Launcher({}, f"{failing} of {KEY}"), outcome)
    assert outcome.failures == [(KEY, failing, "no")]
    # seven steps of each SAE, that of its layer among them
    assert len(ran) == 14 - len(lost)
    assert not {f"{step} of {KEY}" for step in lost} & {*ran}
    assert f"pages of {NEXT}" in ran
    assert "comparison of project" not in ran
