"""Machine words at any address, and the few instructions that numba has no name for.

All integers are int64, because int64 with uint64 becomes a float in numba; words wrap, and shifts to the
right are logical. Addresses are only valid while the caller holds the object that they were taken from.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_BYTE = ir.IntType(8)
_WORD = ir.IntType(64)


@intrinsic
def address_of(_typing, buffer):
    """``(bytes or array) -> int64``: the address of the first byte."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(array.data, _WORD)

    return types.int64(buffer), generate


def _unaligned_load(builder, address, kind):
    pointer = builder.inttoptr(address, kind.as_pointer())
    return builder.load(pointer, align=1, typ=kind)


def _loader(bits):
    def load(_typing, _address):
        def generate(_context, builder, _signature, arguments):
            value = _unaligned_load(builder, arguments[0], ir.IntType(bits))
            return value if bits == 64 else builder.zext(value, _WORD)

        return types.int64(types.int64), generate

    load.__doc__ = f"``(address) -> int64``: {bits} bits, little-endian, zero-extended."
    return intrinsic(load)


load8 = _loader(8)
load16 = _loader(16)
load32 = _loader(32)
load64 = _loader(64)


@intrinsic
def store64(_typing, _address, _word):
    """``(address, word) -> None``: write 64 bits, little-endian."""

    def generate(context, builder, _signature, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        builder.store(arguments[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def quote_mask(_typing, _address):
    """``(address) -> int64``: bit i is set where byte i of the next 64 is a double quote."""

    def generate(_context, builder, _signature, arguments):
        block = ir.VectorType(_BYTE, 64)
        bytes_ = _unaligned_load(builder, arguments[0], block)
        quotes = ir.Constant(block, [ord('"')] * 64)
        return builder.bitcast(builder.icmp_unsigned("==", bytes_, quotes), _WORD)

    return types.int64(types.int64), generate


@intrinsic
def trailing_zeros(_typing, _word):
    """``(word) -> int64``: the number of the lowest set bit; 64 if none is set."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@intrinsic
def shift_right(_typing, _word, _count):
    """``(word, count) -> int64``: logical shift; only the low six bits of the count matter."""

    def generate(_context, builder, _signature, arguments):
        return builder.lshr(arguments[0], builder.and_(arguments[1], ir.Constant(_WORD, 63)))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def as_double(_typing, _word):
    """``(word) -> float64``: the same bits."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def move_words(_typing, array, _target, _source, _count):
    """``(int64 array, target, source, count) -> None``: copy words within it; the ranges may overlap."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        to, origin = (builder.gep(data, [index]) for index in arguments[1:3])
        cgutils.raw_memmove(builder, to, origin, arguments[3], 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64), generate
