"""A member as one native program: the same model as `member.py`, without the interpreter between its operations.

`member.py` and the files around it are the readable form, which takes every quantizer, both backends, and keeps
traces. Here the operations of that form are written down once, as tables of addresses and sizes, and
`bebert_kernels.program.run` executes them in one call a thread. Both give the same bits.
"""

import math
import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bebert_infer.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.batch import Batch
from bebert_infer.block import Block, Norm
from bebert_infer.linear import BinaryLinear, Branch
from bebert_infer.member import Member
from bebert_infer.quantizer import Quantizer
from bebert_infer.workspace import Sizes, Workspace
from bebert_kernels import sliced_gemm, stages
from bebert_kernels import slots as at
from bebert_kernels.attend_bits import scratch_words as bit_scratch
from bebert_kernels.attend_codes import scratch_units
from bebert_kernels.choice import LOOKUP, MANY, product
from bebert_kernels.count_tile import LANES
from bebert_kernels.linear_rows import linear
from bebert_kernels.lut_gemm import lut_bytes, lut_weights
from bebert_kernels.lut_product import BLOCK as LOOKUP_BLOCK
from bebert_kernels.lut_product import look_up, look_up_encode, look_up_finish
from bebert_kernels.operation import Operation, available
from bebert_kernels.packing import words
from bebert_kernels.program import run
from bebert_kernels.reference import GELU_ZERO
from bebert_kernels.row_codes import NOWHERE
from bebert_kernels.row_norm import TOGETHER
from bebert_kernels.sliced_gemm import state_bytes
from bebert_kernels.thresholds import limit_planes, sign_limits
from bebert_kernels.triples import MAX_DEPTH, natural_places, pack_panels, triple_count
from bebert_kernels.warm import warm

Limits = list[NDArray[np.uint64] | None]  # of each panel
Start = Callable[[list[Callable[[], None]]], None]


def supported(member: Member) -> bool:
    """Whether a native program computes this member: fixed quantizers, GELU only where its sign is enough."""
    linears = [member.pooler]
    for block in member.blocks:
        linears += [getattr(block, name) for name in LINEARS]
        if block.gelu and not all(branch.quantizer.kind == "sign" for branch in block.output.branches):
            return False
        attention = block.attention
        if isinstance(attention, BooleanAttention):
            if any(branch.quantizer.kind != "sign" for branch in block.attention_output.branches):
                return False
        elif attention.probabilities.kind not in ("codes", "bool") or attention.probabilities.minimum:
            return False
        elif attention.probabilities.signed:
            return False
        elif any(q.kind == "dynamic" for q in (attention.query, attention.key, attention.value)):
            return False
    for layer in linears:
        planes = {_planes(branch.quantizer) for branch in layer.branches}
        signs = {branch.quantizer.is_sign for branch in layer.branches}
        if len(planes) != 1 or len(signs) != 1:
            return False
        for branch in layer.branches:
            if branch.quantizer.kind == "dynamic" or branch.depth > MAX_DEPTH:
                return False
    return True


def compile_members(members: list[Member]) -> "list[NativeMember | None]":
    """Return the native form of every member that has one; None for the others, and for all of them without a JIT."""
    native = [available() and supported(member) for member in members]
    warm(_operations([member for member, possible in zip(members, native, strict=True) if possible]))
    return [NativeMember(member) if possible else None for member, possible in zip(members, native, strict=True)]


def _operations(members: list[Member]) -> list[Operation]:
    """What these members will need, so that it can be compiled side by side; the longest ones at both ends."""
    if not members:
        return []
    boolean = any(isinstance(block.attention, BooleanAttention) for member in members for block in member.blocks)
    softmax = any(isinstance(block.attention, SoftmaxAttention) for member in members for block in member.blocks)
    found = [linear, stages.encode, stages.embed]
    found += [sliced_gemm.decide] if boolean else []
    found += [look_up, look_up_finish, look_up_encode] if softmax else []
    found += [stages.norm, stages.gather, stages.classify]
    found += [stages.attend_on_bits] if boolean else []
    found += [stages.attend_on_codes] if softmax else []
    return [*found, sliced_gemm.finish, sliced_gemm.count]


LINEARS = ("query", "key", "value", "attention_output", "intermediate", "output")


def _planes(quantizer: Quantizer) -> int:
    return 2 if quantizer.is_sign else quantizer.bits


def _rule(quantizer: Quantizer) -> int:
    return at.SIGN_RULE if quantizer.is_sign else at.CODE_RULE


