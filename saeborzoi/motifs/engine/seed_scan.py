"""Compiled loops over starting points: every subsequence of the data is compared with every window
of every sequence.

A window scores the letters in which it agrees with the subsequence. That is all there is to it: a
starting matrix gives each letter of the subsequence `SEED_SHARPNESS` and the others the same.

Scores of `BLOCK` sequences at a time are kept in binary, a vector for each binary digit ("plane")
with one bit a sequence, and are added and compared digit by digit: a score takes five bits where a
byte would be eight, and a letter one. That makes it four times as fast as with bytes, as all that
is looked at stays in the first cache. LLVM cuts the vectors to what the processor has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]
U8 = NDArray[np.uint64]

_LANES = 8
BLOCK = 64 * _LANES
"""Sequences of one vector."""
_PLANES = (5, 6, 8)
"""Binary digits of a score; the loops are compiled for each that is needed."""
MAX_WIDTH = 2 ** _PLANES[-1] - 1
"""bp."""

_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, _LANES)
_BITS = types.Array(types.uint64, 1, "C")


def scan_seeds(
    letters: U1,
    lengths: I8,
    is_letter: U1,
    mask: U1,
    is_seed: U1,
    numbers: I8,
    background: F8,
) -> F8:
    """A lower bound of the log-likelihood ratio of each subsequence's best windows.

    The best so many windows agree with the subsequence in a share `f` of their letters. Were it the
    same share in each column, the ratio would be at least `n sum_c KL(f, p_c)`, `p_c` the
    background of the column's letter. It orders subsequences well enough to align a few only.

    Parameters
    ----------
    letters
        (n_sequences, longest) uint8, given strand: the subsequences.
    is_letter, mask
        As of `SearchData` and `MotifWindows`.
    is_seed
        (n_sequences, n_windows) uint8, 1 where a subsequence is to be rated.
    numbers
        (n_numbers,) int64, ascending.

    Returns
    -------
    (n_sequences, n_windows, n_numbers) float64, nats; -inf where it is not rated. Where there are
    fewer free windows than the number, that of all of them.
    """
    n, n_windows = is_seed.shape
    width = letters.shape[1] - n_windows + 1
    planes = (0,) * next(p for p in _PLANES if width < 2**p)
    x = np.arange(n * width + 1, dtype=float)
    rating = np.full((n, n_windows, numbers.size), -np.inf)
    _scan(
        letters, lengths, _packed(is_letter), _packed(mask), len(mask), is_seed, numbers,
        np.log(background), np.log(1.0 - background), x * np.log(np.maximum(x, 1)), planes, rating,
    )  # fmt: skip
    return rating


def _packed(rows: U1) -> U8:
    """Flat: of (..., n_sequences) the bits of what is not 0, each row filled up to whole blocks."""
    n = rows.shape[-1]
    filled = np.zeros((*rows.shape[:-1], -(-n // BLOCK) * BLOCK), np.bool_)
    filled[..., :n] = rows
    return np.packbits(filled, axis=-1, bitorder="little").ravel().view(np.uint64)


@njit(cache=True, nogil=True)
def _scan(
    letters: U1,
    lengths: I8,
    is_letter: U8,
    mask: U8,
    n_strands: int,
    is_seed: U1,
    numbers: I8,
    log_p: F8,
    log_q: F8,
    x_log_x: F8,
    planes: tuple[int, ...],
    rating: F8,
) -> None:
    n, longest = letters.shape
    n_windows = is_seed.shape[1]
    width = longest - n_windows + 1
    n_blocks = (n + BLOCK - 1) // BLOCK
    step = len(planes) * _LANES
    agree = np.zeros(n_strands * n_windows * n_blocks * step, np.uint64)
    best = np.zeros(n_blocks * step, np.uint64)
    for x in range(n):
        if not is_seed[x].any():
            continue
        for i in range(lengths[x] - width + 1):
            best[:] = 0
            for s in range(n_strands):
                joins = (s * 4 + letters[x, i + width - 1]) * longest + width - 1
                leaves = (s * 4 + letters[x, i - 1]) * longest - 1
                for j in range(n_windows):
                    # a row holds one diagonal, along which one letter leaves and one joins
                    diagonal = j - i if j >= i else j - i + n_windows
                    row = (s * n_windows + diagonal) * n_blocks
                    if i > 0 and j > 0:
                        for k in range(n_blocks):
                            _move(
                                planes, agree, (row + k) * step,
                                is_letter, ((joins + j) * n_blocks + k) * _LANES,
                                is_letter, ((leaves + j) * n_blocks + k) * _LANES,
                            )  # fmt: skip
                    else:
                        agree[row * step : (row + n_blocks) * step] = 0
                        for c in range(width):
                            letter = (s * 4 + letters[x, i + c]) * longest + j + c
                            for k in range(n_blocks):
                                _add(
                                    planes, agree, (row + k) * step,
                                    is_letter, (letter * n_blocks + k) * _LANES,
                                )  # fmt: skip
                    if is_seed[x, i]:
                        free = (s * n_windows + j) * n_blocks
                        for k in range(n_blocks):
                            _keep_larger(
                                planes, best, k * step, agree, (row + k) * step,
                                mask, (free + k) * _LANES,
                            )  # fmt: skip
            if is_seed[x, i]:
                sum_p, sum_q = 0.0, 0.0
                for c in range(width):
                    sum_p += log_p[letters[x, i + c]] / width
                    sum_q += log_q[letters[x, i + c]] / width
                _rate(best, n_blocks, width, numbers, sum_p, sum_q, x_log_x, planes, rating[x, i])


@njit(cache=True, nogil=True)
def _rate(
    best: U8,
    n_blocks: int,
    width: int,
    numbers: I8,
    mean_log_p: float,
    mean_log_q: float,
    x_log_x: F8,
    planes: tuple[int, ...],
    rating: F8,
) -> None:
    """The bound of `scan_seeds` at each number, from each sequence's best agreement."""
    step = len(planes) * _LANES
    g, taken, letters = 0, 0, 0
    for agree in range(width, -1, -1):
        here = 0
        if agree > 0:  # else no free window, or none that agrees at all
            for k in range(n_blocks):
                here += _count(planes, best, k * step, agree)
        last = agree == 0
        while g < numbers.size and (last or taken + here >= numbers[g]):
            n = taken if last else numbers[g]
            if n < 2:
                break
            alike = letters + (n - taken) * agree
            unlike = n * width - alike
            rating[g] = (
                x_log_x[alike] + x_log_x[unlike] - x_log_x[n * width]
                - alike * mean_log_p - unlike * mean_log_q
            )  # fmt: skip
            g += 1
        letters += here * agree
        taken += here


