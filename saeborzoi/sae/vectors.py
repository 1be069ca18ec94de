# mypy: allow-untyped-defs, allow-untyped-calls
# numba infers the types; each docstring states them
"""Operations on vectors of numbers for the compiled loops, written in LLVM's own language.

LLVM makes none of these of a loop by itself: sums over picked rows that stay in registers, and
numbers above a bound as bits of a mask. It has them for every processor, by wider or narrower
instructions. Arrays lie contiguously; an index into one of several axes counts all its numbers.

numba keeps what it compiled until the file of the loop changes: after a change here, remove
`saeborzoi/sae/__pycache__`.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

TILE = 64
"""Channels of a row that are worked on at once. Of thousands of rows that many channels fit a
core's second cache, and their sums fit its registers."""
CACHED_ROWS = 1024
"""Positions of which a pass over all channels stays in a core's cache."""
KEYS = 32
"""16-bit numbers that are compared at once."""

_FLOATS = 16
_AT_ONCE = 8, 4, 1
"""Vectors whose numbers are summed at once, while there are as many left: of 8 at once each takes
a third of the instructions that it takes alone."""
_FAST = ("reassoc", "contract", "nsz")
_i1, _i16, _i32, _i64 = (ir.IntType(n) for n in (1, 16, 32, 64))
_float = ir.FloatType()
_floats = ir.VectorType(_float, _FLOATS)
_keys = ir.VectorType(_i16, KEYS)


@intrinsic
def sum_rows(_, out, i, base, base_row, rows, channel, width, index, weight, first, last):
    """Write row `base_row` of `base` and `weight[e] * rows[index[e]]` for e in `first ... last`,
    summed, to row i of `out`.

    Channels `channel ... channel + TILE` only, or as far as the rows are wide; out, base, rows
    (any, width) float32; index int32, weight float32.
    """

    def code(builder, out, i, base, base_row, rows, channel, width, index, weight, first, last):
        out, base = (
            builder.gep(array, [builder.add(builder.mul(row, width), channel)])
            for array, row in ((out, i), (base, base_row))
        )
        rows = builder.gep(rows, [channel])
        for tile in _tiles(builder, channel, width):
            sums = [cgutils.alloca_once_value(builder, vector) for vector in tile.load(base)]
            with cgutils.for_range_slice(builder, first, last, _i64(1), inc=True) as (e, _):
                factor = _repeated(builder, builder.load(builder.gep(weight, [e])), _FLOATS)
                vectors = tile.load(_row(builder, rows, width, index, e))
                for total, vector in zip(sums, vectors, strict=True):
                    product = builder.fmul(factor, vector, flags=_FAST)
                    builder.store(builder.fadd(builder.load(total), product, flags=_FAST), total)
            tile.store([builder.load(total) for total in sums], out)

    n = types.int64
    signature = types.void(out, n, base, n, rows, n, n, index, weight, n, n)
    return signature, _generated(code)


@intrinsic
def residual(_, out, row, centred, i, pre_bias, channel, width, std, spread, factor):
    """Replace `out[row]` by `factor * r` with `r = std * out[row] - spread * (centred[i] +
    pre_bias)`, and return the sum of r².

    Channels as for `sum_rows`; out, centred (any, width), pre_bias (width,), the numbers float32.
    """

    def code(builder, out, row, centred, i, pre_bias, channel, width, std, spread, factor):
        out, centred = (
            builder.gep(array, [builder.add(builder.mul(place, width), channel)])
            for array, place in ((out, row), (centred, i))
        )
        pre_bias = builder.gep(pre_bias, [channel])
        std, spread, factor = (_repeated(builder, x, _FLOATS) for x in (std, spread, factor))
        total = cgutils.alloca_once_value(builder, ir.Constant(_floats, [0.0] * _FLOATS))
        for tile in _tiles(builder, channel, width):
            slopes = []
            for output, y, b in zip(*map(tile.load, (out, centred, pre_bias)), strict=True):
                target = builder.fmul(spread, builder.fadd(y, b), flags=_FAST)
                r = builder.fsub(builder.fmul(std, output, flags=_FAST), target, flags=_FAST)
                square = builder.fmul(r, r, flags=_FAST)
                builder.store(builder.fadd(builder.load(total), square, flags=_FAST), total)
                slopes.append(builder.fmul(factor, r, flags=_FAST))
            tile.store(slopes, out)
        summed = _function(builder, "llvm.vector.reduce.fadd.v16f32", _float, _float, _floats)
        return builder.call(summed, [_float(0.0), builder.load(total)], fastmath=_FAST)

    n, number = types.int64, types.float32
    signature = number(out, n, centred, n, pre_bias, n, n, number, number, number)
    return signature, _generated(code)


