"""Eight numbers at a time, in LLVM's language, where the compiler makes no vectors by itself:
mostly as numbers are looked up in tables. LLVM cuts the vectors to what the processor has.

All arrays are flat, and each comes with the place of the first of its eight numbers. The loops that
call these functions are in `kernels.py` and `site_kernels.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Numbers in a vector."""
PAIRS_A_WORD = 16
"""Pairs of letters in a word of 64 bits."""
PAIR_CODES = 16
"""Different pairs of letters."""

_WORD = ir.IntType(64)
_WORDS = ir.VectorType(_WORD, LANES)
_FLOAT = ir.DoubleType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_F8 = types.Array(types.float64, 1, "C")
_I8 = types.Array(types.int64, 1, "C")
_U8 = types.Array(types.uint64, 1, "C")
_place = types.int64
_intrinsic: Any = intrinsic
"""Callers do not pass the typing context that the functions below are defined with."""


class _Array:
    """A flat array of numbers that take 64 bits each."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self.builder = builder
        self.vector = _FLOATS if kind is _F8 else _WORDS
        self.data = context.make_array(kind)(context, builder, array).data

    def _at(self, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [at]), self.vector.as_pointer())

    def load(self, at: Any) -> Any:
        value = self.builder.load(self._at(at))
        value.align = 8
        return value

    def store(self, value: Any, at: Any) -> None:
        self.builder.store(value, self._at(at)).align = 8

    def gather(self, places: Any) -> Any:
        """The numbers at eight places."""
        value = ir.Constant(self.vector, ir.Undefined)
        for lane in range(LANES):
            lane_index = ir.Constant(ir.IntType(32), lane)
            place = self.builder.extract_element(places, lane_index)
            one = self.builder.load(self.builder.gep(self.data, [place]))
            value = self.builder.insert_element(value, one, lane_index)
        return value


def _word(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _all(value: float, kind: Any = _FLOATS) -> Any:
    """A vector of one constant."""
    return ir.Constant(kind, [value] * LANES)


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of one number."""
    empty, zero = ir.Constant(kind, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(empty, value, zero)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(first, empty, everywhere)


def _permutes(context: Any) -> bool:
    """Whether the processor looks a vector up in a table of two others by one instruction."""
    return "+avx512f" in context.codegen().magic_tuple()[2].split(",")


def _of_pair(context: Any, builder: Any, tables: _Array, at: Any, words: Any) -> Any:
    """What a table of 16 says of the pair of letters in the lowest bits of each word."""
    if _permutes(context):
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_FLOATS, [_FLOATS, _WORDS, _FLOATS]),
            "llvm.x86.avx512.vpermi2var.pd.512",
        )
        halves = tables.load(at), tables.load(builder.add(at, _word(LANES)))
        return builder.call(function, [halves[0], words, halves[1]])
    pair = builder.and_(words, _all(PAIR_CODES - 1, _WORDS))
    return tables.gather(builder.add(pair, splat(builder, at, _WORDS)))


@_intrinsic
def window_odds(
    typing: Any,
    words: Any,
    words_at: Any,
    free: Any,
    tables: Any,
    n_pairs: Any,
    odds: Any,
    odds_at: Any,
    total: Any,
    top: Any,
    where: Any,
    at: Any,
    place: Any,
) -> Any:
    """The odds of one window of each of eight sequences, 0 where a bit of `free` is 0.

    A window is a word of 64 bits, with its first letter in the lowest two; letters that do not fit
    are in the word 32 places on. `tables` has the odds of 16 pairs of letters for each pair of
    columns. The odds are stored, and added to `total`; where they are larger than `top` they take
    its place, and `place` that of `where`.
    """

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        letters = _Array(context, builder, _U8, arguments[0])
        first_word, bits = arguments[1:3]
        table = _Array(context, builder, _F8, arguments[3])
        n = arguments[4]
        free = builder.bitcast(builder.trunc(bits, ir.IntType(8)), _MASK)
        value = cgutils.alloca_once_value(builder, builder.select(free, _all(1.0), _all(0.0)))
        word = cgutils.alloca_once(builder, _WORDS)
        per_word = _word(PAIRS_A_WORD)
        n_words = builder.sdiv(builder.add(n, _word(PAIRS_A_WORD - 1)), per_word)
        with cgutils.for_range(builder, n_words) as words_loop:
            done = builder.mul(words_loop.index, per_word)
            shift = builder.mul(done, _word(2 * LANES))
            builder.store(letters.load(builder.add(first_word, shift)), word)
            rest = builder.sub(n, done)
            here = builder.select(builder.icmp_signed("<", rest, per_word), rest, per_word)
            with cgutils.for_range(builder, here) as pairs_loop:
                pair = builder.add(done, pairs_loop.index)
                at = builder.mul(pair, _word(PAIR_CODES))
                factor = _of_pair(context, builder, table, at, builder.load(word))
                builder.store(builder.fmul(builder.load(value), factor), value)
                builder.store(builder.lshr(builder.load(word), _all(4, _WORDS)), word)
        x = builder.load(value)
        _Array(context, builder, _F8, arguments[5]).store(x, arguments[6])
        sums, largest = (_Array(context, builder, _F8, a) for a in arguments[7:9])
        places, group = _Array(context, builder, _I8, arguments[9]), arguments[10]
        sums.store(builder.fadd(sums.load(group), x), group)
        old = largest.load(group)
        larger = builder.fcmp_ordered(">", x, old)
        largest.store(builder.select(larger, x, old), group)
        new_place = splat(builder, arguments[11], _WORDS)
        places.store(builder.select(larger, new_place, places.load(group)), group)
        return context.get_dummy_value()

    return types.void(
        _U8, _place, types.int64, _F8, types.int64, _F8, _place, _F8, _F8, _I8, _place, types.int64
    ), generate