class _Planes:
    """Vectors at a place of a flat array, in LLVM's language."""

    def __init__(self, context: Any, builder: Any, array: Any, at: Any) -> None:
        self.builder = builder
        data = context.make_array(_BITS)(context, builder, array).data
        self.first = builder.gep(data, [at])

    def _at(self, p: int) -> Any:
        place = self.builder.gep(self.first, [ir.Constant(_WORD, p * _LANES)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())

    def load(self, p: int = 0) -> Any:
        value = self.builder.load(self._at(p))
        value.align = 8
        return value

    def store(self, value: Any, p: int) -> None:
        self.builder.store(value, self._at(p)).align = 8


@intrinsic  # type: ignore[untyped-decorator]
def _add(typing: Any, planes: Any, agree: Any, at: Any, letter: Any, letter_at: Any) -> Any:
    """Add a bit to each score."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        row = _Planes(context, builder, *arguments[1:3])
        carry = _Planes(context, builder, *arguments[3:5]).load()
        for p in range(planes.count):
            digit = row.load(p)
            row.store(builder.xor(digit, carry), p)
            carry = builder.and_(digit, carry)
        return context.get_dummy_value()

    return types.void(planes, _BITS, types.int64, _BITS, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _move(
    typing: Any,
    planes: Any,
    agree: Any,
    at: Any,
    joins: Any,
    joins_at: Any,
    leaves: Any,
    leaves_at: Any,
) -> Any:
    """Add one bit to each score and take another away."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        row = _Planes(context, builder, *arguments[1:3])
        joining = _Planes(context, builder, *arguments[3:5]).load()
        leaving = _Planes(context, builder, *arguments[5:7]).load()
        carry = builder.xor(joining, leaving)
        for p in range(planes.count):
            digit = row.load(p)
            row.store(builder.xor(digit, carry), p)
            # 1 is carried where a digit was 1, and borrowed where it was 0
            carry = builder.and_(carry, builder.xor(digit, leaving))
        return context.get_dummy_value()

    signature = types.void(
        planes, _BITS, types.int64, _BITS, types.int64, _BITS, types.int64
    )
    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _keep_larger(
    typing: Any,
    planes: Any,
    best: Any,
    best_at: Any,
    agree: Any,
    at: Any,
    free: Any,
    free_at: Any,
) -> Any:
    """Take each score that is larger than the best one and free."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        kept = _Planes(context, builder, *arguments[1:3])
        row = _Planes(context, builder, *arguments[3:5])
        larger = ir.Constant(_VECTOR, None)
        digits = [(kept.load(p), row.load(p)) for p in range(planes.count)]
        for old, new in digits:  # the last digit that differs decides
            larger = builder.or_(
                builder.and_(new, builder.not_(old)),
                builder.and_(larger, builder.not_(builder.xor(new, old))),
            )
        larger = builder.and_(larger, _Planes(context, builder, *arguments[5:7]).load())
        for p, (old, new) in enumerate(digits):
            kept.store(builder.xor(old, builder.and_(larger, builder.xor(new, old))), p)
        return context.get_dummy_value()

    signature = types.void(
        planes, _BITS, types.int64, _BITS, types.int64, _BITS, types.int64
    )
    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _count(typing: Any, planes: Any, best: Any, at: Any, value: Any) -> Any:
    """The scores that are `value`."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        scores = _Planes(context, builder, *arguments[1:3])
        equal = None
        for p in range(planes.count):
            digit = builder.and_(builder.lshr(arguments[3], ir.Constant(_WORD, p)), _one())
            other = builder.sub(digit, _one())  # all bits where the digit is 0
            empty = ir.Constant(_VECTOR, ir.Undefined)
            first = builder.insert_element(empty, other, ir.Constant(ir.IntType(32), 0))
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
            alike = builder.xor(
                scores.load(p), builder.shuffle_vector(first, empty, everywhere)
            )
            equal = alike if equal is None else builder.and_(equal, alike)
        count = _function(builder, "llvm.ctpop.v8i64", _VECTOR)
        total = _function(builder, "llvm.vector.reduce.add.v8i64", _WORD)
        return builder.call(total, [builder.call(count, [equal])])

    return types.int64(planes, _BITS, types.int64, types.int64), generate


def _one() -> Any:
    return ir.Constant(_WORD, 1)


def _function(builder: Any, name: str, result: Any) -> Any:
    return cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [_VECTOR]), name
    )
