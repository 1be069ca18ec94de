"""Effects of nodes on a network that is linear behind its layer, where they are known on paper."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from saeborzoi.effects.inputs import Batch
from saeborzoi.effects.levels import with_tracks
from saeborzoi.effects.loci import Locus, find_loci
from saeborzoi.effects.node_effects import (
    centred_rank,
    node_effects,
    significance,
    strongest,
    summary,
)
from saeborzoi.errors import InputError
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import with_nodes_changed
from tests.effects.nets import N_CHANNELS, TRACKS, linear_model, random_sequences, shrinking_sae

N_SEQUENCES, N_NODES = 12, 2 * N_CHANNELS


class Sequences(NamedTuple):
    """What `SequencesOfWindows` is to the science."""

    letters: Tensor

    def __len__(self) -> int:  # type: ignore[override]
        return self.letters.shape[0]

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return map(Batch, self.letters.split(5))

    def one_hot(self, sequence: int) -> Tensor:
        return self.letters[sequence][None]


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return Sequences(random_sequences(N_SEQUENCES))


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    return linear_model("log")


@pytest.fixture(scope="module")
def geometry(model: SequenceModel) -> LayerGeometry:
    return layer_geometry(model, "conv")


@pytest.fixture(scope="module")
def loci(model: SequenceModel, geometry: LayerGeometry, sequences: Sequences) -> list[Locus]:
    return find_loci(model, geometry, shrinking_sae(0.8), sequences, range(N_NODES), 3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def effects(
    model: SequenceModel, geometry: LayerGeometry, sequences: Sequences, loci: list[Locus]
) -> pd.DataFrame:
    return node_effects(
        model, geometry, shrinking_sae(0.8), sequences, loci, n_controls=3, batch_size=4  # type: ignore[arg-type]
    )  # fmt: skip


def test_loci_are_where_a_node_is_strongest_and_where_it_matters_most(
    model: SequenceModel, geometry: LayerGeometry, sequences: Sequences, loci: list[Locus]
) -> None:
    sae, splice = shrinking_sae(0.8), Splice(model, geometry)
    with torch.no_grad():
        x, y = splice.layer(sequences.letters)
        active = sae.encode(x)
        value = torch.zeros(*x.shape[:2], N_NODES).scatter(2, active.node, active.value)
        without = []
        for node in range(N_NODES):

            def ablated(rows: Tensor, node: int = node) -> Tensor:
                return with_nodes_changed(
                    sae, rows, lambda a: torch.where(a.node == node, 0, a.value)
                )

            moved = splice.predict(sequences.letters, ablated) - y
            without.append(moved.double().mean(2).square().mean(1).sqrt())
    for criterion, values in (
        ("activation", value.amax(1)),
        ("gradient", torch.stack(without, 1)),  # the network is linear: first order is all
    ):
        best = values.topk(3, dim=0).indices
        for node in range(N_NODES):
            chosen = {x.sequence for x in loci if x.node == node and criterion in x.criteria}
            assert chosen == set(best[:, node].tolist())
    for locus in loci:
        own = value[locus.sequence, :, locus.node]
        assert own[locus.position] == own.max()
        assert locus.activation == pytest.approx(float(own.max()))


def _without_node(sae: SparseAutoencoder, node: int, x: Tensor) -> Tensor:
    return with_nodes_changed(sae, x, lambda a: torch.where(a.node == node, 0, a.value))


def test_effects_are_those_of_the_node_alone(
    model: SequenceModel,
    geometry: LayerGeometry,
    sequences: Sequences,
    loci: list[Locus],
    effects: pd.DataFrame,
) -> None:
    sae, splice = shrinking_sae(0.8), Splice(model, geometry)
    for node in (0, 7):
        own = [x.sequence for x in loci if x.node == node and "activation" in x.criteria]
        here = sequences.letters[own]
        with torch.no_grad():
            y = model.predict(here).double().mean(2)
            changed = splice.predict(here, partial(_without_node, sae, node))
            moved = (changed.double().mean(2) - y).numpy()
        rows = effects[(effects["node"] == node) & (effects["loci"] == "activation")]
        assert rows["track"].tolist() == list(TRACKS)
        np.testing.assert_allclose(rows["level"], y.mean(0), atol=1e-6)
        np.testing.assert_allclose(rows["ablated"], moved.mean(0), atol=1e-6)
        np.testing.assert_allclose(rows["ablated_std"], moved.std(0, ddof=1), atol=1e-6)
        np.testing.assert_allclose(rows["doubled"], -moved.mean(0), atol=1e-6)
    idle = effects[effects["track"] == "idle"]
    assert (idle[["ablated", "doubled", "control", "shuffled", "z"]] == 0).all(axis=None)


def test_nothing_hangs_on_how_many_predictions_are_made_at_once(
    model: SequenceModel,
    geometry: LayerGeometry,
    sequences: Sequences,
    loci: list[Locus],
    effects: pd.DataFrame,
) -> None:
    few = [locus for locus in loci if locus.node < 3]
    alone = node_effects(model, geometry, shrinking_sae(0.8), sequences, few, n_controls=3)  # type: ignore[arg-type]
    whole = effects[effects["node"] < 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, whole, rtol=1e-4, atol=1e-6)


def test_rank_among_controls_is_chance_where_a_node_is_as_they_are() -> None:
    rng = np.random.default_rng(0)
    z = []
    for _ in range(2000):
        # loci differ a hundredfold in how much anything matters there
        drawn = [centred_rank(s[0, None], s[1:, None]) for s in _strata(rng)]
        z.append(sum(rank[0] for rank, _ in drawn) / sum(v for _, v in drawn) ** 0.5)
    assert np.mean(z) == pytest.approx(0, abs=0.07)
    assert np.std(z) == pytest.approx(1, abs=0.05)
    assert np.mean(np.array(z) > 1.645) == pytest.approx(0.05, abs=0.015)


def _strata(rng: np.random.Generator) -> list[np.ndarray]:
    scales = 10 ** rng.uniform(-1, 1, 16)
    return [np.abs(scale * rng.standard_t(3, 5)) for scale in scales]


def _table(z: list[float], loci: str = "activation") -> pd.DataFrame:
    n = len(z)
    return pd.DataFrame(
        {"node": range(n), "loci": loci, "track": "a", "n_loci": 3, "z": z, "ablated": z,
         "control": 0.0}
    )  # fmt: skip


def test_one_effect_among_many_without_is_not_significant_by_chance() -> None:
    chance = np.sort(np.random.default_rng(0).normal(size=1000)).tolist()
    tested = significance(_table(chance), 0.05)
    assert (tested["p_value"] < 0.05).any()
    assert not tested["is_significant"].any()
    whole = pd.concat([_table(chance), _table([8.0]).assign(node=1000)])
    tested = significance(whole, 0.05)
    assert len(summary(tested)) == 1001
    assert tested["is_significant"].tolist() == [False] * 1000 + [True]
    # chosen by the effect itself
    assert not significance(_table([8.0], "gradient"), 0.05)["is_significant"].any()


def test_a_tracks_strongest_nodes_are_kept_and_a_nodes_strongest_tracks() -> None:
    effects = pd.DataFrame(
        {"node": [0, 0, 1, 1], "loci": "activation", "track": ["a", "b"] * 2, "n_loci": 2,
         "ablated": [-3.0, 1.0, -2.0, 0.5], "control": 0.1, "z": 0.0, "is_significant": False}
    )  # fmt: skip
    kept = strongest(effects, 1)
    # b's strongest node is 0, and a is the strongest track of both
    assert kept[["node", "track"]].values.tolist() == [[0, "a"], [0, "b"], [1, "a"]]
    assert kept["node_rank"].tolist() == [1, 1, 2]
    rows = summary(effects).set_index("node")
    assert rows.loc[0, "top_track"] == "a"
    assert rows.loc[0, "top_ablated"] == -3
    assert rows.loc[1, "rms_ablated"] == pytest.approx((2.125) ** 0.5)


def test_tracks_are_chosen_by_name_or_pattern(model: SequenceModel, sequences: Sequences) -> None:
    some = with_tracks(model, ["idle", "[a]"])
    assert some.outputs is not None
    assert some.outputs.tracks == ("a", "idle")
    whole = model.predict(sequences.letters)
    assert torch.equal(some.predict(sequences.letters), whole[:, [0, 2]])
    with pytest.raises(InputError, match=r"no track 'idol' among its 3; the nearest are idle"):
        with_tracks(model, ["idol"])


def test_outputs_without_a_level_are_refused(sequences: Sequences) -> None:
    raw = linear_model("raw")  # half of its outputs are negative
    geometry = layer_geometry(raw, "conv")
    with pytest.raises(InputError, match="name the outputs' true `scale`"):
        find_loci(raw, geometry, shrinking_sae(0.8), sequences, [0], 1)  # type: ignore[arg-type]
