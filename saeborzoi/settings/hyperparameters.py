"""Hyperparameters of one SAE, and the partition keys that name it, a node or variants of it.

An SAE's key *is* its hyperparameters: readable, canonical, reversible and stable across versions,
e.g. ``conv1d_1_x4_k0.05_lr0.003_s0`` or ``conv1d_1_x4_k0.05_lr1e-05_s0_published``; a node's is
``<key of the SAE>|n0003``, a set of variants' is ``variants=traits``. Settings, command line,
catalogue and views take the hyperparameters' names, types and meanings from the model here. Nothing
about training itself belongs here.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from saeborzoi.errors import PartitionKeyError

Variant = Literal["topk", "batch_topk", "matryoshka"]
Recipe = Literal["default", "published", "untrained", "channels"]
BASELINES: tuple[Recipe, ...] = ("untrained", "channels")
"""Recipes that train nothing: what every count of a trained SAE stands beside."""

_WITHOUT: dict[str, tuple[str, ...]] = {
    "untrained": ("learning_rate", "variant"),
    "channels": ("learning_rate", "variant", "expansion", "seed"),
}
"""Baseline to the hyperparameters that mean nothing to it."""

LAYER_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
_MAX_COMBINATIONS = 10_000
_EXAMPLE = "conv1d_1_x4_k0.05_lr0.003_s0"


class Hyperparameters(BaseModel):
    """What distinguishes one SAE of a project from another.

    A field's description is its meaning everywhere: in ``saeborzoi add --help`` and in the
    catalogue. Fields that are a choice of words (`Literal`) stand in the key where they are not
    the default, so that a new one leaves the keys of existing SAEs as they are.

    Attributes
    ----------
    layer
        Name of a layer of the settings.
    expansion
        Nodes for each channel: ``n_nodes = expansion * n_channels``.
    topk
        Active nodes a position as a fraction of the layer's *channels* (not nodes), as in
        sae-borzoi: ``k = int(topk * n_channels)``.
    learning_rate
        Adam's peak learning rate; left out, 3e-3, or 1e-5 with ``recipe="published"``.
    seed
        Seed of initialization and data order.
    variant
        Sparsity: ``topk`` (published), ``batch_topk`` or ``matryoshka``.
    recipe
        ``default`` (what converges best here), ``published`` (sae-borzoi's training), or a
        baseline that is not trained: ``untrained`` (the random dictionary that the default
        starts from) or ``channels`` (node j is channel j). A baseline is a ``topk`` SAE, has no
        learning rate of its own, and ``channels`` neither an expansion nor a seed: what such a
        value is given as is put to the default, so that a grid asks for each baseline once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: str = Field(
        pattern=rf"^{LAYER_NAME}$", max_length=100, description="layer that it reads"
    )
    expansion: int = Field(default=4, ge=1, le=256, description="nodes for each channel")
    topk: float = Field(
        default=0.05, gt=0, le=1, description="active nodes as a fraction of the channels"
    )
    learning_rate: float = Field(default=3e-3, gt=0, le=1, description="peak learning rate")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="seed of initialization and data order"
    )
    variant: Variant = Field(default="topk", description="sparsity: topk, batch_topk or matryoshka")
    recipe: Recipe = Field(
        default="default",
        description="training recipe: default or published; or untrained or channels, baselines",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_recipe(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        if values.get("recipe") == "published":
            return {"learning_rate": 1e-5, **values}
        without = _WITHOUT.get(str(values.get("recipe")), ())
        values = {name: value for name, value in values.items() if name not in without}
        return {**values, "expansion": 1} if "expansion" in without else values

    @field_validator("topk", "learning_rate")
    @classmethod
    def _at_most_six_digits(cls, value: float) -> float:
        if float(f"{value:g}") != value:
            raise ValueError(f"{value!r} has more than 6 significant digits; use {value:g}")
        return value

    @property
    def key(self) -> str:
        """Canonical partition key.

        >>> Hyperparameters(layer="conv1d_1").key
        'conv1d_1_x4_k0.05_lr0.003_s0'
        """
        parts = [
            self.layer,
            f"x{self.expansion}",
            f"k{self.topk:g}",
            f"lr{self.learning_rate:g}",
            f"s{self.seed}",
        ]
        words = _words()
        return "_".join([*parts, *(v for name, v in self.spelled_out().items() if name in words)])

    def spelled_out(self) -> dict[str, Any]:
        """Every value but the words that are the default: what the key holds, by name."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if name not in _words() or value != type(self).model_fields[name].default
        }

    @property
    def is_baseline(self) -> bool:
        """Whether nothing of it is trained."""
        return self.recipe in BASELINES

    def untrained(self) -> Hyperparameters:
        """The untrained dictionary of the same layer, shape and k."""
        return Hyperparameters.model_validate({**self.model_dump(), "recipe": "untrained"})

    def n_nodes(self, n_channels: int) -> int:
        """Number of nodes of the SAE on a layer of `n_channels`."""
        return self.expansion * n_channels

    def k(self, n_channels: int) -> int:
        """Active nodes a position: ``topk * n_channels`` without its fraction (the settings refuse
        0). sae-borzoi's ``int(topk * n_channels)`` is one less where the product of floats falls
        short of a whole number, as for 0.29 of 100 channels; never on Borzoi's widths."""
        return int(self.topk * n_channels + 1e-9)

    @classmethod
    def from_key(cls, key: str, known: Iterable[str] = ()) -> Hyperparameters:
        """Parse a partition key.

        Parameters
        ----------
        key
            The key; must be in canonical form.
        known
            Keys that exist, to suggest the nearest one.

        Raises
        ------
        PartitionKeyError
            Where the key does not parse or is not canonical; names the nearest right one.
        """
        match = _key_pattern().fullmatch(key)
        if match is None:
            known = list(known)
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.4) or known[:1]
            advice = f"the nearest right key is {nearest[0]!r}" if nearest else f"e.g. {_EXAMPLE!r}"
            raise PartitionKeyError(
                f"partition key {key[:200]!r} is not a set of hyperparameters; needed is "
                "<layer>_x<expansion>_k<topk>_lr<learning rate>_s<seed>[_<variant>][_<recipe>]; "
                f"{advice}"
            )
        fields = {name: text for name, text in match.groupdict().items() if text is not None}
        try:
            parsed = cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            raise PartitionKeyError(
                f"partition key {key[:200]!r}: {problem['loc'][0]}: {problem['msg']}; fix that "
                f"part, e.g. {_EXAMPLE!r}"
            ) from None
        if parsed.key != key:
            raise PartitionKeyError(
                f"partition key {key[:200]!r} is not canonical; write {parsed.key[:200]!r} instead"
            )
        return parsed


def make_hyperparameters(**values: Any) -> Hyperparameters:
    """Hyperparameters of values as a user gives them.

    Raises
    ------
    PartitionKeyError
        Names each value that does not fit and what is allowed.
    """
    try:
        return Hyperparameters.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{problem['loc'][0] if problem['loc'] else 'hyperparameters'} = "
            f"{problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise PartitionKeyError(f"no SAE can have these hyperparameters: {problems}") from None


def every_combination(axes: Mapping[str, Sequence[Any]]) -> list[Hyperparameters]:
    """Hyperparameters of every combination of values, the last axis first.

    Raises
    ------
    PartitionKeyError
        Where there are more than a project can take, or no SAE can have one.
    """
    n = math.prod(map(len, axes.values()))
    if n > _MAX_COMBINATIONS:
        raise PartitionKeyError(
            f"[[sae]] asks for {n:,} SAEs; needed are at most {_MAX_COMBINATIONS:,}: shorten its "
            "lists"
        )
    return [
        make_hyperparameters(**dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


@functools.cache
def _words() -> dict[str, tuple[str, ...]]:
    """Fields that are a choice of words, and the words."""
    return {
        name: get_args(field.annotation)
        for name, field in Hyperparameters.model_fields.items()
        if get_origin(field.annotation) is Literal
    }


@functools.cache
def _key_pattern() -> re.Pattern[str]:
    words = "".join(
        f"(?:_(?P<{name}>{'|'.join(map(re.escape, choices))}))?"
        for name, choices in _words().items()
    )
    return re.compile(
        rf"(?P<layer>{LAYER_NAME})_x(?P<expansion>[0-9]+)_k(?P<topk>{_NUMBER})"
        rf"_lr(?P<learning_rate>{_NUMBER})_s(?P<seed>[0-9]+){words}"
    )


class PartitionKey(NamedTuple):
    """What one partition of an asset is about: a layer, an SAE, a node of an SAE, a set of
    variants, a set looked at with an SAE, or the project.

    Attributes
    ----------
    owner
        The layer's name, the SAE's key, ``variants=traits`` for a set, or ``project``.
    node
        Node of the SAE; None for what is about the owner as a whole.
    variant_set
        Name of the set that is looked at with the SAE; None for what is about no set, and of a
        set's own key.
    """

    owner: str
    node: int | None = None
    variant_set: str | None = None

    def __str__(self) -> str:
        """The key as Dagster has it: ``<owner>``, ``<owner>|n0003`` or ``<owner>|variants=traits``.

        The SAE comes first as Dagster orders dimensions by name: hyperparameters, node, variants.

        >>> str(PartitionKey("conv1d_1_x4_k0.05_lr0.003_s0", 3))
        'conv1d_1_x4_k0.05_lr0.003_s0|n0003'
        >>> str(PartitionKey("conv1d_1_x4_k0.05_lr0.003_s0", variant_set="traits"))
        'conv1d_1_x4_k0.05_lr0.003_s0|variants=traits'
        """
        if self.variant_set is not None:
            return f"{self.owner}|{set_key(self.variant_set)}"
        return self.owner if self.node is None else f"{self.owner}|{node_key(self.node)}"

    @property
    def of_set(self) -> str | None:
        """Name of the set of variants that it is about, with an SAE or by itself; None where it is
        about none."""
        return self.variant_set if self.variant_set is not None else set_of(self.owner)

    @classmethod
    def parse(cls, text: str) -> PartitionKey:
        """The key that `str` gives.

        >>> PartitionKey.parse("conv1d_1_x4_k0.05_lr0.003_s0|n0003").node
        3
        >>> PartitionKey.parse("conv1d_1_x4_k0.05_lr0.003_s0|variants=traits").variant_set
        'traits'

        Raises
        ------
        PartitionKeyError
            Where what follows the bar is neither a node nor a set of variants.
        """
        owner, bar, node = text.partition("|")
        if not bar:
            return cls(owner)
        if (variant_set := set_of(node)) is not None:
            return cls(owner, variant_set=variant_set)
        try:
            return cls(owner, parse_node_key(node))
        except PartitionKeyError:
            raise PartitionKeyError(
                f"partition key {text[:200]!r}: {node[:80]!r} is not of the form 'n0003'; write "
                f"e.g. '{owner[:200]}|n0003'"
            ) from None


_SET = "variants="
"""Begins the key of a set of variants; no name of a layer and no key of an SAE has a sign of
equality, and it may stand in the name of a file."""


def set_key(name: str) -> str:
    """Partition key of a set of variants: ``variants=traits``."""
    return f"{_SET}{name}"


def set_of(key: str) -> str | None:
    """Name of the set whose partition key it is, None where it is no set's.

    >>> set_of("variants=traits"), set_of("conv1d_1")
    ('traits', None)
    """
    return key.removeprefix(_SET) if key.startswith(_SET) else None


def partition_keys(owner: str, nodes: Iterable[int] | None) -> list[PartitionKey]:
    """Keys of an owner's nodes in the order given; of the owner itself where `nodes` is None."""
    if nodes is None:
        return [PartitionKey(owner)]
    return [PartitionKey(owner, int(node)) for node in nodes]


def node_key(node: int) -> str:
    """Partition key of a node: ``n0003``."""
    return f"n{node:04d}"


def parse_node_key(key: str) -> int:
    """Node of a partition key such as ``n0003``.

    Raises
    ------
    PartitionKeyError
        Where the key is not ``n`` and digits in canonical form.
    """
    if not re.fullmatch(r"n[0-9]{4,9}", key) or node_key(int(key[1:])) != key:
        raise PartitionKeyError(f"node key {key[:80]!r} is not of the form 'n0003'")
    return int(key[1:])


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from a partition's identity, the same on every machine and in every batch.

    >>> derived_seed("conv1d_1_x4_k0.05_lr0.003_s0", 3) == derived_seed(
    ...     "conv1d_1_x4_k0.05_lr0.003_s0", 3)
    True
    """
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
