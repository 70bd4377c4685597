"""The register block of the byte product: 8 rows of codes times 32 outputs, four inputs an instruction (AVX-512 VNNI).

    out[i, n] = sums[i] - 2 * sum_k codes[i, k] * negative[n, k]

`vpdpbusd` multiplies 64 unsigned bytes by 64 signed bytes and adds groups of four into 16 integers. The unsigned
bytes are sign bits, spread out to 0 and 1 when they are needed; the signed bytes are four codes of one row, broadcast.
Sixteen outputs stand side by side in the lanes, so nothing is added across lanes at the end. Weights are kept in panels
that make spreading one masked move (`weight_panels`):

    word (block, quad): bit 4*o + j = sign of output 16*block + o at input 4*quad + j

On CPUs that have this instruction but no vector popcount (Cascade Lake) this is about twice as fast as four bitplanes
(`benchmarks/results/gemm.jsonl`: 1.5 to 1.9 times, packing of the activations included).
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

ROWS = 8
LANES = 16  # outputs in a block
BLOCKS = 2  # blocks at a time
QUAD = 4  # inputs in a word of a panel

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SUMS, _BYTES, _BITS = ir.VectorType(_I32, LANES), ir.VectorType(_I8, 64), ir.VectorType(ir.IntType(1), 64)
_DOT = "llvm.x86.avx512.vpdpbusd.512"


def _make_tile(blocks: int) -> Any:
    """Intrinsic of the block for `blocks` blocks of outputs: codes, panels, sums, out, first row, first block."""

    @intrinsic
    def tile(typing_context, codes, panels, sums, out, row, block):  # type: ignore[no-untyped-def]
        kinds = (codes, panels, sums, out)
        if not all(isinstance(kind, types.Array) and kind.layout == "C" for kind in kinds):
            return None

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            arrays = [make_array(kind)(context, builder, value) for kind, value in zip(kinds, arguments, strict=False)]
            row_value, block_value = arguments[4:]
            _Tile(builder, arrays, row_value, block_value, blocks).emit()
            return context.get_dummy_value()

        return types.void(*kinds, row, block), generate

    return tile


two_blocks = _make_tile(BLOCKS)
one_block = _make_tile(1)


class _Tile:
    """Emits the loop over quads of inputs for rows row .. row + 7 and some blocks of outputs."""

    def __init__(self, builder: ir.IRBuilder, arrays: list[Any], row: ir.Value, block: ir.Value, blocks: int) -> None:
        codes, panels, sums, out = arrays
        self.builder, self.row, self.block, self.blocks = builder, row, block, blocks
        self.quads = builder.extract_value(panels.shape, 1)
        self.outputs = builder.extract_value(out.shape, 1)
        self.codes = builder.bitcast(codes.data, _I32.as_pointer())
        self.panels, self.sums, self.out = panels.data, sums.data, out.data

    def emit(self) -> None:
        b = self.builder
        zero = ir.Constant(_SUMS, [0] * LANES)
        totals = [[cgutils.alloca_once_value(b, zero) for _ in range(self.blocks)] for _ in range(ROWS)]
        dot = cgutils.get_or_insert_function(b.module, ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES]), _DOT)
        with cgutils.for_range(b, self.quads, intp=_I64) as loop:
            spread = [self._spread(j, loop.index) for j in range(self.blocks)]
            for i in range(ROWS):
                place = b.add(b.mul(b.add(self.row, _I64(i)), self.quads), loop.index)
                four = b.bitcast(self._broadcast(b.load(b.gep(self.codes, [place]), align=1)), _BYTES)
                for total, bits in zip(totals[i], spread, strict=True):
                    b.store(b.call(dot, [b.load(total), bits, four]), total)
        for i in range(ROWS):
            base = self._broadcast(b.load(b.gep(self.sums, [b.add(self.row, _I64(i))])))
            for j, total in enumerate(totals[i]):
                negative = b.load(total)
                result = b.sub(base, b.add(negative, negative))
                column = b.mul(b.add(self.block, _I64(j)), _I64(LANES))
                place = b.add(b.mul(b.add(self.row, _I64(i)), self.outputs), column)
                b.store(result, b.bitcast(b.gep(self.out, [place]), _SUMS.as_pointer()), align=4)

    def _spread(self, j: int, quad: ir.Value) -> ir.Value:
        """The 64 sign bits of one word of a panel as 64 bytes, 0 or 1."""
        b = self.builder
        place = b.add(b.mul(b.add(self.block, _I64(j)), self.quads), quad)
        bits = b.bitcast(b.load(b.gep(self.panels, [place])), _BITS)
        return b.select(bits, ir.Constant(_BYTES, [1] * 64), ir.Constant(_BYTES, [0] * 64))

    def _broadcast(self, scalar: ir.Value) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(_SUMS, ir.Undefined), scalar, _I32(0))
        order = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, one, order)
