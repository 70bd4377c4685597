"""A branch of a linear layer: one matrix of weight signs, its product and its scales."""

from typing import NamedTuple

from bebert_kernels.abi.table import Address


class Branch(NamedTuple):
    """Arrays are padded to whole panels of outputs. Which product multiplies is written here and nowhere else.

    gemm, epilogue : stages of the product, see `program/linear.py`; no epilogue where the gemm leaves floats
    sign_epilogue  : stage that makes signs from the thresholds of a panel, or None
    panels         : weights as the gemm reads them
    depth, triples : K; triples of a row (bitsliced, else 0)
    planes, sign   : bits of a code; 1 for signs, whose codes may have two planes, one with zeros as + and one as -
    offset         : int32, what an epilogue adds to its sums; None where all are 0 (popcount)
    scale, add     : float32; add may be None: zeros, for the second branch only
    input          : number of its input, 0 or 1
    outputs        : N
    thresholds     : list of those of each panel (`bitsliced/thresholds.py`), None where floats must decide;
                     None if floats are always wanted
    """

    gemm: Address
    epilogue: Address
    sign_epilogue: Address
    panels: Address
    depth: int
    triples: int
    planes: int
    sign: int
    offset: Address
    scale: Address
    add: Address
    input: int
    outputs: int
    thresholds: Address
