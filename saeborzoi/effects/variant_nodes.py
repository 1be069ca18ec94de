"""Which nodes carry a variant's effect.

One row a variant, track and part of the layer: nodes, background, error, what goes past the layer,
what cannot be aligned, and the gap; they sum to the effect. How one is computed is in
`attribution.py` and `variant_layer.py`, what the node's motif says in `variant_motifs.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from saeborzoi.effects.attribution import (
    Change,
    NodeShares,
    changed,
    integrate,
    node_shares,
    shares,
)
from saeborzoi.effects.statistics import empirical_p
from saeborzoi.effects.track_scores import TrackScore
from saeborzoi.effects.variant_layer import NearLayer, cut_positions, joined, same_size
from saeborzoi.errors import InputError
from saeborzoi.genome.alleles import allele_letters, length_changes
from saeborzoi.genome.fasta import Genome
from saeborzoi.models.layer import LayerGeometry, one_hot
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder

Method = Literal["exact", "gradient at ref", "activation only"]
"""Integrated between the alleles; one gradient at the reference allele; or no output at all."""
PARTS = ("node", "all nodes", "background", "error", "bypass", "alignment", "gap")
"""Rows of a pair: its strongest nodes, the sum of all of them, and what is no node's; without the
single nodes they sum to the effect."""
STATES = ("on", "off", "up", "down", "same")
_COLUMNS = (
    "variant", "track", "method", "part", "node", "rank", "effect", "attribution", "share",
    "position_bp", "activation_ref", "activation_alt", "state", "sees_unknown", "n_points",
)  # fmt: skip


class Pairs(NamedTuple):
    """Variants, each with one track.

    Attributes
    ----------
    variants
        Rows as `Variants.table`, one a pair.
    start_bp
        (n,) int64, start of the model's input, see `variant_scores.window_starts`.
    track
        (n,) int64, number of the track; unused without outputs.
    effect
        (n,) float64, what the variant does to the track's score; NaN without outputs.
    """

    variants: pd.DataFrame
    start_bp: NDArray[np.int64]
    track: NDArray[np.int64]
    effect: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Pairs:
        """Some of them."""
        return Pairs(
            self.variants.iloc[rows], self.start_bp[rows], self.track[rows], self.effect[rows]
        )


class VariantNodes:
    """Attributes variants' effects to an SAE's nodes.

    Parameters
    ----------
    model, geometry
        The model, and the SAE's layer as measured.
    sae
        Any device; is copied.
    genome
        The reference.
    score
        What an effect is a difference of; None where the model has no outputs.
    longest_bp
        Of the alleles.
    n_nodes
        The strongest nodes of each pair that get a row.
    tolerance, max_points
        See `attribution.integrate`.
    batch_size
        Sequences at once.

    Raises
    ------
    InputError
        Where the SAE does not fit the layer.
    """

    def __init__(
        self,
        model: SequenceModel,
        geometry: LayerGeometry,
        sae: SparseAutoencoder,
        genome: Genome,
        score: TrackScore | None,
        *,
        longest_bp: int,
        n_nodes: int = 10,
        tolerance: float = 0.02,
        max_points: int = 64,
        batch_size: int = 64,
    ) -> None:
        if sae.n_channels != geometry.n_channels:
            raise InputError(
                f"an SAE on {sae.n_channels} channels, but layer {geometry.module} has "
                f"{geometry.n_channels}; take the SAE of this layer"
            )
        self._model, self._geometry = model, geometry
        self._sae = copy.deepcopy(sae).to(model.device).requires_grad_(False)
        self._genome, self._score = genome, score
        self._splice = Splice(model, geometry)
        self._near = NearLayer(model, geometry, genome, longest_bp, batch_size)
        self._n_nodes, self._tolerance, self._max_points = n_nodes, tolerance, max_points
        self._size = batch_size
        tracks = () if model.outputs is None else model.outputs.tracks
        self._tracks = np.array([*tracks, ""], object)

    def exact(self, pairs: Pairs) -> Iterator[pd.DataFrame]:
        """Rows of pairs, integrated between the alleles; in parts of a batch."""
        assert self._score is not None
        for some in in_parts(pairs, self._size):
            yield self._exact(some)

    def cheap(self, pairs: Pairs) -> Iterator[pd.DataFrame]:
        """Rows of pairs by one gradient at the reference allele, shared by those of one window
        and track."""
        assert self._score is not None
        for some in in_parts(pairs, self._size):
            near = self._near(some.variants, some.start_bp)
            gradient = self._gradient_at_ref(some, near.change)
            parts, of_nodes = shares(self._sae, near.change, gradient)
            sums = {
                "background": parts.background,
                "error": parts.error,
                "gap": some.effect - parts.total,
            }
            yield self._rows(
                some, "gradient at ref", near.change, of_nodes, sums, near.sees_unknown
            )

    def activations(self, pairs: Pairs) -> Iterator[pd.DataFrame]:
        """Rows of what changes in the nodes alone, where the model has no outputs; ordered by how
        far each node's part of the layer moves."""
        for some in in_parts(pairs, self._size):
            near = self._near(some.variants, some.start_bp)
            of_nodes = node_shares(self._sae, near.change, None)
            yield self._rows(some, "activation only", near.change, of_nodes, {}, near.sees_unknown)

    def _exact(self, pairs: Pairs) -> pd.DataFrame:
        score = self._score
        assert score is not None
        n, input_bp = len(pairs.variants), self._model.input_bp
        letters = allele_letters(self._genome, pairs.variants, pairs.start_bp, input_bp)
        ref = self._one_hot(letters.ref)
        layer, y_ref = self._layer(ref)
        layer_alt, y_alt = self._layer(self._one_hot(letters.alt))
        rows = torch.arange(n)
        track = _tensor(pairs.track)
        with torch.no_grad():
            low, high = (score(y).cpu()[rows, track].numpy() for y in (y_ref, y_alt))
            # what the whole layer carries; the rest goes past it
            through = score(self._splice.predict(ref, lambda _: layer_alt)).cpu()[rows, track]
        aligned = layer_alt
        if length_changes(pairs.variants).any():
            right, _ = self._layer(self._one_hot(letters.alt_right))
            cut = _tensor(cut_positions(pairs.variants, pairs.start_bp, self._geometry))
            aligned = joined(layer_alt, right, cut.to(layer.device))
        change = changed(layer, aligned)
        done = integrate(
            self._splice, score, ref, layer, change, pairs.track,
            tolerance=self._tolerance, max_points=self._max_points, batch_size=self._size,
        )  # fmt: skip
        parts, of_nodes = shares(self._sae, change, done.gradient)
        sums = {
            "background": parts.background,
            "error": parts.error,
            "bypass": high - through.numpy(),
            "alignment": through.numpy() - low - done.moved,
            "gap": done.moved - parts.total,
        }
        unknown = np.broadcast_to(
            (letters.ref == ord("N")).any(1)[:, None], tuple(change.ref.shape[:2])
        )
        table = self._rows(
            pairs._replace(effect=high - low), "exact", change, of_nodes, sums, unknown
        )
        points = pd.Series(done.n_points, index=pairs.variants["variant"].to_numpy(object))
        return table.assign(n_points=points.groupby(level=0).max()[table["variant"]].to_numpy())

    def _one_hot(self, letters: NDArray[np.uint8]) -> Tensor:
        return one_hot(letters).to(self._model.device)

    def _layer(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        n = len(sequences)
        with torch.no_grad():
            x, y = self._splice.layer(same_size(sequences, self._size))
        return x[:n], y[:n]

    def _gradient_at_ref(self, pairs: Pairs, change: Change) -> Tensor:
        """(n, n_positions, n_channels) of each pair's track at its positions; a window is
        predicted once, and each of its tracks goes back once."""
        score = self._score
        assert score is not None
        window, _ = pd.factorize(
            pd.MultiIndex.from_arrays([pairs.variants["chrom"], pairs.start_bp])
        )
        first = np.unique(window, return_index=True)[1]
        letters = self._genome.padded(
            pairs.variants["chrom"].to_numpy(object)[first],
            pairs.start_bp[first],
            self._model.input_bp,
        )
        leaf: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            leaf.append(x.detach().requires_grad_())
            return leaf[0]

        with torch.enable_grad():
            track_scores = score(self._splice.predict(self._one_hot(letters), keep))
        result = torch.zeros_like(change.ref)
        index = change.positions[:, :, None].expand_as(change.ref)
        # windows do not see each other: one track of each goes back in one pass
        window_tracks = pd.DataFrame({"window": window, "track": pairs.track})
        turn = window_tracks.drop_duplicates().groupby("window").cumcount().rename("turn")
        window_tracks = window_tracks.merge(
            window_tracks.drop_duplicates().assign(turn=turn), on=["window", "track"]
        )
        n_turns = int(window_tracks["turn"].max()) + 1
        for i in range(n_turns):
            here = window_tracks[window_tracks["turn"] == i]
            pairs_of_turn = here.drop_duplicates()
            total = track_scores[
                _tensor(pairs_of_turn["window"]), _tensor(pairs_of_turn["track"])
            ].sum()
            (g,) = torch.autograd.grad(total, leaf[0], retain_graph=i + 1 < n_turns)
            rows = _tensor(here.index)
            result[rows] = g[_tensor(here["window"])].gather(1, index[rows])
        return result

    def _rows(
        self,
        pairs: Pairs,
        method: Method,
        change: Change,
        of_nodes: NodeShares,
        sums: dict[str, NDArray[np.float64]],
        unknown: NDArray[np.bool_],
    ) -> pd.DataFrame:
        variant = pairs.variants["variant"].to_numpy(object)
        effect = pairs.effect if method != "activation only" else np.full(len(variant), np.nan)
        track = (
            self._tracks[pairs.track] if method != "activation only" else np.full(len(variant), "")
        )
        nodes = pd.DataFrame(of_nodes._asdict())
        strength = nodes["attribution"].abs()
        nodes = nodes.assign(strength=strength).sort_values(
            ["pair", "strength", "node"], ascending=[True, False, True], kind="stable"
        )
        total = (
            nodes.groupby("pair")["attribution"].sum().reindex(range(len(variant)), fill_value=0)
        )
        nodes["rank"] = nodes.groupby("pair").cumcount() + 1
        nodes = nodes[nodes["rank"] <= self._n_nodes]
        pair, position = nodes["pair"].to_numpy(), nodes["position"].to_numpy()
        g = self._geometry
        first = change.first.cpu().numpy()
        before, after = nodes["activation_ref"].to_numpy(), nodes["activation_alt"].to_numpy()
        rows = [
            pd.DataFrame(
                {
                    "pair": pair,
                    "part": "node",
                    "node": nodes["node"].to_numpy(),
                    "rank": nodes["rank"].to_numpy(),
                    "attribution": nodes["attribution"].to_numpy(),
                    "position_bp": pairs.start_bp[pair]
                    + g.offset_bp
                    + position * g.bp_per_position,
                    "activation_ref": before,
                    "activation_alt": after,
                    "state": states(before, after),
                    "sees_unknown": unknown[pair, position - first[pair]],
                }
            )
        ]
        if sums:
            sums = {"all nodes": total.to_numpy(), **sums}
        rows += [
            pd.DataFrame({"pair": np.arange(len(variant)), "part": part, "attribution": values})
            for part, values in sums.items()
        ]
        table = pd.concat(rows, ignore_index=True).sort_values(["pair"], kind="stable")
        at = table["pair"].to_numpy()
        table = table.assign(variant=variant[at], track=track[at], method=method, effect=effect[at])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = table["attribution"].to_numpy() / effect[at]
        table["share"] = np.where(np.isfinite(share), share, np.nan)
        table["node"], table["rank"] = table["node"].astype("Int64"), table["rank"].astype("Int64")
        table["position_bp"] = table["position_bp"].astype("Int64")
        return table.reindex(columns=list(_COLUMNS)).reset_index(drop=True)


def states(ref: NDArray[np.float32], alt: NDArray[np.float32]) -> NDArray[np.object_]:
    """What becomes of a node: on, off, up, down or same.

    >>> states(np.float32([0, 1, 1, 2, 1]), np.float32([1, 0, 2, 1, 1])).tolist()
    ['on', 'off', 'up', 'down', 'same']
    """
    return np.select(
        [(ref == 0) & (alt > 0), (ref > 0) & (alt == 0), alt > ref, alt < ref],
        np.array(["on", "off", "up", "down"], object).tolist(),
        "same",
    ).astype(object)


def against_controls(rows: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    """Rows with `p_value` of each node, against changes that mean nothing.

    The null distribution is of the strongest node of each control, so that a p-value holds for the
    best of all nodes; NaN where there are no controls.

    Parameters
    ----------
    rows, control
        Rows of variants and of `neutral_changes`, of one method; either on the tracks that it
        moves most.
    """
    p = np.full(len(rows), np.nan)
    if len(control):
        is_node = (rows["part"] == "node").to_numpy()
        strongest = control[(control["part"] == "node") & (control["rank"] == 1)]
        # a control that changes no node at all counts, too; each once a track
        null = np.zeros(len(control[["variant", "track"]].drop_duplicates()))
        null[: len(strongest)] = strongest["attribution"].abs()
        p[is_node] = empirical_p(rows.loc[is_node, "attribution"].abs().to_numpy(), null)
    return rows.assign(p_value=p)


def with_q_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with `q_value`: Benjamini and Hochberg's over all nodes' p-values, of whatever method,
    as the effects' size decides which of them a variant gets."""
    q = np.full(len(rows), np.nan)
    has_p = rows["p_value"].notna().to_numpy()
    if has_p.any():
        q[has_p] = stats.false_discovery_control(rows.loc[has_p, "p_value"].to_numpy())
    return rows.assign(q_value=q)


def _tensor(values: ArrayLike) -> Tensor:
    """A copy: pandas hands out what must not be written into."""
    return torch.from_numpy(np.array(values, np.int64))


def in_parts(pairs: Pairs, size: int) -> Iterator[Pairs]:
    """So many at once, in their order."""
    n = len(pairs.variants)
    for low in range(0, n, size):
        yield pairs.take(np.arange(low, min(low + size, n)))
