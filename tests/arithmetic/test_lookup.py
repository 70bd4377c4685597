"""Table look-ups multiply small codes with weight signs exactly, at every vector width, depth and tail.

Instructions that this CPU lacks are replaced by a form that looks up byte by byte, in the same block; that the block
becomes the instruction on CPUs that have it is seen in the code generated for them.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import lookup_shapes
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from lookup_shapes import Kernels, kernels_for

from bebert_kernels import packing
from bebert_kernels.emit.emitter import Emitter
from bebert_kernels.jit.kernel import cpu_features
from bebert_kernels.lookup import gemm as lut_gemm
from bebert_kernels.lookup import layout as lut_layout
from bebert_kernels.lookup import tile as lut_tile
from bebert_kernels.reference import integers as reference

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the look-up product has no form without JIT")

HERE = [shape for feature, shape in lut_layout.SHAPES.items() if feature in cpu_features()]
SIX = lut_layout.SHAPES["avx512vbmi"]._replace(shuffle="portable")
SHAPES = [*HERE, lut_layout.PORTABLE, SIX]
NAMES = [f"{shape.shuffle} {shape.inputs}" for shape in SHAPES]
OWN = Kernels(lut_layout.SHAPE, lut_gemm.lut_tables, lut_gemm.lut_panel, lut_gemm.lut_gemm)
BERT = [(768, 768), (3072, 768), (768, 3072), (384, 768)]


@cache
def kernels(shape: lut_layout.Shape) -> Kernels:
    return OWN if shape == lut_layout.SHAPE else kernels_for(shape)


def random_case(seed: int, rows: int, outputs: int, depth: int, high: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Codes 0..high, both ends more often, and weights as booleans: True for -1."""
    rng = np.random.default_rng(seed)
    codes = np.clip(rng.integers(-2, high + 3, (rows, depth)), 0, high).astype(np.uint8)
    return codes, rng.random((outputs, depth)) < 0.5


def expected(codes: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return codes.astype(np.int64) @ np.where(negative, -1, 1).T


def product(shape: lut_layout.Shape, codes: np.ndarray, negative: np.ndarray, chunk: int = 16) -> np.ndarray:
    """The whole product, in arrays exactly as long as the docstrings ask for, with guards behind each."""
    (rows, depth), outputs = codes.shape, len(negative)
    panels = lut_layout.lut_weights(packing.pack_bits(negative), depth, shape).reshape(-1)
    size = lut_layout.lut_bytes(chunk, depth, shape)
    tables, out = np.full(size + 64, 77, np.uint8), np.full((rows + 1, outputs), 77, np.int32)
    sums, totals = np.full((chunk + 1, shape.panel), 77, np.int32), np.full(chunk + 1, 77, np.int32)
    kernels(shape).gemm(codes, panels, tables[:size], sums[:chunk], totals[:chunk], out[:rows])
    for guard in (tables[size:], sums[chunk:], totals[chunk:], out[rows:]):
        assert (guard == 77).all(), "written beyond the end"
    return out[:rows]


def test_kernels_of_another_shape_have_names_of_their_own():
    """Two workers that compiled at once took one shape's kernel from the other's cache under the name of a second."""
    names = [kernels(shape).panel.py_func.__qualname__ for shape in SHAPES]
    assert len(set(names)) == len(set(SHAPES))


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_every_tail_of_the_depth(shape):
    """Around the codes of a table, of a step, of a load and of a word."""
    for depth in [*range(1, 50), 63, 64, 65, 127, 128, 129, 255, 257]:
        codes, negative = random_case(depth, 3, 5, depth)
        assert np.array_equal(product(shape, codes, negative), expected(codes, negative)), depth


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_every_tail_of_rows_and_outputs(shape):
    for rows in range(1, 20):
        for outputs in (1, 63, 129):
            codes, negative = random_case(rows, rows, outputs, 37)
            for chunk in (3, 8, 32):
                found = product(shape, codes, negative, chunk)
                assert np.array_equal(found, expected(codes, negative)), (rows, outputs, chunk)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
@pytest.mark.parametrize("depth", [3071, 3072, 3073, 4095, 4096, 4097, 8200])
def test_the_largest_sums_do_not_overflow(shape, depth):
    """All codes 15 and all weights -1, up to and beyond the depth at which 16-bit sums have to be emptied."""
    codes, negative = random_case(depth, 5, 3, depth)
    codes[:2], negative[:2] = 15, True
    assert np.array_equal(product(shape, codes, negative), expected(codes, negative))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 200), st.integers(1, 600), st.integers(1, 4), st.integers(0, 99))
