"""Partition keys: readable, canonical, reversible."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.errors import PartitionKeyError
from saeborzoi.settings.hyperparameters import (
    Hyperparameters,
    Recipe,
    Variant,
    derived_seed,
    every_combination,
    node_key,
    parse_node_key,
)

_fractions = st.floats(1e-6, 1, allow_nan=False).map(lambda value: float(f"{value:.5g}"))


@given(
    st.builds(
        Hyperparameters,
        layer=st.sampled_from(["conv1d_1", "a", "Layer.3-x", "conv_x4_k0.05"]),
        expansion=st.integers(1, 256),
        topk=_fractions,
        learning_rate=_fractions,
        seed=st.integers(0, 2**31 - 1),
        variant=st.sampled_from(get_args(Variant)),
        recipe=st.sampled_from(get_args(Recipe)),
    )
)
def test_key_and_hyperparameters_are_the_same_thing(hyperparameters: Hyperparameters) -> None:
    assert Hyperparameters.from_key(hyperparameters.key) == hyperparameters
    assert "|" not in hyperparameters.key
    assert "/" not in hyperparameters.key


def test_keys_are_stable() -> None:
    assert Hyperparameters(layer="conv1d_1").key == "conv1d_1_x4_k0.05_lr0.003_s0"
    published = Hyperparameters(layer="conv1d_1", recipe="published")
    assert published.key == "conv1d_1_x4_k0.05_lr1e-05_s0_published"
    grouped = Hyperparameters(layer="l", expansion=8, topk=0.02, variant="matryoshka")
    assert grouped.key == "l_x8_k0.02_lr0.003_s0_matryoshka"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("conv1d_1_x4_k0.05_lr0.003", "the nearest right key is 'conv1d_1_x4_k0.05_lr0.003_s0'"),
        ("conv1d_1_x4_k0.050_lr0.003_s0", "write 'conv1d_1_x4_k0.05_lr0.003_s0' instead"),
        ("conv1d_1_x4_k0.05_lr0.00001_s0", "write 'conv1d_1_x4_k0.05_lr1e-05_s0' instead"),
        ("conv1d_1_x0_k0.05_lr0.003_s0", "expansion: Input should be greater than or equal to 1"),
        ("conv1d_1_x4_k2_lr0.003_s0", "topk: Input should be less than or equal to 1"),
        ("conv1d_1_x4_k0.1234567_lr0.003_s0", "more than 6 significant digits; use 0.123457"),
        ("", "is not a set of hyperparameters"),
    ],
)
def test_malformed_keys_are_refused_with_the_nearest_right_one(key: str, message: str) -> None:
    with pytest.raises(PartitionKeyError) as caught:
        Hyperparameters.from_key(key, known=["conv1d_1_x4_k0.05_lr0.003_s0"])
    assert message in str(caught.value)


@given(st.integers(0, 100_000))
def test_node_keys(node: int) -> None:
    assert parse_node_key(node_key(node)) == node


@pytest.mark.parametrize("key", ["3", "n3", "n00003", "n-001", "node", ""])
def test_malformed_node_keys_are_refused(key: str) -> None:
    with pytest.raises(PartitionKeyError, match="'n0003'"):
        parse_node_key(key)


def test_seeds_differ_between_partitions() -> None:
    assert derived_seed("a", 1) != derived_seed("a", 2)
    assert 0 <= derived_seed("a", 1) < 2**63


def test_k_is_of_the_channels() -> None:
    hyperparameters = Hyperparameters(layer="conv1d_1")
    assert (hyperparameters.n_nodes(608), hyperparameters.k(608)) == (2432, 30)
    # 0.29 * 100 is 28.999999999999996 in floating point
    assert Hyperparameters(layer="l", topk=0.29).k(100) == 29


def test_a_grid_asks_for_each_baseline_once() -> None:
    """What a baseline does not depend on would otherwise give copies of one dictionary."""
    wanted = every_combination(
        {
            "layer": ["conv"], "expansion": [4, 8], "learning_rate": [1e-3, 3e-3],
            "variant": ["topk", "batch_topk"], "recipe": ["default", "untrained", "channels"],
        }
    )  # fmt: skip
    keys = {h.key for h in wanted if h.is_baseline}
    assert keys == {
        "conv_x4_k0.05_lr0.003_s0_untrained",
        "conv_x8_k0.05_lr0.003_s0_untrained",
        "conv_x1_k0.05_lr0.003_s0_channels",
    }
    assert len({h.key for h in wanted}) == 8 + 3
    trained = Hyperparameters(layer="conv", variant="matryoshka", learning_rate=0.01)
    assert trained.untrained().key == "conv_x4_k0.05_lr0.003_s0_untrained"
    with pytest.raises(PartitionKeyError, match=r"write 'conv_x1_k0\.05_lr0\.003_s0_channels'"):
        Hyperparameters.from_key("conv_x4_k0.05_lr0.003_s0_channels")
