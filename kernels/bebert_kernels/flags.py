"""Sixty-four byte flags to one word, emitted as a vector comparison.

Loops that shift single bits into a word do not vectorize well; a comparison of 64 bytes whose result is read
as an integer is two instructions on AVX-512 and a few on AVX2 and NEON.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from bebert_kernels.packing import WORD_BITS

_I64 = ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), WORD_BITS)


def flag_word(flags: NDArray[np.uint8], word: int) -> np.uint64:
    """Word whose bit j is 1 iff flags[64 * word + j] != 0.

    flags : uint8[64 * W], contiguous
    """
    part = flags[word * WORD_BITS : (word + 1) * WORD_BITS]
    return np.packbits(part != 0, bitorder="little").view("<u8")[0]


@intrinsic
def _flag_word(typing_context, flags, word):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        array = make_array(flags)(context, builder, arguments[0])
        first = builder.gep(array.data, [builder.mul(arguments[1], _I64(WORD_BITS))])
        block = builder.load(builder.bitcast(first, _BYTES.as_pointer()), align=1)
        ones = builder.icmp_unsigned("!=", block, ir.Constant(_BYTES, [0] * WORD_BITS))
        return builder.bitcast(ones, _I64)

    return types.uint64(flags, types.int64), generate


@overload(flag_word)
def _flag_word_overload(flags, word):  # type: ignore[no-untyped-def]
    return lambda flags, word: _flag_word(flags, word)  # type: ignore[call-arg]  # numba adds the first