def test_any_shape_and_number_of_bits(rows, outputs, depth, bits, seed):
    codes, negative = random_case(seed, rows, outputs, depth, (1 << bits) - 1)
    assert np.array_equal(product(lut_layout.SHAPE, codes, negative), expected(codes, negative))


@pytest.mark.parametrize(("outputs", "depth"), BERT)
def test_the_shapes_of_bert_equal_the_reference(outputs, depth):
    """Signed codes are counted from the lowest; what that adds is the same for all rows."""
    codes, negative = random_case(1, 17, outputs, depth)
    signs = packing.pack_bits(negative)
    usual = reference.code_dots(codes.view(np.int8) - np.int8(8), signs)
    below = -8 * np.where(negative, -1, 1).sum(axis=1, dtype=np.int32)
    assert np.array_equal(product(lut_layout.SHAPE, codes, negative) + below, usual)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_table_holds_the_sums_of_all_choices_of_its_codes(shape):
    """Zeros stand behind the last code; the rows of a block take turns, step by step."""
    rows, depth = shape.rows + 1, 2 * shape.step + 5
    codes, _ = random_case(7, rows, 1, depth)
    tables = np.zeros(lut_layout.lut_bytes(rows, depth, shape), np.uint8)
    kernels(shape).tables(codes, rows, tables)
    tables = tables.reshape(2, 3, shape.rows, shape.tables, -1)
    padded = np.zeros((rows, 3 * shape.step), np.uint8)
    padded[:, :depth] = codes
    choices = np.arange(1 << shape.inputs)[:, None] >> np.arange(shape.inputs) & 1
    for row in range(rows):
        groups = padded[row].reshape(3, shape.tables, shape.inputs)
        assert np.array_equal(tables[row // shape.rows, :, row % shape.rows], groups @ choices.T)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_panel_is_the_sum_of_the_codes_whose_weight_is_negative(shape):
    """Only the rows asked for are written."""
    rows, depth, outputs = 7, 100, shape.panel + 3
    codes, negative = random_case(8, rows, outputs, depth)
    tables = np.zeros(lut_layout.lut_bytes(rows, depth, shape), np.uint8)
    kernels(shape).tables(codes, rows, tables)
    panels = lut_layout.lut_weights(packing.pack_bits(negative), depth, shape)
    assert panels.shape == (2, -(-depth // shape.step), shape.vectors, 2, shape.lanes)
    wanted = np.zeros((rows, 2 * shape.panel), np.int64)
    wanted[:, :outputs] = codes.astype(np.int64) @ negative.T
    for number in (0, 1):
        for count in range(1, rows + 1):
            sums = np.full((rows, shape.panel), -1, np.int32)
            kernels(shape).panel(tables, panels.reshape(-1), number, count, depth, sums)
            columns = slice(number * shape.panel, (number + 1) * shape.panel)
            assert np.array_equal(sums[:count], wanted[:count, columns])
            assert (sums[count:] == -1).all()


def test_indices_by_hand():
    """16 lanes, four inputs: output 0 is byte 0, output 1 byte 2, output 8 byte 1; two nibbles in a byte."""
    shape = lut_layout.PORTABLE
    negative = np.zeros((9, 20), np.bool_)
    negative[0, [0, 5, 8, 15, 16]] = True
    negative[1, 1] = negative[8, 3] = True
    panels = lut_layout.lut_weights(packing.pack_bits(negative), 20, shape)
    assert panels.shape == (1, 2, 1, 2, 16)
    assert panels[0, 0, 0, 0, :4].tolist() == [0x21, 0x08, 0x02, 0x00]
    assert panels[0, 0, 0, 1, :4].tolist() == [0x81, 0x00, 0x00, 0x00]
    assert panels[0, 1, 0, 0, :4].tolist() == [0x01, 0x00, 0x00, 0x00]
    assert panels.sum() == 0x21 + 0x08 + 0x02 + 0x81 + 0x01


def test_threads_do_not_disturb_each_other():
    cases = [random_case(seed, 9 + seed, 130, 200 + seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: product(lut_layout.SHAPE, *case), cases * 4))
    for result, case in zip(found, cases * 4, strict=True):
        assert np.array_equal(result, expected(*case))


def test_the_best_shape_of_a_cpu():
    found = [
        lut_layout.best_shape(features.split()).shuffle
        for features in ("ssse3 avx2 avx512bw avx512vbmi", "ssse3 avx2 avx512bw", "ssse3 avx2", "ssse3", "neon", "sse2")
    ]
    assert found == ["vpermb", "vpshufb 512", "vpshufb 256", "pshufb 128", "tbl", "portable"]


@pytest.mark.parametrize(
    ("feature", "triple", "cpu", "instruction"),
    [
        ("avx512vbmi", "x86_64-linux-gnu", "znver4", "vpermb"),
        ("avx512vbmi", "x86_64-linux-gnu", "icelake-server", "vpermb"),
        ("avx512bw", "x86_64-linux-gnu", "skylake-avx512", "vpshufb"),
        ("avx2", "x86_64-linux-gnu", "haswell", "vpshufb"),
        ("ssse3", "x86_64-linux-gnu", "nehalem", "pshufb"),
        ("neon", "aarch64-linux-gnu", "cortex-a72", "tbl"),
    ],
)
def test_the_block_is_one_instruction_a_look_up_on_other_cpus(feature, triple, cpu, instruction):
    shape = lut_layout.SHAPES[feature]
    module = ir.Module()
    module.triple = triple
    data, sums, count = ir.IntType(8).as_pointer(), ir.IntType(32).as_pointer(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [data, data, sums, count]), "block")
    builder = ir.IRBuilder(function.append_basic_block())
    lut_tile.PanelBlock(Emitter(builder), shape, shape.rows, *function.args[:3]).emit(function.args[3])
    builder.ret_void()
    assembly = assembly_of(module, triple, cpu)
    lines = [line.split() for line in assembly.splitlines()]
    assert sum(line[:1] == [instruction] for line in lines) == shape.rows * shape.vectors * shape.tables


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
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


ZEN4 = """
import numba
from bebert_kernels.lookup import layout as lut_layout
from lookup_shapes import kernels_for
octets, sums = numba.uint8[::1], numba.int32[:, ::1]
kernels = kernels_for(lut_layout.SHAPE)
kernels.panel.compile((octets, octets, numba.int64, numba.int64, numba.int64, sums))
kernels.tables.compile((numba.uint8[:, ::1], numba.int64, octets))
for function in (kernels.panel, kernels.tables):
    print(lut_layout.SHAPE.shuffle, sum("vpermb" in code for code in function.inspect_asm().values()))
"""


@pytest.mark.skipif("avx2" not in cpu_features(), reason="imitates an x86 CPU")
def test_zen_4_takes_vpermb(tmp_path):
    """Compiled for a CPU that has it, not run."""
    features = "+sse4.2,+ssse3,+avx2,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512vbmi"
    helpers = str(Path(lookup_shapes.__file__).parent)
    settings = {"NUMBA_CPU_NAME": "znver4", "NUMBA_CPU_FEATURES": features, "BEBERT_CACHE_DIR": str(tmp_path)}
    settings |= {"BEBERT_KERNELS": "jit"}
    settings["PYTHONPATH"] = os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", ZEN4]
    environment = {name: value for name, value in os.environ.items() if name != "BEBERT_ISA"}
    done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[:2] == ["vpermb 1", "vpermb 1"], done.stderr
