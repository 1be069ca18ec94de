"""What each node does: how a model's outputs move when it alone is changed.

A node is ablated (set to 0) and doubled at every position of a sequence where it is active, with
background, error and all other nodes left as they are. So are the strongest other nodes at the very
same positions, one at a time: what they do is the control. Which sequences a node is looked at on
is decided by a first pass, in `loci.py`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from saeborzoi.effects.inputs import SequencesOfWindows
from saeborzoi.effects.levels import level
from saeborzoi.effects.loci import CRITERIA, Locus
from saeborzoi.effects.statistics import Loss, loss_of
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import Activity, activity, direction

N_SHUFFLES = 3
"""Shuffles of a locus, as published."""
_SEED = 0


class _Change(NamedTuple):
    """An intervention: activations at some positions, of one node, moved by so much."""

    node: int
    positions: Tensor
    by: Tensor


def node_effects(
    model: SequenceModel,
    geometry: LayerGeometry,
    sae: SparseAutoencoder,
    sequences: SequencesOfWindows,
    loci: Sequence[Locus],
    *,
    n_controls: int = 4,
    shuffle_bp: int = 18,
    batch_size: int = 1,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Effects of nodes on every track.

    Predictions are reduced on the model's device, none is kept.

    Parameters
    ----------
    model, geometry
        The model, and the SAE's layer as measured.
    sae
        Any device; is copied.
    sequences
        What the loci are places of.
    loci
        See `loci.find_loci`.
    n_controls
        Other nodes at each locus: those that add most to the layer's output where the node is
        active.
    shuffle_bp
        Base pairs that are shuffled about the node's strongest position; 18 as published.
    batch_size
        Predictions at once.

    Returns
    -------
    DataFrame
        One row a node, criterion (`loci`: "activation" or "gradient") and track: n_loci; level
        (mean of the track, log scale, unchanged); ablated, doubled (mean change of the level) and
        ablated_std, doubled_std (over loci; NaN for a single one); control and control_std (the
        same of the controls' ablation, over loci and controls; NaN where there are none);
        shuffled (published score: L2 norm over bins of the log's change under shuffles of the
        locus, mean over loci); z (by how much more the node's ablation moves the track than the
        controls' do, see `centred_rank`).
    """
    assert model.outputs is not None
    if not loci:
        return pd.DataFrame(columns=list(COLUMNS))
    sae = copy.deepcopy(sae).to(model.device).requires_grad_(False)
    runner = _Runner(model, geometry, sae, n_controls, shuffle_bp, batch_size)
    gathered: dict[tuple[int, str], _Sums] = {}
    by_sequence: dict[int, list[Locus]] = {}
    for locus in loci:
        by_sequence.setdefault(locus.sequence, []).append(locus)
    n_done = 0
    for sequence, here in sorted(by_sequence.items()):
        effects_of_node = {}
        for locus, effects in runner.effects(sequences.one_hot(sequence), sequence, here):
            effects_of_node[locus.node] = effects
            n_done += 1
            progress("nodes changed at their loci", n_done, len(loci), f"node {locus.node}")
        for locus in here:
            for criterion in locus.criteria:
                key = locus.node, criterion
                gathered.setdefault(key, _Sums(len(model.outputs.tracks))).add(
                    effects_of_node[locus.node]
                )
    frames = [
        gathered[node, criterion].frame(node, criterion, model.outputs.tracks)
        for node, criterion in sorted(gathered, key=lambda key: (key[0], CRITERIA.index(key[1])))
    ]
    return pd.concat(frames, ignore_index=True)


COLUMNS = (
    "node", "loci", "track", "n_loci", "level", "ablated", "ablated_std", "doubled", "doubled_std",
    "control", "control_std", "shuffled", "z",
)  # fmt: skip


class _Seen(NamedTuple):
    """One locus: (n_tracks,) each, controls (n_controls, n_tracks)."""

    level: NDArray[np.float64]
    ablated: NDArray[np.float64]
    doubled: NDArray[np.float64]
    controls: NDArray[np.float64]
    shuffled: NDArray[np.float64]


