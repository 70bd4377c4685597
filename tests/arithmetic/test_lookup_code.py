"""On every kind of CPU a look-up is one shuffle instruction and one addition: seen in code generated here, not run."""

import re

import llvmlite.binding as llvm
import numba
import pytest
from assembly import largest, mnemonics
from llvmlite import ir

from bebert_kernels.emit.emitter import Emitter
from bebert_kernels.emit.vectors import I64
from bebert_kernels.lookup.layout import SHAPES, Shape
from bebert_kernels.lookup.tile import RowBlock, Rows

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the look-up product has no form without JIT")


def block_of(shape: Shape, width: int, triple: str) -> ir.Module:
    """A function of the outputs of one row and one block."""
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 6), "block")
    emitter = Emitter(ir.IRBuilder(function.append_basic_block()))
    row, depth, indices, scale, add, out = function.args
    RowBlock(emitter, shape, width, row, Rows(emitter, depth), indices).emit(scale, add, out)
    emitter.builder.ret_void()
    return module


def assembly_of(module: ir.Module, triple: str, cpu: str) -> str:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite cannot generate code for {triple}: {error}")
    machine = target.create_target_machine(cpu=cpu, opt=3)
    parsed = llvm.parse_assembly(str(module))
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = False  # so that a loop is one group
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


@pytest.mark.parametrize(
    ("feature", "triple", "cpu", "shuffle", "add"),
    [
        ("avx512bw", "x86_64-linux-gnu", "znver4", "vpshufb", "vpaddb"),
        ("avx512bw", "x86_64-linux-gnu", "skylake-avx512", "vpshufb", "vpaddb"),
        ("avx2", "x86_64-linux-gnu", "haswell", "vpshufb", "vpaddb"),
        ("ssse3", "x86_64-linux-gnu", "nehalem", "pshufb", "paddb"),
        ("neon", "aarch64-linux-gnu", "cortex-a72", "tbl", "add"),
    ],
)
def test_a_look_up_is_one_shuffle_and_one_addition(feature, triple, cpu, shuffle, add):
    shape = SHAPES[feature]
    for width in shape.widths:
        body = largest(assembly_of(block_of(shape, width, triple), triple, cpu), shuffle)
        vectors = sum(line.split()[0] == add and ("mm" in line or ".16b" in line) for line in body)
        assert mnemonics(body)[shuffle] == vectors == width, body
        assert not [line for line in body if re.search(r"[%\[](rsp|sp)\b", line)], "registers do not suffice"
        # Beside these: the table, indices that no shuffle takes from memory, and counting.
        assert len(body) <= 4 * width + 6, body
