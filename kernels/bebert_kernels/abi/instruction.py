"""The instructions of a program: the address of a stage, then the arguments of that stage, which are described here.

What a stage reads and leaves is said where it is defined: `program/stages.py`, `program/linear.py` and the products.
"""

from typing import NamedTuple

from bebert_kernels.abi.table import Address

FIELDS = 16  # of an instruction: the stage and up to 15 arguments


class Encode(NamedTuple):
    """Rows to what a product reads.

    source              : slot of float32[rows, depth]; not read if all inputs are ALREADY_CODED
    inputs, input_count : list of `sink.Input`, its length
    planes, sign        : as in `branch.Branch`, the same for all inputs
    triples             : of a row (bitsliced, else 0)
    low                 : the lowest code, what byte 0 stands for (lookup)
    """

    source: int
    depth: int
    inputs: Address
    input_count: int
    planes: int
    sign: int
    triples: int
    low: int


class Linear(NamedTuple):
    """A layer of encoded rows. branches, sinks : lists of `branch.Branch` (1 or 2) and `sink.Sink`."""

    outputs: int
    branches: Address
    branch_count: int
    sinks: Address
    sink_count: int


class ByRows(NamedTuple):
    """One of two instructions that give the same: `few` for blocks of at most `limit` rows, else `many`.

    few, many : stages      few_arguments, many_arguments : lists of their arguments, one row
    """

    limit: int
    few: Address
    few_arguments: Address
    many: Address
    many_arguments: Address


class Embed(NamedTuple):
    """Embeddings. tables : 1 or 2 word tables; with 1 the second one repeats the first. norm : gamma, beta, epsilon."""

    tables: int
    signs0: Address
    scale0: Address
    signs1: Address
    scale1: Address
    positions: Address
    types: Address
    gamma: Address
    beta: Address
    epsilon: Address
    zeros: Address
    width: int
    vocabulary: int
    position_rows: int
    type_rows: int


class Norm(NamedTuple):
    """LayerNorm in place. rows : slot; epsilon float32[1], zeros float32[TOGETHER, width]."""

    rows: int
    gamma: Address
    beta: Address
    epsilon: Address
    zeros: Address
    width: int


class Attend(NamedTuple):
    """Attention. store : slot of the queries; numbers : float32[5] `rule.SoftmaxNumbers`, None on bits."""

    heads: int
    size: int
    store: int
    numbers: Address


class Measure(NamedTuple):
    """Least and largest value of each row of a slot, float32[rows, width], to a half of RANGES."""

    source: int
    width: int
    half: int


class Quantize(NamedTuple):
    """Rows of a slot, float32[rows, width], to BYTES of input 0; their step and minimum to CODED.

    half    : of RANGES, not read if `numbers` are STORED      branch : 0 or 1
    rule    : of `abi/rule.py`, with `numbers` float32[4] and `shift` float32[width]
    source_of_numbers : STORED, or SYMMETRIC or ASYMMETRIC statistics of values within `clip` float32[2]
    """

    source: int
    width: int
    half: int
    branch: int
    rule: int
    source_of_numbers: int
    numbers: Address
    shift: Address
    clip: Address


class Combine(NamedTuple):
    """DOTS of one or two branches to outputs.

    scales, sums : list of float32[outputs] of each branch      bias : float32[outputs]
    to           : slot of float32[rows, outputs]; `adds`: to what is there; `relu`: of the result
    """

    outputs: int
    branch_count: int
    scales: Address
    sums: Address
    bias: Address
    to: int
    adds: int
    relu: int


class Activate(NamedTuple):
    """GELU of the rows of WIDE, to ACTIVATED."""

    width: int


class Site(NamedTuple):
    """A quantizer within attention on floats; fields as those of `Quantize`."""

    rule: int
    source_of_numbers: int
    numbers: Address
    clip: Address


class AttendFloats(NamedTuple):
    """Attention from queries, keys, values in float32, a sentence at a time.

    sites : list of `Site`: of queries, keys, values and probabilities; None for attention on bits
    half  : of RANGES that receives those of the context
    """

    heads: int
    size: int
    sites: Address
    half: int


class Gather(NamedTuple):
    """First tokens."""

    width: int


class Classify(NamedTuple):
    """The classifier. weight float32[labels, width], bias float32[labels]."""

    width: int
    labels: int
    weight: Address
    bias: Address