class _Runner:
    """Predictions with one thing changed."""

    def __init__(
        self,
        model: SequenceModel,
        geometry: LayerGeometry,
        sae: SparseAutoencoder,
        n_controls: int,
        shuffle_bp: int,
        batch_size: int,
    ) -> None:
        assert model.outputs is not None
        self._model, self._geometry, self._sae = model, geometry, sae
        self._splice = Splice(model, geometry)
        self._loss: Loss = loss_of(model.outputs.scale)
        self._n_controls, self._shuffle_bp = n_controls, shuffle_bp
        self._batch_size = batch_size
        self._norm = (sae.decoder_weight * sae.channel_max).norm(dim=1)

    def effects(
        self, one_hot: Tensor, sequence: int, loci: Sequence[Locus]
    ) -> Iterator[tuple[Locus, _Seen]]:
        """Everything about the loci of one sequence (1, 4, input_bp)."""
        with torch.no_grad():
            x = self._splice.layer(one_hot)[0]
            active = activity(self._sae, x[0])
            changes = [list(self._changes(active, locus.node)) for locus in loci]
            flat = [None, *(change for changes_of_locus in changes for change in changes_of_locus)]
            levels = torch.cat(list(self._levels(one_hot, x, flat))).cpu().numpy()
            ends = np.cumsum([len(changes_of_locus) for changes_of_locus in changes])[:-1]
            moved = np.split(levels[1:] - levels[0], ends)
            shuffled = self._shuffled(one_hot, sequence, loci)
            for locus, differences, score in zip(loci, moved, shuffled, strict=True):
                yield (
                    locus,
                    _Seen(levels[0], differences[0], differences[1], differences[2:], score),
                )

    def _changes(self, active: Activity, node: int) -> Iterator[_Change]:
        """The node ablated, doubled, and each control ablated at the node's positions."""
        positions, value = active.of(node)
        yield _Change(node, positions, -value * active.std[positions, 0])
        yield _Change(node, positions, value * active.std[positions, 0])
        here = Activity(active.value[positions], active.node[positions], active.std[positions])
        size = torch.zeros(self._sae.n_nodes, device=self._norm.device).index_add_(
            0, here.node.flatten(), (here.value * here.std * self._norm[here.node]).flatten()
        )
        size[node] = 0
        strongest = torch.argsort(size, descending=True, stable=True)[: self._n_controls]
        for other in strongest[size[strongest] > 0].tolist():
            where, activation = here.of(other)
            yield _Change(other, positions[where], -activation * here.std[where, 0])

    def _levels(
        self, one_hot: Tensor, x: Tensor, changes: Sequence[_Change | None]
    ) -> Iterator[Tensor]:
        """(n, n_tracks) levels under changes; None is none.

        Batches have one size, the last is filled up: last bits depend on it, and what is not
        changed must come out as it was.
        """
        n = self._batch_size
        for first in range(0, len(changes), n):
            some = changes[first : first + n]

            def changed(_: Tensor, some: Sequence[_Change | None] = some) -> Tensor:
                new = x.repeat(n, 1, 1)
                for row, change in zip(new, some, strict=False):
                    if change is not None:
                        step = change.by[:, None] * direction(self._sae, change.node)
                        row[change.positions] += step
                return new

            y = self._splice.predict(one_hot.expand(n, -1, -1), changed)
            yield level(y[: len(some)], self._loss)

    def _shuffled(
        self, one_hot: Tensor, sequence: int, loci: Sequence[Locus]
    ) -> Iterator[NDArray[np.float64]]:
        """(n_tracks,) the published score of each locus: the mean prediction over shuffles against
        the one without, L2 norm over bins of the change of the logarithm."""
        rows = itertools.chain(
            [one_hot], (other for x in loci for other in self._shuffles(one_hot, sequence, x))
        )
        predictions = self._predictions(rows)
        before = self._loss.log(next(predictions)).double()
        for _ in loci:
            total = sum(itertools.islice(predictions, N_SHUFFLES), torch.zeros(()))
            change = self._loss.log(total / N_SHUFFLES).double() - before
            yield change.norm(dim=1).cpu().numpy()

    def _predictions(self, rows: Iterator[Tensor]) -> Iterator[Tensor]:
        """(n_tracks, n_bins) of each (1, 4, input_bp), in batches of one size."""
        while some := list(itertools.islice(rows, self._batch_size)):
            filled = some + some[-1:] * (self._batch_size - len(some))
            yield from self._model.predict(torch.cat(filled))[: len(some)]

    def _shuffles(self, one_hot: Tensor, sequence: int, locus: Locus) -> Iterator[Tensor]:
        g = self._geometry
        middle = g.offset_bp + locus.position * g.bp_per_position + g.bp_per_position // 2
        low = min(middle - self._shuffle_bp // 2, one_hot.shape[2] - self._shuffle_bp)
        where = slice(max(low, 0), max(low, 0) + self._shuffle_bp)
        rng = np.random.default_rng([_SEED, sequence, locus.node])
        for _ in range(N_SHUFFLES):
            other = one_hot.clone()
            letters = other[:, :, where]
            other[:, :, where] = letters[:, :, rng.permutation(letters.shape[2])]
            yield other


class _Sums:
    """What is gathered of a node by one criterion; a few numbers a track."""

    def __init__(self, n_tracks: int) -> None:
        self.n = self.n_controls = 0
        self._sum = {name: np.zeros(n_tracks) for name in ("level", "ablated", "doubled")}
        self._sum |= {name: np.zeros(n_tracks) for name in ("controls", "shuffled")}
        self._squares = {name: np.zeros(n_tracks) for name in ("ablated", "doubled", "controls")}
        self._ranks, self._variance = np.zeros(n_tracks), 0.0

    def add(self, effects: _Seen) -> None:
        self.n += 1
        self.n_controls += len(effects.controls)
        for name in ("level", "ablated", "doubled", "shuffled"):
            self._sum[name] += getattr(effects, name)
        self._sum["controls"] += effects.controls.sum(0)
        for name in ("ablated", "doubled"):
            self._squares[name] += getattr(effects, name) ** 2
        self._squares["controls"] += (effects.controls**2).sum(0)
        rank, variance = centred_rank(np.abs(effects.ablated), np.abs(effects.controls))
        self._ranks += rank
        self._variance += variance

    def frame(self, node: int, criterion: str, tracks: tuple[str, ...]) -> pd.DataFrame:
        nan = np.full(len(tracks), np.nan)
        m = self.n_controls
        return pd.DataFrame(
            {
                "node": node,
                "loci": criterion,
                "track": list(tracks),
                "n_loci": self.n,
                "level": self._sum["level"] / self.n,
                "ablated": self._sum["ablated"] / self.n,
                "ablated_std": self._std("ablated", self.n),
                "doubled": self._sum["doubled"] / self.n,
                "doubled_std": self._std("doubled", self.n),
                "control": self._sum["controls"] / m if m else nan,
                "control_std": self._std("controls", m),
                "shuffled": self._sum["shuffled"] / self.n,
                "z": self._ranks / np.sqrt(self._variance) if self._variance else nan,
            }
        )

    def _std(self, name: str, n: int) -> NDArray[np.float64]:
        if n < 2:
            return np.full(len(self._sum[name]), np.nan)
        variance = (self._squares[name] - self._sum[name] ** 2 / n) / (n - 1)
        return np.asarray(np.sqrt(np.maximum(variance, 0)))


def centred_rank(
    size: NDArray[np.float64], controls: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Rank of a size among controls, less what it is by chance, and the variance by chance.

    Summed over loci and divided by the root of the summed variance it is the z of van Elteren's
    stratified rank test (1960), with every locus a stratum: about 0 where the node is as the
    controls are, however much some loci matter more than others. Ties share their ranks, which
    makes z smaller.

    Parameters
    ----------
    size
        (n_tracks,)
    controls
        (n_controls, n_tracks)

    Examples
    --------
    >>> rank, variance = centred_rank(np.array([3.0, 0.0]), np.array([[1.0, 1.0], [2.0, 0.0]]))
    >>> rank.tolist(), round(variance, 3)
    ([1.0, -0.5], 0.667)
    """
    m = len(controls)
    below = (controls < size).sum(0) + 0.5 * (controls == size).sum(0)
    return below - m / 2, ((m + 1) ** 2 - 1) / 12


def significance(effects: pd.DataFrame, max_q_value: float) -> pd.DataFrame:
    """p, q and whether an effect is significant, over all nodes and tracks together.

    Only of loci by activation: those by gradient were chosen by the very effect, so that p would
    say nothing; there p and q are NaN.

    Parameters
    ----------
    effects
        As `node_effects` gives them, of every node.

    Returns
    -------
    DataFrame
        With p_value (one-sided, of z), q_value (Benjamini and Hochberg) and is_significant.
    """
    # frames of several jobs have the same row numbers
    frame = effects.reset_index(drop=True).assign(p_value=np.nan, q_value=np.nan)
    tested = (frame["loci"] == "activation") & frame["z"].notna()
    p = stats.norm.sf(frame.loc[tested, "z"].to_numpy(float))
    frame.loc[tested, "p_value"] = p
    if len(p):
        frame.loc[tested, "q_value"] = stats.false_discovery_control(p)
    return frame.assign(is_significant=(frame["q_value"] <= max_q_value).to_numpy(bool))


def summary(effects: pd.DataFrame) -> pd.DataFrame:
    """One row a node and criterion, over all tracks: table `node_effect_summary`.

    Parameters
    ----------
    effects
        As `significance` gives them.
    """
    size = effects["ablated"].abs()
    frame = effects.assign(size=size, squares=size**2, control_squares=effects["control"] ** 2)
    groups = frame.groupby(["node", "loci"], sort=True)
    top = frame.loc[groups["size"].idxmax()].set_index(["node", "loci"])
    table = groups.agg(
        n_loci=("n_loci", "first"),
        n_tracks=("track", "size"),
        n_significant=("is_significant", "sum"),
        rms_ablated=("squares", "mean"),
        rms_control=("control_squares", "mean"),
        max_z=("z", "max"),
    )
    table[["rms_ablated", "rms_control"]] **= 0.5
    table = table.join(top[["track", "ablated"]].add_prefix("top_"))
    return table.reset_index().astype({"node": "int32", "n_significant": "int32"})


def strongest(effects: pd.DataFrame, n: int) -> pd.DataFrame:
    """Of each node the `n` tracks that it moves most, and of each track the `n` nodes that move it
    most, by the ablation's mean effect; both ranks are columns, from 1."""
    size = -effects["ablated"].abs()
    ranks = {
        f"rank_of_{name}": size.groupby([effects[name], effects["loci"]]).rank(method="first")
        for name in ("node", "track")
    }
    # the track's rank among the node's tracks, and the node's among the track's nodes
    frame = effects.assign(track_rank=ranks["rank_of_node"], node_rank=ranks["rank_of_track"])
    kept = frame[(frame["track_rank"] <= n) | (frame["node_rank"] <= n)]
    return kept.astype({"track_rank": "int32", "node_rank": "int32", "node": "int32"})
