"""Jobs near and past their time limit. SLURM's shortest limit is a minute, so these run beside
the other tests, on a cluster of their own, and are waited for here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm


def test_without_a_saved_state_it_fails(
    timeouts: dict[str, tuple[subprocess.Popen[str], Path]],
) -> None:
    process, output = timeouts["deaf"]
    assert process.wait(180) != 0
    printed = output.read_text()
    assert "TIMEOUT: the time limit passed before the stage saved any state" in printed
    assert "Raise `time` in [compute.profile.trained_sae]" in printed


def test_with_a_saved_state_it_goes_on(
    timeouts: dict[str, tuple[subprocess.Popen[str], Path]],
) -> None:
    process, output = timeouts["checkpoint_then_deaf"]
    assert process.wait(180) == 0
    [figures] = json.loads(output.read_text().splitlines()[-1])
    assert figures["compute"]["attempts"] == 2


def test_warned_in_time_it_saves_and_goes_on_until_done(
    timeouts: dict[str, tuple[subprocess.Popen[str], Path]],
) -> None:
    process, output = timeouts["count"]
    assert process.wait(180) == 0
    printed = output.read_text()
    assert "SIGUSR1: saving the state and stopping" in printed
    assert "submitted again" in printed
    [figures] = json.loads(printed.splitlines()[-1])
    assert figures["counted"] == 480
    assert figures["resumed_at"] > 10
    assert figures["compute"]["attempts"] >= 2
