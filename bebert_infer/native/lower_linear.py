"""Linear layers of a native program: which product multiplies, and what `bebert_kernels/program/layer.py` needs."""

import numpy as np

from bebert_infer.model.linear import BinaryLinear, Branch
from bebert_infer.model.quantizer import Quantizer
from bebert_infer.native.program_builder import Program, numbers, shift
from bebert_infer.native.release import release_signs
from bebert_kernels.abi import rule, slot
from bebert_kernels.abi.instruction import ByRows
from bebert_kernels.abi.product import Weights
from bebert_kernels.abi.sink import Input, Sink
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.program.layer import PRODUCTS, Layer
from bebert_kernels.rows.reciprocal import multiplies_exactly
from bebert_kernels.tuning.autotune import choose_gemm


def code_rule(quantizer: Quantizer, relu: bool = False) -> int:
    """How floats become its codes, see `bebert_kernels/rows/quantize.py`; relu : of max(x, 0)."""
    if quantizer.is_sign:
        return rule.SIGN
    low, high = quantizer.range
    plain = quantizer.kind == "codes" and quantizer.shift is None and quantizer.minimum == 0
    if relu and not (low == 0 and quantizer.step > 0):  # else codes below the lowest one, 0, are what it takes away
        plain = False
    if plain and multiplies_exactly(quantizer.step, low, high):
        return rule.PLAIN_CODES
    return rule.RELU_CODES if relu else rule.CODES


def code_bits(quantizer: Quantizer) -> int:
    """Bits of its codes, 0 for signs."""
    return 0 if quantizer.is_sign else quantizer.bits


def add_linear(program: Program, layer: BinaryLinear, source: int | None, sinks: list[Sink], name: str) -> None:
    """Encode the floats of `source` (None: codes are there), then multiply. Equal inputs are encoded once."""
    quantizers, places = different_inputs(layer)
    branches = [
        _weights(branch, layer, index, place)
        for index, (branch, place) in enumerate(zip(layer.branches, places, strict=True))
    ]
    depth = branches[0].depth
    if source is None:
        inputs = [Input(rule.ALREADY_CODED) for _ in quantizers]
    else:
        inputs = [Input(code_rule(one), numbers(one), shift(one, depth)) for one in quantizers]
    add_product(program, Layer(slot.FLOATS if source is None else source, inputs, branches, sinks), name)
    release_signs(program, layer.branches)


def different_inputs(layer: BinaryLinear) -> tuple[list[Quantizer], list[int]]:
    """The quantizers of a layer's branches, equal ones once, and for each branch which of these is its own."""
    quantizers: list[Quantizer] = []
    places = []
    for branch in layer.branches:
        same = [place for place, other in enumerate(quantizers) if _equal(other, branch.quantizer)]
        places.append(same[0] if same else len(quantizers))
        if not same:
            quantizers.append(branch.quantizer)
    return quantizers, places


def add_product(program: Program, made: Layer, name: str) -> None:
    """Encode and multiply, by the products that are fastest here for such a layer, for few rows and for many."""
    choice = choose_gemm(made.outputs, made.depth, made.bits)
    few, many = PRODUCTS[choice.few], PRODUCTS[choice.many]
    program.block = min(program.block, many.rows)
    program.sizes.layers |= {made.shape(few), made.shape(many)}
    macs = made.outputs * made.depth * len(made.branches)
    adders = (made.bits or 1) if many is BITSLICED else 0  # rows of signs with zeros take two
    if few is many:
        program.add(many.encode, made.encode(many), "encode")
        program.add(Stage.named("linear"), made.linear(many), name, macs, adders)
        return
    encode = ByRows(choice.limit, few.encode, [made.encode(few)], many.encode, [made.encode(many)])
    program.add(Stage.named("by_rows"), encode, "encode")
    linear = Stage.named("linear")
    multiply = ByRows(choice.limit, linear, [made.linear(few)], linear, [made.linear(many)])
    program.add(Stage.named("by_rows"), multiply, name, macs, adders, choice.limit)


def _weights(branch: Branch, layer: BinaryLinear, index: int, input: int) -> Weights:
    """A branch as kernels see it; arithmetic as in `linear.Branch.product`."""
    quantizer = branch.quantizer
    add = layer.bias if index == 0 else None
    if quantizer.minimum and not quantizer.is_sign:
        extra = np.float32(quantizer.minimum) * branch.scale * branch.sums
        add = extra if add is None else add + extra
    scale = np.float32(quantizer.step) * branch.scale
    return Weights(branch.signs, branch.depth, code_bits(quantizer), quantizer.range[0], scale, add, input)


def _equal(a: Quantizer, b: Quantizer) -> bool:
    if (a.kind, a.bits, a.signed, a.step, a.minimum) != (b.kind, b.bits, b.signed, b.step, b.minimum):
        return False
    return a.shift is b.shift or (a.shift is not None and b.shift is not None and np.array_equal(a.shift, b.shift))


def same_codes(layers: list[BinaryLinear]) -> bool:
    """Whether the branches of these layers read the same codes, each those of its number."""
    first = [branch.quantizer for branch in layers[0].branches]
    return all(
        len(layer.branches) == len(first)
        and all(_equal(branch.quantizer, one) for branch, one in zip(layer.branches, first, strict=True))
        for layer in layers
    )


def joined(layers: list[BinaryLinear]) -> BinaryLinear:
    """Layers whose branches read the same codes, as one layer of all their outputs."""
    return BinaryLinear(
        tuple(_side_by_side([layer.branches[i] for layer in layers]) for i in range(len(layers[0].branches))),
        np.concatenate([layer.bias for layer in layers]),
    )


def _side_by_side(branches: list[Branch]) -> Branch:
    return Branch(
        np.concatenate([branch.signs for branch in branches]),
        branches[0].depth,
        np.concatenate([branch.scale for branch in branches]),
        np.concatenate([branch.sums for branch in branches]),
        branches[0].quantizer,
    )
