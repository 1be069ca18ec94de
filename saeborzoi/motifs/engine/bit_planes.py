"""Numbers of many sequences in binary: a vector for each binary digit ("plane"), with one bit of
each of `BLOCK` sequences. They are added and compared digit by digit.

Agreements of windows are small, five digits where a byte has eight, and that a sequence has some
letter at a place is one bit. So all that is looked at stays in the first cache, and a step is a few
operations on whole vectors: about four times as fast as with bytes. LLVM cuts the vectors to what
the processor has.

`planes_for` and `packed` prepare what the others, called from compiled loops, take: `planes`, a
tuple of as many integers as the numbers have digits, and flat arrays of uint64, each with a place
in it: the first word of `len(planes) * LANES` for numbers, of `LANES` for bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from saeborzoi.motifs.engine.vectors import splat

LANES = 8
"""Words of 64 bits in a vector."""
BLOCK = 64 * LANES
"""Sequences of one vector."""
_DIGITS = (5, 6, 8, 17)
"""The loops are compiled for each that is needed."""

_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, LANES)
_BITS = types.Array(types.uint64, 1, "C")
_COUNTS = types.Array(types.int64, 1, "C")
_intrinsic: Any = intrinsic
"""Callers do not pass the typing context that the functions below are defined with."""


def planes_for(largest: int) -> tuple[int, ...]:
    """`planes` of numbers up to the largest."""
    return (0,) * next(digits for digits in _DIGITS if largest < 2**digits)


def packed(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Flat: of (..., n_sequences) the bits of what is not 0, each row filled up to whole blocks."""
    n = rows.shape[-1]
    filled = np.zeros((*rows.shape[:-1], -(-n // BLOCK) * BLOCK), np.bool_)
    filled[..., :n] = rows
    return np.packbits(filled, axis=-1, bitorder="little").ravel().view(np.uint64)


class _Planes:
    """Vectors at a place of a flat array, in LLVM's language."""

    def __init__(self, context: Any, builder: Any, array: Any, at: Any) -> None:
        self.builder = builder
        data = context.make_array(_BITS)(context, builder, array).data
        self.first = builder.gep(data, [at])

    def _at(self, p: int) -> Any:
        place = self.builder.gep(self.first, [ir.Constant(_WORD, p * LANES)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())

    def load(self, p: int = 0) -> Any:
        value = self.builder.load(self._at(p))
        value.align = 8
        return value

    def store(self, value: Any, p: int) -> None:
        self.builder.store(value, self._at(p)).align = 8

    def carry(self, bit: Any, digits: range) -> None:
        """Add a bit at the first of the digits."""
        for p in digits:
            digit = self.load(p)
            self.store(self.builder.xor(digit, bit), p)
            bit = self.builder.and_(digit, bit)


@_intrinsic
def add(typing: Any, planes: Any, sums: Any, at: Any, bits: Any, bits_at: Any) -> Any:
    """Add a bit to each number."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        row = _Planes(context, builder, *arguments[1:3])
        row.carry(_Planes(context, builder, *arguments[3:5]).load(), range(planes.count))
        return context.get_dummy_value()

    return types.void(planes, _BITS, types.int64, _BITS, types.int64), generate


@_intrinsic
def add_three(
    typing: Any,
    planes: Any,
    sums: Any,
    at: Any,
    bits: Any,
    first_at: Any,
    second_at: Any,
    third_at: Any,
) -> Any:
    """Add three bits to each number."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        row = _Planes(context, builder, *arguments[1:3])
        three = [_Planes(context, builder, arguments[3], at).load() for at in arguments[4:7]]
        ones, twos = _full_adder(builder, *three)
        digit = row.load(0)
        row.store(builder.xor(digit, ones), 0)
        total, carry = _full_adder(builder, row.load(1), twos, builder.and_(digit, ones))
        row.store(total, 1)
        row.carry(carry, range(2, planes.count))
        return context.get_dummy_value()

    place = types.int64
    return types.void(planes, _BITS, place, _BITS, place, place, place), generate


@_intrinsic
def keep_larger(
    typing: Any,
    planes: Any,
    best: Any,
    best_at: Any,
    agree: Any,
    at: Any,
    free: Any,
    free_at: Any,
) -> Any:
    """Take each number that is larger than the best one and free."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        kept = _Planes(context, builder, *arguments[1:3])
        row = _Planes(context, builder, *arguments[3:5])
        free = _Planes(context, builder, *arguments[5:7]).load()
        old = [kept.load(p) for p in range(planes.count)]
        new = [row.load(p) for p in range(planes.count)]
        for p, digit in enumerate(_larger(builder, old, new, free)):
            kept.store(digit, p)
        return context.get_dummy_value()

    signature = types.void(planes, _BITS, types.int64, _BITS, types.int64, _BITS, types.int64)
    return signature, generate


@_intrinsic
def move_and_keep_larger(
    typing: Any,
    planes: Any,
    best: Any,
    best_at: Any,
    agree: Any,
    at: Any,
    joins: Any,
    joins_at: Any,
    leaves: Any,
    leaves_at: Any,
    free: Any,
    free_at: Any,
    n_rows: Any,
    n_blocks: Any,
) -> Any:
    """Add one bit to each number, take another away and `keep_larger`, in some rows one after the
    other, each of `n_blocks`: the best stay in the processor's registers."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        kept = _Planes(context, builder, *arguments[1:3])
        n_rows, n_blocks = arguments[11:13]
        best = [cgutils.alloca_once_value(builder, kept.load(p)) for p in range(planes.count)]
        with cgutils.for_range(builder, n_rows) as loop:
            rows = builder.mul(loop.index, n_blocks)
            bits, numbers = (
                builder.mul(rows, ir.Constant(_WORD, words))
                for words in (LANES, LANES * planes.count)
            )
            row = _Planes(context, builder, arguments[3], builder.add(arguments[4], numbers))
            joining, leaving, is_free = (
                _Planes(context, builder, arguments[k], builder.add(arguments[k + 1], bits)).load()
                for k in (5, 7, 9)
            )
            new = _moved(builder, row, planes.count, joining, leaving)
            old = [builder.load(digit) for digit in best]
            for p, digit in enumerate(_larger(builder, old, new, is_free)):
                builder.store(digit, best[p])
        for p, place in enumerate(best):
            kept.store(builder.load(place), p)
        return context.get_dummy_value()

    place = types.int64
    return types.void(
        planes, _BITS, place, _BITS, place, _BITS, place, _BITS, place, _BITS, place, place, place
    ), generate


def _moved(builder: Any, row: _Planes, n_planes: int, joining: Any, leaving: Any) -> list[Any]:
    """The digits of a row after one bit joined and another left; they are stored, too."""
    carry, digits = builder.xor(joining, leaving), []
    for p in range(n_planes):
        digit = row.load(p)
        digits.append(builder.xor(digit, carry))
        row.store(digits[p], p)
        # 1 is carried where a digit was 1, and borrowed where it was 0
        carry = builder.and_(carry, builder.xor(digit, leaving))
    return digits


def _larger(builder: Any, old: list[Any], new: list[Any], free: Any) -> list[Any]:
    """The digits of the larger number, the new one only where it is free."""
    larger = ir.Constant(_VECTOR, None)
    for a, b in zip(old, new, strict=True):  # the last digit that differs decides
        larger = builder.or_(
            builder.and_(b, builder.not_(a)),
            builder.and_(larger, builder.not_(builder.xor(a, b))),
        )
    larger = builder.and_(larger, free)
    return [
        builder.xor(a, builder.and_(larger, builder.xor(a, b)))
        for a, b in zip(old, new, strict=True)
    ]


@_intrinsic
def mark_at_least(
    typing: Any,
    planes: Any,
    marks: Any,
    marks_at: Any,
    numbers: Any,
    at: Any,
    value: Any,
    among: Any,
    among_at: Any,
) -> Any:
    """Set the bit of each number that is at least `value`, among some of them."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        marked = _Planes(context, builder, *arguments[1:3])
        row = _Planes(context, builder, *arguments[3:5])
        enough = ir.Constant(_VECTOR, [-1] * LANES)
        for p in range(planes.count):  # the last digit that differs decides
            absent = _absent(builder, arguments[5], p)
            digit = row.load(p)
            enough = builder.or_(
                builder.and_(digit, absent),
                builder.and_(enough, builder.or_(digit, absent)),
            )
        enough = builder.and_(enough, _Planes(context, builder, *arguments[6:8]).load())
        marked.store(builder.or_(marked.load(), enough), 0)
        return context.get_dummy_value()

    place = types.int64
    return types.void(planes, _BITS, place, _BITS, place, place, _BITS, place), generate


@_intrinsic
def count(typing: Any, planes: Any, numbers: Any, at: Any, value: Any) -> Any:
    """How many numbers are `value`."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        row = _Planes(context, builder, *arguments[1:3])
        equal = ir.Constant(_VECTOR, [-1] * LANES)
        for p in range(planes.count):
            alike = builder.xor(row.load(p), _absent(builder, arguments[3], p))
            equal = builder.and_(equal, alike)
        ones = _function(builder, "llvm.ctpop.v8i64", _VECTOR)
        total = _function(builder, "llvm.vector.reduce.add.v8i64", _WORD)
        return builder.call(total, [builder.call(ones, [equal])])

    return types.int64(planes, _BITS, types.int64, types.int64), generate


@_intrinsic
def count_each(
    typing: Any,
    planes: Any,
    numbers: Any,
    at: Any,
    n_blocks: Any,
    n_eights: Any,
    counts: Any,
) -> Any:
    """How many numbers of all blocks are 0, 1 ... `8 n_eights - 1`, into `counts`."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        array, at, n_blocks, n_eights = arguments[1:5]
        result = context.make_array(_COUNTS)(context, builder, arguments[5]).data
        ones = _function(builder, "llvm.ctpop.v8i64", _VECTOR)
        total = _function(builder, "llvm.vector.reduce.add.v8i64", _WORD)
        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(8)]
        with cgutils.for_range(builder, n_eights) as eights:
            for place in sums:
                builder.store(ir.Constant(_VECTOR, None), place)
            with cgutils.for_range(builder, n_blocks) as blocks:
                words = builder.mul(blocks.index, ir.Constant(_WORD, planes.count * LANES))
                row = _Planes(context, builder, array, builder.add(at, words))
                equal = [ir.Constant(_VECTOR, [-1] * LANES)]
                for p in range(3, planes.count):
                    absent = _absent(builder, eights.index, p - 3)
                    equal = [builder.and_(equal[0], builder.xor(row.load(p), absent))]
                for p in (2, 1, 0):  # the three lowest digits are those of the eight
                    digit = row.load(p)
                    parts = (builder.not_(digit), digit)
                    equal = [builder.and_(mask, part) for mask in equal for part in parts]
                for mask, place in zip(equal, sums, strict=True):
                    number = builder.call(ones, [mask])
                    builder.store(builder.add(builder.load(place), number), place)
            first = builder.mul(eights.index, ir.Constant(_WORD, 8))
            for value, place in enumerate(sums):
                target = builder.gep(result, [builder.add(first, ir.Constant(_WORD, value))])
                builder.store(builder.call(total, [builder.load(place)]), target)
        return context.get_dummy_value()

    place = types.int64
    return types.void(planes, _BITS, place, place, place, _COUNTS), generate


def _full_adder(builder: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    """Digit and carry of three bits."""
    either = builder.xor(a, b)
    carry = builder.or_(builder.and_(a, b), builder.and_(either, c))
    return builder.xor(either, c), carry


def _absent(builder: Any, value: Any, p: int) -> Any:
    """A vector of ones where digit p of one number is 0, else of zeros."""
    one = ir.Constant(_WORD, 1)
    digit = builder.and_(builder.lshr(value, ir.Constant(_WORD, p)), one)
    return splat(builder, builder.sub(digit, one), _VECTOR)


def _function(builder: Any, name: str, result: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [_VECTOR]), name)


@njit(cache=True, nogil=True)
def add_word(
    planes: tuple[int, ...],
    sums: NDArray[np.uint64],
    at: int,
    n_blocks: int,
    word: NDArray[np.uint8],
    is_letter: NDArray[np.uint64],
    column: int,
    longest: int,
) -> None:
    """Add to each number the letters in which a sequence agrees with a word.

    `is_letter` is packed from (..., 4, longest, n_sequences); the word's first letter is compared
    with `column` of it, its dimensions before the last as one.
    """
    step = len(planes) * LANES
    by_three = word.size - word.size % 3
    for k in range(n_blocks):
        row, block = at + k * step, k * LANES
        for c in range(0, by_three, 3):
            first = (word[c] * longest + column + c) * n_blocks * LANES + block
            second = (word[c + 1] * longest + column + c + 1) * n_blocks * LANES + block
            third = (word[c + 2] * longest + column + c + 2) * n_blocks * LANES + block
            add_three(planes, sums, row, is_letter, first, second, third)
        for c in range(by_three, word.size):
            letter = (word[c] * longest + column + c) * n_blocks * LANES + block
            add(planes, sums, row, is_letter, letter)
