"""Linear layers of a native program: what kernels read of inputs, branches and limits; `linear.py` says the same."""

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.linear import BinaryLinear, Branch
from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.program_builder import Program
from bebert_kernels.abi import layout as at
from bebert_kernels.bitsliced import epilogue as sliced_finish
from bebert_kernels.bitsliced import gemm as sliced_gemm
from bebert_kernels.bitsliced.thresholds import limit_planes, sign_limits
from bebert_kernels.bitsliced.tile import PANEL_OUTPUTS
from bebert_kernels.bitsliced.triples import natural_places, pack_panels, triple_count
from bebert_kernels.lookup.gemm import lut_bytes, lut_weights
from bebert_kernels.lookup.stages import BLOCK as LOOKUP_BLOCK
from bebert_kernels.lookup.stages import lookup_encode, lookup_epilogue, lookup_gemm
from bebert_kernels.program import stages
from bebert_kernels.program.linear import linear
from bebert_kernels.reference.integers import GELU_ZERO
from bebert_kernels.rows.quantize import NOWHERE
from bebert_kernels.tuning.autotune import LOOKUP, choose_gemm

Limits = list[NDArray[np.uint64] | None]  # of each panel


def input_planes(quantizer: Quantizer) -> int:
    """Index planes of the codes of a quantizer: two for signs, which may be 0."""
    return 2 if quantizer.is_sign else quantizer.bits


def code_rule(quantizer: Quantizer) -> int:
    """How floats become its codes, see `row_codes.quantize_row`."""
    return at.SIGN_RULE if quantizer.is_sign else at.CODE_RULE


def add_linear(program: Program, layer: BinaryLinear, source: int | None, sinks: list[list[int]], name: str) -> None:
    """Encode the floats of `source` (None: codes are there), then multiply. Equal inputs are encoded once."""
    quantizers: list[Quantizer] = []
    origin = []
    for branch in layer.branches:
        same = [i for i, other in enumerate(quantizers) if source is not None and _equal(other, branch.quantizer)]
        origin.append(same[0] if same else len(quantizers))
        if not same:
            quantizers.append(branch.quantizer)
    depth, planes = layer.branches[0].depth, input_planes(quantizers[0])
    outputs = len(layer.bias)
    lookup = False
    if not quantizers[0].is_sign:
        lookup = choose_gemm(outputs, depth, planes, program.expected) == LOOKUP
    if source is None:
        rules = [at.READY] * len(quantizers)
    else:
        rules = [code_rule(quantizer) for quantizer in quantizers]
    inputs = [
        [rule, program.keep(program.numbers(quantizer)), program.shift(quantizer, depth), 0, 0, 0, 0, 0, 0]
        for rule, quantizer in zip(rules, quantizers, strict=True)
    ]
    program.sizes.depth = max(program.sizes.depth, depth)
    triples = triple_count(depth)
    if lookup:
        program.block = min(program.block, LOOKUP_BLOCK)
        program.sizes.tables = max(program.sizes.tables, lut_bytes(program.block, depth))
    else:
        program.sizes.index = max(program.sizes.index, planes * triples)
    table = program.keep(np.array(inputs, np.int64))
    slot = at.FLOATS if source is None else source
    encode = lookup_encode if lookup else stages.bitsliced_encode
    sign = int(quantizers[0].is_sign)
    program.add(encode, slot, depth, table, len(inputs), planes, triples, sign, name="encode")
    if not lookup:
        program.sizes.state = max(program.sizes.state, sliced_gemm.state_bytes(triples, planes, quantizers[0].is_sign))
    limits = _limits(program, layer, sinks)
    branches = [_branch(program, layer, index, number, lookup, limits) for index, number in enumerate(origin)]
    rows = program.keep(np.array(branches, np.int64))
    ends = program.keep(np.array(sinks, np.int64))
    macs = outputs * depth * len(branches)
    multiplied = 0 if lookup else 1 if quantizers[0].is_sign else planes  # rows with zeros take two
    program.add(linear, outputs, rows, len(branches), ends, len(sinks), name=name, macs=macs, planes=multiplied)


