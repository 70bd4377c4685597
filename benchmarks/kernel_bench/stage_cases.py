"""Instructions of native programs, one by one and whole: two blocks of BERT's geometry with random weights.

The tables are those that the runtime writes (`bebert_infer/native/lower_member.py`); an instruction is called alone,
on what the whole program left in memory. What is compared is the whole program: its logits, with those of the reference
backend.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from functools import cache, partial
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
from kernel_bench.case import Case, Sizes, Work, shape

import bebert_kernels
from bebert_infer.ensemble import Ensemble
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.model.batch import ragged_batch
from bebert_kernels.abi import frame as frames
from bebert_kernels.abi.branch import Branch
from bebert_kernels.abi.frame import Frame
from bebert_kernels.abi.instruction import Linear
from bebert_kernels.abi.stage import STAGES as STAGE_NAMES
from bebert_kernels.abi.stage import Stage
from bebert_kernels.bitsliced.product import BITSLICED
from bebert_kernels.lookup.product import LOOKUP
from bebert_kernels.program.interpreter import run_rows
from bebert_kernels.program.stages import by_rows

PROGRAMS = {"1-1-1": BITSLICED, "1-1-4": LOOKUP, "1-1-8": BITSLICED}  # scheme -> product of its codes or signs
STAGES = {  # stage, layer; where a scheme has several, the first is taken
    "1-1-1": [
        *(("embed", "embeddings"), ("bitsliced_encode", "encode"), ("linear", "query, key, value")),
        *(("attend_on_bits", "attention"), ("linear", "attention output"), ("norm", "norm")),
        *(("linear", "intermediate"), ("linear", "output"), ("gather", "gather"), ("classify", "classifier")),
    ],
    "1-1-4": [
        *(("lookup_encode", "encode"), ("linear", "query, key, value")),
        *(("attend_on_codes", "attention"), ("linear", "attention output")),
        *(("linear", "intermediate"), ("linear", "output")),
    ],
    "1-1-8": [
        *(("measure_rows", "statistics"), ("quantize_rows", "quantize"), ("combine_branches", "intermediate")),
        *(("attend_on_floats", "attention"), ("activate", "gelu")),
    ],
}


def kernel_modules() -> Iterator[ModuleType]:
    """Every module of `bebert_kernels`, in all of its rooms."""
    for found in pkgutil.walk_packages(bebert_kernels.__path__, "bebert_kernels."):
        yield importlib.import_module(found.name)


NOT_OF_PROGRAMS = ("run_program", "serve", "run_team", "rouse", "add_planes", "add_in_turn")


def stages() -> dict[int, Stage]:
    """Every stage of programs by its address."""
    return {stage.address: stage for name, stage in STAGE_NAMES.items() if name not in NOT_OF_PROGRAMS}


@cache
def _program(sizes: Sizes, scheme: str, few: bool = False) -> SimpleNamespace:
    """A native member of two blocks, after its first forward pass; `few`: of one token, by products as measured."""
    geometry = (2, sizes.width, sizes.width, sizes.heads, sizes.wide)
    with (
        patch.dict(synthetic.SIZES, {"two blocks": geometry}),
        patch.dict(os.environ, BEBERT_PRODUCT="" if few else PROGRAMS[scheme].name),
    ):
        artifact = synthetic.random_model("two blocks", scheme, 1, vocab_size=sizes.vocabulary)  # type: ignore[arg-type]
        native = Ensemble(artifact, threads=1).engine.members[0]
    assert native is not None
    ids = np.random.default_rng(0).integers(0, sizes.vocabulary, (1, 1 if few else sizes.tokens))
    batch = ragged_batch(ids, np.ones(ids.shape, bool), np.zeros_like(ids))
    native.forward(batch)
    reference = Ensemble(artifact, threads=1, backend="reference")
    return SimpleNamespace(native=native, batch=batch, ids=ids, reference=reference)


def _stage(sizes: Sizes, scheme: str, operation: str, name: str) -> Work:
    made = _program(sizes, scheme)
    program, workspace, batch = made.native.program, made.native._free[-1], made.batch
    table, known, infos = program.instructions, stages(), program.instruction_info
    place = next(i for i, info in enumerate(infos) if (known[table[i, 0]].name, info.name) == (operation, name))
    domain = next(domain for first, last, domain in program.phases if first <= place < last)
    rows = min(program.block, batch.rows) if domain == frames.ROWS else batch.sentences
    barrier = np.zeros(8, np.int64)
    call = Frame(batch.rows, batch.sentences, 1, barrier.ctypes.data, 0, workspace.scratch_words, program.block)
    frame = np.array(call, np.int64)
    slots = workspace.slots[0]

    def runs(which: int) -> partial:
        address = table[which, 1:].ctypes.data
        stage = known[table[which, 0]]
        return partial(stage, address, slots.ctypes.data, frame.ctypes.data, int(domain), 0, rows)

    found = [known[table[place, 0]]]
    macs, planes = infos[place].macs, infos[place].adders
    if operation == "linear":
        runs(place - 1)()  # the index planes or tables of this layer, not of the one that ran last
        layer = Linear(*table[place, 1:6])
        for branch in (Branch(*row) for row in program.pinned[layer.branches]):
            found += [known[a] for a in (branch.gemm, branch.epilogue, branch.sign_epilogue) if a]
    if operation.startswith("attend"):
        queries = batch.rows if domain == frames.SENTENCES else 1  # of a row: a sentence, or one query
        macs, planes = 2 * sizes.width * batch.rows * queries, int(operation == "attend_on_bits")
    return Work(
        runs(place),
        lambda: made.reference.logits(made.ids),
        tuple(found),
        macs=macs * rows,
        planes=planes,
        elements=0 if macs else rows * sizes.width,
        result=partial(made.native.forward, batch),
    )


def _whole(sizes: Sizes, scheme: str, few: bool) -> Work:
    made = _program(sizes, scheme, few)
    infos = made.native.program.instruction_info
    macs = sum(info.macs * (1 if info.sentences else made.batch.rows) for info in infos)
    call = partial(made.native.forward, made.batch)
    return Work(call, lambda: made.reference.logits(made.ids), (run_rows, by_rows), macs=macs)


def _shape(s: Sizes, scheme: str, operation: str, name: str) -> str:
    rows, queries = min(PROGRAMS[scheme].rows, s.tokens), s.width * (3 if scheme == "1-1-1" else 1)
    if operation == "linear":
        layers = {
            "query, key, value": (queries, s.width),
            "intermediate": (s.wide, s.width),
            "output": (s.width, s.wide),
        }
        layer = shape(rows, *layers.get(name, (s.width, s.width)))
        return layer if scheme == "1-1-1" else f"{layer}, two branches"
    if operation.startswith("attend"):
        return shape(s.heads, rows, s.tokens, s.head_size)
    return shape(1 if operation in ("gather", "classify") else rows, s.width)


def cases(sizes: Sizes) -> Iterator[Case]:
    """Stages of each scheme, then its program as a whole."""
    for scheme, shown in STAGES.items():
        for operation, name in shown:
            what = f"{scheme} {name}" if operation == "linear" else scheme
            text = _shape(sizes, scheme, operation, name)
            yield Case(operation, what, text, partial(_stage, sizes, scheme, operation, name))
        for tokens in (sizes.tokens, 1):
            text, whole = shape(tokens, sizes.width), partial(_whole, sizes, scheme, tokens == 1)
            yield Case("program", f"{scheme} two blocks", text, whole)