@intrinsic
def add_dots(_, out, vectors, i, rows, channel, width, index, first, last):
    """Add `vectors[i] · rows[index[e]]` to `out[e]` for e in `first ... last`.

    Over channels `channel ... channel + TILE` only, or as far as the rows are wide; vectors (any,
    width), rows (any, width), out float32; index int32.
    """

    def code(builder, out, vectors, i, rows, channel, width, index, first, last):
        vector = builder.gep(vectors, [builder.add(builder.mul(i, width), channel)])
        rows = builder.gep(rows, [channel])
        for tile in _tiles(builder, channel, width):
            ours = tile.load(vector)
            done = first
            for n in _AT_ONCE:
                n_left = builder.sub(last, done)
                end = builder.sub(last, builder.and_(n_left, _i64(n - 1)))
                with cgutils.for_range_slice(builder, done, end, _i64(n), inc=True) as (e, _):
                    totals = []
                    for k in range(n):
                        theirs = tile.load(
                            _row(builder, rows, width, index, builder.add(e, _i64(k)))
                        )
                        products = [
                            builder.fmul(one, other, flags=_FAST)
                            for one, other in zip(ours, theirs, strict=True)
                        ]
                        total = products[0]
                        for product in products[1:]:
                            total = _added(builder, total, product)
                        totals.append(total)
                    place = builder.gep(out, [e])
                    place = builder.bitcast(place, ir.VectorType(_float, n).as_pointer())
                    before = builder.load(place, align=4)
                    sums = _added(builder, before, _sums(builder, totals))
                    builder.store(sums, place, align=4)
                done = end

    n = types.int64
    return types.void(out, vectors, n, rows, n, n, index, n, n), _generated(code)


@intrinsic
def largest_keys(_, largest, at, bits, first, last, step):
    """Write the largest keys of `bits[first + lane :: step]` up to `last`, lane by lane of KEYS,
    to `largest[at + lane]`; int16, see `at_least`."""

    def code(builder, largest, at, bits, first, last, step):
        total = cgutils.alloca_once_value(builder, ir.Constant(_keys, [-32768] * KEYS))
        with cgutils.for_range_slice(builder, first, last, step, inc=True) as (j, _):
            keys, before = _ordered(builder, _load_keys(builder, bits, j)), builder.load(total)
            higher = builder.icmp_signed(">", keys, before)
            builder.store(builder.select(higher, keys, before), total)
        place = builder.bitcast(builder.gep(largest, [at]), _keys.as_pointer())
        builder.store(builder.load(total), place, align=2)

    n = types.int64
    return types.void(largest, n, bits, n, n, n), _generated(code)


@intrinsic
def at_least(_, bits, first, least):
    """Which of `bits[first : first + KEYS]` have a key of at least `least`: a uint32, one bit each.

    The key of a bfloat16 number's bits (int16) is the int16 that orders as the numbers do.
    """

    def code(builder, bits, first, least):
        keys = _ordered(builder, _load_keys(builder, bits, first))
        return _mask(builder, keys, least)

    return types.uint32(bits, types.int64, types.int16), _generated(code)


@intrinsic
def count_at_least(_, keys, first, last, least):
    """How many of the int16 numbers `first ... last` (a multiple of KEYS) are at least `least`."""

    def code(builder, keys, first, last, least):
        ones = _function(builder, "llvm.ctpop.i32", _i32, _i32)
        total = cgutils.alloca_once_value(builder, _i32(0))
        with cgutils.for_range_slice(builder, first, last, _i64(KEYS), inc=True) as (j, _):
            n = builder.call(ones, [_mask(builder, _load_keys(builder, keys, j), least)])
            builder.store(builder.add(builder.load(total), n), total)
        return builder.load(total)

    n = types.int64
    return types.int32(keys, n, n, types.int16), _generated(code)


@intrinsic
def lowest_bit(_, mask):
    """Which is the lowest bit of a uint32 that is set, 0 ... 31; 32 where none is."""

    def code(builder, mask):
        zeros = _function(builder, "llvm.cttz.i32", _i32, _i32, _i1)
        return builder.call(zeros, [mask, _i1(0)])

    return types.int32(types.uint32), _generated(code)


def _generated(code):
    """What numba calls: `code`, with a pointer in the place of each array."""

    def generate(context, builder, signature, values):
        plain = []
        for kind, value in zip(signature.args, values, strict=True):
            if isinstance(kind, types.Array):
                if kind.layout != "C":
                    raise TypingError(f"{kind} does not lie contiguously")
                value = context.make_array(kind)(context, builder, value).data
            plain.append(value)
        result = code(builder, *plain)
        return context.get_dummy_value() if result is None else result

    return generate