class NativeMember:
    """The program of one member, its packed weights, and workspaces that calls take in turn."""

    def __init__(self, member: Member):
        self.member = member
        self._kept: dict[int, NDArray] = {}  # every array whose address stands in the program, by address
        self._operations: list[list[int]] = []
        self._phases: list[list[int]] = []
        # Of each operation: its name, multiply-adds a row, planes that are multiplied, whether rows are sentences.
        self.work: list[tuple[str, int, int, bool]] = []
        self.sizes = Sizes(len(member.embeddings.norm.weight), len(member.classifier_bias))
        self.block = at.BLOCK  # rows at a time
        self._expected = MANY  # rows that products are chosen for
        self._write()
        self.operations = np.zeros((len(self._operations), at.COLUMNS), np.int64)
        for row, values in zip(self.operations, self._operations, strict=True):
            row[: len(values)] = values
        self.phases = np.array(self._phases, np.int64)
        self._free: list[Workspace] = []
        self._lock = threading.Lock()

    def forward(
        self, batch: Batch, *, start: Start | None = None, threads: int = 1, times: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return the logits float32[S, labels]; as `Member.forward`.

        times : int64[operations], receives nanoseconds per operation, of all threads together
        """
        threads = max(1, min(threads, batch.rows)) if start is not None else 1
        with self._lock:
            workspace = self._free.pop() if self._free else Workspace(self.sizes)
        try:
            logits = workspace.prepare(batch, threads)
            barrier = np.zeros(8, np.int64)  # a cache line of its own
            spent = [np.zeros(len(self.operations), np.int64) for _ in range(threads)]

            def work(thread: int) -> None:
                try:
                    address = spent[thread].ctypes.data if times is not None else 0
                    sizes = [batch.rows, batch.sentences, threads, barrier.ctypes.data, address]
                    frame = np.array([*sizes, workspace.scratch_words, self.block], np.int64)
                    run(self.operations, self.phases, workspace.slots[thread], frame, thread)
                except BaseException:
                    barrier[0] = at.FREE  # the others must not wait for a thread that never comes
                    raise

            try:
                if start is None or threads == 1:
                    work(0)
                else:
                    start([partial(work, thread) for thread in range(threads)])
            except BaseException:
                barrier[0] = at.FREE
                raise
            if times is not None:
                times += np.sum(spent, axis=0)
            return logits.copy()
        finally:
            with self._lock:
                self._free.append(workspace)

    # Writing the program.

    def _write(self) -> None:
        member = self.member
        blocks = member.blocks
        self._embed()
        for index, block in enumerate(blocks):
            store = at.QUERY + at.STORE * (index % 2)
            last = index == len(blocks) - 1
            self._queries(block, store, ("key", "value") if last else LINEARS[:3], at.HIDDEN)
            self._phase(at.ROWS)
            if last:
                self._gather()
                self._queries(block, store, ("query",), at.FIRST)
            self._block(block, store, at.FIRST if last else at.HIDDEN)
        if not blocks:
            self._phase(at.ROWS)
            self._gather()
        self._linear(member.pooler, at.FIRST, [self._floats(member.pooler)], "pooler")
        weight, bias = self._keep(member.classifier_weight), self._keep(member.classifier_bias)
        self._add(stages.classify, self.sizes.hidden, self.sizes.labels, weight, bias, name="classifier")
        self._phase(at.SENTENCES)

    def _gather(self) -> None:
        """From here on rows are first tokens, one a sentence."""
        self._add(stages.gather, self.sizes.hidden, name="gather")
        self._expected = 1

    def _phase(self, domain: int) -> None:
        first = self._phases[-1][1] if self._phases else 0
        self._phases.append([first, len(self._operations), domain])
        if domain == at.SENTENCES:
            self.work[first:] = [(name, macs, planes, True) for name, macs, planes, _ in self.work[first:]]

    def _add(self, stage: Operation, *values: int, name: str, macs: int = 0, planes: int = 0) -> None:
        self._operations.append([stage.address, *values])
        self.work.append((name, macs, planes, False))

    def _keep(self, array: NDArray) -> int:
        array = np.ascontiguousarray(array)
        self._kept[array.ctypes.data] = array
        return array.ctypes.data

    def _norm(self, norm: Norm) -> tuple[int, int, int]:
        return self._keep(norm.weight), self._keep(norm.bias), self._keep(np.array([norm.eps], np.float32))

    def _numbers(self, quantizer: Quantizer) -> NDArray[np.float32]:
        low, high = quantizer.range
        return np.array([quantizer.step, quantizer.minimum, low, high, 0, 0], np.float32)

    def _shift(self, quantizer: Quantizer, width: int) -> int:
        return self._keep(np.zeros(width, np.float32) if quantizer.shift is None else quantizer.shift)

    def _embed(self) -> None:
        tables = self.member.embeddings
        signs = [self._keep(array) for array in tables.signs]
        scales = [self._keep(array) for array in tables.scales]
        width = self.sizes.hidden
        self._add(
            stages.embed,
            len(signs),
            signs[0],
            scales[0],
            signs[-1],
            scales[-1],
            self._keep(tables.position),
            self._keep(tables.token_type),
            *self._norm(tables.norm),
            self._keep(np.zeros(width, np.float32)),
            width,
            len(tables.scales[0]),
            len(tables.position),
            len(tables.token_type),
            name="embeddings",
        )

    def _queries(self, block: Block, store: int, names: tuple[str, ...], source: int) -> None:
        """Linears of queries, keys, values: one product where all read the same codes, else one each."""
        layers = [getattr(block, name) for name in names]
        if all(branch.quantizer == Quantizer("sign") for layer in layers for branch in layer.branches):
            outputs = len(layers[0].bias)
            sinks = [self._store(block, name, store, START=index * outputs) for index, name in enumerate(names)]
            self._linear(_joined(layers), source, sinks, "query, key, value")
            return
        for name, layer in zip(names, layers, strict=True):
            self._linear(layer, source, [self._store(block, name, store)], "query, key, value")

    def _store(self, block: Block, name: str, store: int, START: int = 0) -> list[int]:
        """Sink of queries, keys or values."""
        attention, which = block.attention, LINEARS.index(name)
        width = attention.heads * attention.head_size
        flags = store + 2 * at.NONZERO + which
        if isinstance(attention, BooleanAttention):
            self.sizes.words = max(self.sizes.words, attention.heads * words(attention.head_size))
            kind, rule, numbers, shift = at.TO_WORDS, at.SIGN_RULE, 0, 0
        else:
            self.sizes.codes = max(self.sizes.codes, width)
            quantizer = (attention.query, attention.key, attention.value)[which]
            kind, rule = at.TO_CODES, _rule(quantizer)
            numbers, shift = self._keep(self._numbers(quantizer)), self._shift(quantizer, width)
        return [rule, numbers, shift, kind, START, width, store + which, flags, attention.head_size]

    def _floats(self, layer: BinaryLinear) -> list[int]:
        self.sizes.floats = max(self.sizes.floats, len(layer.bias))
        return [0, 0, 0, at.TO_FLOATS, 0, len(layer.bias), at.FLOATS, 0, 0]

    def _residual(self, hidden: int) -> list[int]:
        """Sink that adds to what went into the block: x + residual and residual + x are the same float."""
        return [0, 0, 0, at.TO_SUM, 0, self.sizes.hidden, hidden, 0, 0]

    def _block(self, block: Block, store: int, hidden: int) -> None:
        """What follows the barrier, with `hidden` both the input and the output."""
        self._attention(block.attention, store)
        ready = isinstance(block.attention, BooleanAttention)
        layer = block.attention_output
        self._linear(layer, None if ready else at.FLOATS, [self._residual(hidden)], "attention output")
        self._normalize(block.attention_norm, hidden)
        sinks = []
        width = len(block.intermediate.bias)
        for index, branch in enumerate(block.output.branches):
            quantizer = branch.quantizer
            rule = _rule(quantizer)
            if block.gelu:
                rule = at.GELU_RULE
            elif not quantizer.is_sign:
                rule = at.RELU_RULE
            to = at.BYTES + at.INPUT * index
            numbers, shift = self._keep(self._numbers(quantizer)), self._shift(quantizer, width)
            sinks.append([rule, numbers, shift, at.TO_BYTES, 0, width, to, at.PLAIN + at.INPUT * index, 0])
        self._linear(block.intermediate, hidden, sinks, "intermediate")
        self._linear(block.output, None, [self._residual(hidden)], "output")
        self._normalize(block.output_norm, hidden)

    def _normalize(self, norm: Norm, hidden: int) -> None:
        zeros = self._keep(np.zeros((TOGETHER, self.sizes.hidden), np.float32))
        self._add(stages.norm, hidden, *self._norm(norm), zeros, self.sizes.hidden, name="norm")

    def _attention(self, attention: BooleanAttention | SoftmaxAttention, store: int) -> None:
        heads, size = attention.heads, attention.head_size
        if isinstance(attention, BooleanAttention):
            self.sizes.scratch = partial(bit_scratch, size=size)
            self._add(stages.attend_on_bits, heads, size, store, 0, name="attention")
            return
        self.sizes.scratch = lambda keys: -(-scratch_units(keys, size) // 2)
        self.sizes.floats = max(self.sizes.floats, heads * size)
        numbers = self._numbers(attention.probabilities)
        query, key, value = (float(q.step) for q in (attention.query, attention.key, attention.value))
        numbers[at.SCORE_SCALE] = query * key / math.sqrt(size)
        numbers[at.CONTEXT_SCALE] = attention.probabilities.step * value
        self._add(stages.attend_on_codes, heads, size, store, self._keep(numbers), name="attention")

    def _linear(self, layer: BinaryLinear, source: int | None, sinks: list[list[int]], name: str) -> None:
        """Encode the floats of `source` (None: codes are there), then multiply. Equal inputs are encoded once."""
        quantizers: list[Quantizer] = []
        origin = []
        for branch in layer.branches:
            same = [i for i, other in enumerate(quantizers) if source is not None and _equal(other, branch.quantizer)]
            origin.append(same[0] if same else len(quantizers))
            if not same:
                quantizers.append(branch.quantizer)
        depth, planes = layer.branches[0].depth, _planes(quantizers[0])
        outputs = len(layer.bias)
        lookup = False
        if not quantizers[0].is_sign:
            lookup = product(outputs, depth, planes, self._expected) == LOOKUP
        if source is None:
            rules = [at.READY] * len(quantizers)
        else:
            rules = [_rule(quantizer) for quantizer in quantizers]
        inputs = [
            [rule, self._keep(self._numbers(quantizer)), self._shift(quantizer, depth), 0, 0, 0, 0, 0, 0]
            for rule, quantizer in zip(rules, quantizers, strict=True)
        ]
        self.sizes.depth = max(self.sizes.depth, depth)
        triples = triple_count(depth)
        if lookup:
            self.block = min(self.block, LOOKUP_BLOCK)
            self.sizes.tables = max(self.sizes.tables, lut_bytes(self.block, depth))
        else:
            self.sizes.index = max(self.sizes.index, planes * triples)
        table = self._keep(np.array(inputs, np.int64))
        slot = at.FLOATS if source is None else source
        encode = look_up_encode if lookup else stages.encode
        sign = int(quantizers[0].is_sign)
        self._add(encode, slot, depth, table, len(inputs), planes, triples, sign, name="encode")
        if not lookup:
            self.sizes.state = max(self.sizes.state, state_bytes(triples, planes, quantizers[0].is_sign))
        limits = self._limits(layer, sinks)
        branches = [self._branch(layer, index, number, lookup, limits) for index, number in enumerate(origin)]
        rows = self._keep(np.array(branches, np.int64))
        ends = self._keep(np.array(sinks, np.int64))
        macs = outputs * depth * len(branches)
        multiplied = 1 if quantizers[0].is_sign else planes  # rows with zeros take two
        self._add(linear, outputs, rows, len(branches), ends, len(sinks), name=name, macs=macs, planes=multiplied)

    def _branch(self, layer: BinaryLinear, index: int, number: int, lookup: bool, limits: Limits | None) -> list[int]:
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
        padded = -(-outputs // LANES) * LANES
        weights: NDArray
        steps, places = depth, np.arange(padded)
        if lookup:
            stages_ = look_up, look_up_finish
            weights = lut_weights(branch.signs, depth)
        else:
            stages_ = sliced_gemm.count, sliced_gemm.finish
            weights, steps = pack_panels(branch.signs, depth, natural=limits is not None), triple_count(depth)
            if limits is not None:
                places = natural_places(outputs)
        table = []
        if limits is not None:
            table = [0 if planes is None else self._keep(planes) for planes in limits]
        return [
            *(stage.address for stage in stages_),
            self._keep(weights),
            steps,
            _planes(quantizer),
            int(quantizer.is_sign),
            self._keep(_padded(offset.astype(np.int32), padded)[places]),
            self._keep(_padded(scale, padded)[places]),
            self._keep(_padded(addend, padded)[places]) if len(addend) else 0,
            number,
            outputs,
            self._keep(np.array(table, np.int64)) if table else 0,
            sliced_gemm.decide.address if table else 0,
        ]

    def _limits(self, layer: BinaryLinear, sinks: list[list[int]]) -> Limits | None:
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
                shift[columns] = self._kept[sink[at.SHIFT]]
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


def _joined(layers: list[BinaryLinear]) -> BinaryLinear:
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
