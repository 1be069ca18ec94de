"""GPUs of a profile: the budget of GPU hours, Kubernetes and the preflight count the same ones."""

from __future__ import annotations

import pytest

from saeborzoi.settings.compute_sections import Profile


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gres/gpu:2", 2),
        ("gpu:h100-sxm:2", 2),
        ("gpu:2g.10gb:1", 1),
        ("tmp:1G,gpu:2(S:0)", 2),
        ("gpu", 1),
        ("gpu:2", 2),
        ("gpu:a100:2", 2),
        ("gpu:a100", 1),
        ("gpu:a100:1,gpu:v100:2", 3),
        ("gres/gpu=2", 2),
        ("gpu:a100:2(S:0-1),tmp:1G", 2),
        ("shard:1", 0),
        ("tmp:100G", 0),
        (None, 0),
    ],
)
def test_gpus_of_gres(gres: str | None, expected: int) -> None:
    assert Profile(gres=gres).n_gpus == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--gpus=2",), 2),
        (("--gpus-per-node=a100:2",), 2),
        (("--gpus", "2"), 2),
        (("-G", "h100-sxm:4"), 4),
        (("-G4",), 4),
        (("--gres=gpu:a100:3",), 3),
        (("--gres-flags=enforce-binding", "--mail-type=END"), 0),
        (("--comment=--gpus",), 0),
    ],
)
def test_gpus_of_options(options: tuple[str, ...], expected: int) -> None:
    assert Profile(options=options).n_gpus == expected


def test_gpus_asked_for_twice_are_the_same_ones() -> None:
    assert Profile(gres="gpu:2", options=("--gpus=2",)).n_gpus == 2


def test_a_former_name_is_taken_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="nodes_per_job is called sae_nodes_per_job now"):
        assert Profile.model_validate({"nodes_per_job": 3}).sae_nodes_per_job == 3
    with pytest.raises(ValueError, match="nodes_per_job"):
        Profile.model_validate({"nodes_per_job": 3, "sae_nodes_per_job": 4})