def _function(builder, name, result, *parameters):
    kind = ir.FunctionType(result, parameters)
    return cgutils.get_or_insert_function(builder.module, kind, name)


def _sums(builder, vectors):
    """The sum of the numbers of each of 1, 2, 4, ... vectors: a vector.

    Each is the second half of its numbers added to the first, the second quarter to the first, and
    so on, so that a sum does not depend on what is beside it. Two vectors' halves at once.
    """
    n, width = len(vectors), _FLOATS
    while len(vectors) > 1:
        width //= 2
        first = [i for i in range(2 * _FLOATS) if i // width % 2 == 0]
        second = [i + width for i in first]
        vectors = [
            _added(builder, *(_shuffled(builder, one, other, half) for half in (first, second)))
            for one, other in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    (total,) = vectors
    while width > 1:
        width //= 2
        other = [i ^ width for i in range(_FLOATS)]
        total = _added(builder, total, _shuffled(builder, total, total, other))
    return _shuffled(builder, total, total, range(0, _FLOATS, _FLOATS // n))


def _added(builder, one, other):
    return builder.fadd(one, other, flags=_FAST)


def _shuffled(builder, one, other, places):
    mask = ir.Constant(ir.VectorType(_i32, len(places)), list(places))
    return builder.shuffle_vector(one, other, mask)


def _repeated(builder, value, n):
    kind = ir.VectorType(value.type, n)
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, _i32(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_i32, n), [0] * n))


def _row(builder, rows, width, index, e):
    row = builder.sext(builder.load(builder.gep(index, [e])), _i64)
    return builder.gep(rows, [builder.mul(row, width)])


def _load_keys(builder, array, at):
    place = builder.bitcast(builder.gep(array, [at]), _keys.as_pointer())
    return builder.load(place, align=2)


def _ordered(builder, bits):
    """Bits of negative floats ascend downwards; turned to order as integers."""
    sign = builder.ashr(bits, ir.Constant(_keys, [15] * KEYS))
    return builder.xor(bits, builder.and_(sign, ir.Constant(_keys, [0x7FFF] * KEYS)))


def _mask(builder, keys, least):
    high = builder.icmp_signed(">=", keys, _repeated(builder, least, KEYS))
    return builder.bitcast(high, _i32)


def _tiles(builder, channel, width):
    """The two ways to load and store a tile, in a branch each: a whole one, and a row's last."""
    n_left = builder.sub(width, channel)
    is_whole = builder.icmp_signed(">=", n_left, _i64(TILE))
    with builder.if_else(is_whole) as (whole, last):
        with whole:
            yield _Tile(builder)
        with last:
            yield _Tile(builder, n_left)


class _Tile:
    def __init__(self, builder, n_left=None):
        self._builder, self._masks = builder, None
        if n_left is not None:
            lane = ir.Constant(ir.VectorType(_i64, _FLOATS), list(range(_FLOATS)))
            lefts = [builder.sub(n_left, _i64(at)) for at in range(0, TILE, _FLOATS)]
            self._masks = [
                builder.icmp_signed("<", lane, _repeated(builder, left, _FLOATS)) for left in lefts
            ]

    def _places(self, pointer):
        builder = self._builder
        places = [builder.gep(pointer, [_i64(at)]) for at in range(0, TILE, _FLOATS)]
        return [builder.bitcast(place, _floats.as_pointer()) for place in places]

    def load(self, pointer):
        places = self._places(pointer)
        if self._masks is None:
            return [self._builder.load(place, align=4) for place in places]
        masks, zeros = ir.VectorType(_i1, _FLOATS), ir.Constant(_floats, [0.0] * _FLOATS)
        parameters = places[0].type, _i32, masks, _floats
        load = _function(self._builder, "llvm.masked.load.v16f32.p0", _floats, *parameters)
        return [
            self._builder.call(load, [place, _i32(4), mask, zeros])
            for place, mask in zip(places, self._masks, strict=True)
        ]

    def store(self, vectors, pointer):
        places = self._places(pointer)
        if self._masks is None:
            for vector, place in zip(vectors, places, strict=True):
                self._builder.store(vector, place, align=4)
            return
        parameters = _floats, places[0].type, _i32, ir.VectorType(_i1, _FLOATS)
        store = _function(self._builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), *parameters)
        for vector, place, mask in zip(vectors, places, self._masks, strict=True):
            self._builder.call(store, [vector, place, _i32(4), mask])