def _branch(
    program: Program, layer: BinaryLinear, index: int, number: int, lookup: bool, limits: Limits | None
) -> list[int]:
    """One row of the table of branches; arithmetic as in `linear.Branch.product`."""
    branch = layer.branches[index]
    quantizer, depth, outputs = branch.quantizer, branch.depth, len(layer.bias)
    low = quantizer.range[0]
    negatives = ((depth - branch.sums) / 2).astype(np.int64)
    if quantizer.is_sign:
        offset = np.full(outputs, depth, np.int64)
    else:
        offset = low * (depth - 2 * negatives)
        if not lookup:
            offset -= (2**quantizer.bits - 1) * negatives
    addend = layer.bias if index == 0 else np.zeros(0, np.float32)
    if quantizer.minimum and not quantizer.is_sign:
        extra = np.float32(quantizer.minimum) * branch.scale * branch.sums
        addend = addend + extra if index == 0 else extra
    scale = np.float32(quantizer.step) * branch.scale
    padded = -(-outputs // PANEL_OUTPUTS) * PANEL_OUTPUTS
    weights: NDArray
    steps, places = depth, np.arange(padded)
    if lookup:
        stages_ = lookup_gemm, lookup_epilogue
        weights = lut_weights(branch.signs, depth)
    else:
        stages_ = sliced_gemm.bitsliced_gemm, sliced_finish.bitsliced_epilogue
        weights, steps = pack_panels(branch.signs, depth, natural=limits is not None), triple_count(depth)
        if limits is not None:
            places = natural_places(outputs)
    table = []
    if limits is not None:
        table = [0 if planes is None else program.keep(planes) for planes in limits]
    return [
        *(stage.address for stage in stages_),
        program.keep(weights),
        steps,
        input_planes(quantizer),
        int(quantizer.is_sign),
        program.keep(_padded(offset.astype(np.int32), padded)[places]),
        program.keep(_padded(scale, padded)[places]),
        program.keep(_padded(addend, padded)[places]) if len(addend) else 0,
        number,
        outputs,
        program.keep(np.array(table, np.int64)) if table else 0,
        sliced_finish.bitsliced_sign_epilogue.address if table else 0,
    ]


def _limits(program: Program, layer: BinaryLinear, sinks: list[list[int]]) -> Limits | None:
    """Limits of the sums of a layer of signs all of whose sinks want signs; None if there is no need or no way."""
    branch, outputs = layer.branches[0], len(layer.bias)
    if not branch.quantizer.is_sign or len(layer.branches) > 1:
        return None
    shift, floor = np.zeros(outputs, np.float32), np.full(outputs, NOWHERE, np.float32)
    taken = np.zeros(outputs, np.int64)
    for sink in sinks:
        columns = slice(sink[at.START], sink[at.START] + sink[at.WIDTH])
        taken[columns] += 1
        if sink[at.KIND] == at.TO_BYTES and sink[at.RULE] in (at.SIGN_RULE, at.GELU_RULE) and sink[at.START] == 0:
            shift[columns] = program.kept[sink[at.SHIFT]]
            if sink[at.RULE] == at.GELU_RULE:
                floor[columns] = GELU_ZERO
        elif sink[at.KIND] != at.TO_WORDS:
            return None
    if (taken != 1).any():
        return None
    scale = np.float32(branch.quantizer.step) * branch.scale
    return limit_planes(sign_limits(branch.depth, scale, layer.bias, shift, floor))


def _padded(values: NDArray, count: int) -> NDArray:
    out = np.zeros(count, values.dtype)
    out[: len(values)] = values
    return out


def _equal(a: Quantizer, b: Quantizer) -> bool:
    if (a.kind, a.bits, a.signed, a.step, a.minimum) != (b.kind, b.bits, b.signed, b.step, b.minimum):
        return False
    return a.shift is b.shift or (a.shift is not None and b.shift is not None and np.array_equal(a.shift, b.shift))


def joined(layers: list[BinaryLinear]) -> BinaryLinear:
    """Layers of one branch on the same codes as one layer of all their outputs."""
    branches = [layer.branches[0] for layer in layers]
    joined = Branch(
        np.concatenate([branch.signs for branch in branches]),
        branches[0].depth,
        np.concatenate([branch.scale for branch in branches]),
        np.concatenate([branch.sums for branch in branches]),
        branches[0].quantizer,
        branches[0].kernels,
    )
    return BinaryLinear((joined,), np.concatenate([layer.bias for layer in layers]))
