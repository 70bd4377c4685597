"""LLVM types and constants of vector code."""

from llvmlite import ir

FLOAT_LANES = 16  # floats of a vector, and lanes of a lane sum

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
FLOATS, BYTES = ir.VectorType(F32, FLOAT_LANES), ir.VectorType(I8, FLOAT_LANES)


def fill(kind: ir.VectorType, value: float) -> ir.Constant:
    """Constant vector of equal lanes."""
    return ir.Constant(kind, [value] * kind.count)