@_intrinsic
def weigh(
    typing: Any,
    total: Any,
    top: Any,
    prior: Any,
    at: Any,
    fraction: Any,
    scale: Any,
    sites: Any,
) -> Any:
    """What odds of eight sequences are multiplied with to be probabilities, into `scale`; 0 where
    their total is.

    `prior` is the probability of each window where a sequence holds a site, which is so in a
    `fraction`. Adds their probability to hold one to `sites`, and makes that of the best window of
    its odds, `top`.
    """

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        zero, place = _word(0), arguments[3]
        totals, largest, priors, scales, expected = (
            _Array(context, builder, _F8, arguments[k]) for k in (0, 1, 2, 5, 6)
        )
        all_fraction = splat(builder, arguments[4], _FLOATS)
        share = builder.fmul(all_fraction, priors.load(place))
        sums = totals.load(place)
        some = builder.fcmp_ordered(">", sums, _all(0.0))
        none = builder.fsub(_all(1.0), all_fraction)
        evidence = builder.fadd(none, builder.fmul(share, sums))
        factor = builder.fdiv(share, builder.select(some, evidence, _all(1.0)))
        factor = builder.select(some, factor, _all(0.0))
        scales.store(factor, zero)
        expected.store(builder.fadd(expected.load(zero), builder.fmul(factor, sums)), zero)
        largest.store(builder.fmul(factor, largest.load(place)), place)
        return context.get_dummy_value()

    return types.void(_F8, _F8, _F8, _place, types.float64, _F8, _F8), generate


@_intrinsic
def append_likely(
    typing: Any,
    values: Any,
    at: Any,
    scale: Any,
    threshold: Any,
    lanes: Any,
    places: Any,
    n: Any,
) -> Any:
    """Multiply eight numbers by `scale`, in place, and append the places of those above the
    threshold to `places`, which has `n`; how many it has then, and room for seven more.

    `lanes` is `LANES_OF_BITS`: where how many there are cannot be foretold, a branch for each would
    be guessed wrong.
    """

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        numbers = _Array(context, builder, _F8, arguments[0])
        factor = _Array(context, builder, _F8, arguments[2]).load(_word(0))
        x = builder.fmul(numbers.load(arguments[1]), factor)
        numbers.store(x, arguments[1])
        above = builder.fcmp_ordered(">", x, splat(builder, arguments[3], _FLOATS))
        bits = builder.zext(builder.bitcast(above, ir.IntType(8)), _WORD)
        row = builder.mul(bits, _word(LANES))
        chosen = _Array(context, builder, _I8, arguments[4]).load(row)
        chosen = builder.add(chosen, splat(builder, arguments[1], _WORDS))
        _Array(context, builder, _I8, arguments[5]).store(chosen, arguments[6])
        return builder.add(arguments[6], builder.ctpop(bits))

    return types.int64(_F8, _place, _F8, types.float64, _I8, _I8, types.int64), generate


LANES_OF_BITS = np.array(
    [[t for t in range(LANES) if b >> t & 1] + [0] * (LANES - b.bit_count()) for b in range(256)]
).ravel()
"""Flat, 256 x LANES int64: for each number of eight bits which are 1, filled up with zeros."""
