"""Runs kernels on guarded memory, in a process of its own.

    guard_cases.py arrays|layers|lookups|members|broken start|end

Before each case its name goes to standard output, so that the last line names the case that ended the process.
"""

import itertools
import os
import sys
from pathlib import Path

import engine_kernels
import lookup_shapes
import numba
import numpy as np
from guard import Guard
from kernel_cases import calls, check

from bebert_infer import Ensemble
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.model.batch import Batch, ragged_batch
from bebert_infer.native import engine as native
from bebert_infer.native import program_builder as native_program
from bebert_infer.native import workspace
from bebert_kernels import packing
from bebert_kernels.bitsliced import triples
from bebert_kernels.bitsliced.layout import PANEL_OUTPUTS, PLANE
from bebert_kernels.program.layer import PRODUCTS
from bebert_kernels.program.linear import HALF_WORD, sign_bits
from bebert_kernels.rows import quantize as row_codes
from bebert_kernels.tuning import single_layer as one_layer
from bebert_kernels.tuning.single_layer import OneLayer

EDGES = (1, 63, 64, 65, 127, 128, 129)
FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
SIZES = {"rows": 3, "outputs": 5, "depth": 65, "heads": 2, "size": 24, "keys": 5}


def say(text: str) -> None:
    """Before the case runs, past all buffers."""
    os.write(1, text.encode() + b"\n")


def arrays(guard: Guard) -> None:
    """Every kernel that takes arrays, arguments, scratch and results guarded, against the NumPy reference."""
    engine_kernels.np = guard.numpy()
    shapes = [SIZES | {name: edge} for name in ("outputs", "depth", "size", "keys") for edge in EDGES]
    shapes += [SIZES | {"rows": rows} for rows in (1, 2, 7, 8, 9, 65)]
    shapes += [{name: edge for name in SIZES} | {"heads": 1} for edge in (1, 65)]
    for number, sizes in enumerate(shapes):
        for name, arguments in calls(number, **sizes):
            say(f"{name} {sizes}")
            check(name, guard.copy(arguments))
            guard.check()


def layers(guard: Guard) -> None:
    """The products of a program, alone: `single_layer.OneLayer`."""
    for module in (one_layer, triples):
        module.aligned = guard.aligned
    one_layer.np = guard.numpy()

    def pin(layer: OneLayer, values: np.ndarray) -> int:
        layer._pinned.append(guard.copy(values, _border(values)))
        return layer._pinned[-1].ctypes.data

    OneLayer._pin = pin
    rng = np.random.default_rng(0)
    shapes = [(3, PANEL_OUTPUTS + 5, depth) for depth in (*EDGES, 47, 48, 49, 191, 192, 193, 385)]
    shapes += [
        (9, outputs, 65)
        for outputs in (
            *EDGES,
            PANEL_OUTPUTS // 2,
            PANEL_OUTPUTS // 2 + 1,
            PANEL_OUTPUTS - 1,
            PANEL_OUTPUTS,
            PANEL_OUTPUTS + 1,
        )
    ]
    shapes += [(rows, 70, 129) for rows in (1, 2, 7, 8, 9, 15, 127, 128, 129)]
    for (rows, outputs, depth), bits, product in itertools.product(shapes, (0, 1, 3, 4, 5, 8), PRODUCTS.values()):
        if bits not in product.bits:
            continue
        say(f"{product.name} of {rows} rows, {outputs} outputs, depth {depth}, {bits} bits")
        weights = rng.choice(np.array([-1, 1], np.int8), (outputs, depth))
        layer = OneLayer(guard.copy(packing.pack_weight_signs(weights)), depth, bits, rows, product=product)
        if bits:
            values = codes = rng.integers(0, 1 << bits, (rows, depth)).astype(np.uint8)
        else:
            values = rng.choice(np.array([-1, 1, 1, 1]), (rows, depth)) * (rng.random((rows, depth)) < 0.99)
            codes = np.choose(values + 1, [row_codes.MINUS, row_codes.ZERO, row_codes.PLUS]).astype(np.uint8)
        found = layer(codes, (values != 0).all(axis=1).astype(np.uint8))
        assert np.array_equal(found, values.astype(np.int64) @ weights.T.astype(np.int64))
        guard.check()


def lookups(guard: Guard) -> None:
    """The look-up product in the shapes of all CPUs."""
    for shape in lookup_shapes.EVERY:
        sizes = [(rows, outputs, depth) for rows, outputs in ((1, 1), (3, 65)) for depth in range(1, 101)]
        sizes += [(3, outputs, 37) for outputs in (*EDGES, PANEL_OUTPUTS - 1, PANEL_OUTPUTS + 1)] + [(65, 5, 65)]
        for rows, outputs, depth in sizes:
            say(f"{shape} of {rows} rows, {outputs} outputs, depth {depth}")
            codes = lookup_shapes.random_codes(depth, rows, depth)
            negative = lookup_shapes.random_weights(depth, outputs, depth)
            codes[-1] = 15  # the shortest windows
            found = lookup_shapes.product(shape, codes, negative, room=guard)
            assert np.array_equal(found, lookup_shapes.dots(codes, negative))


def members(guard: Guard) -> None:
    """Whole programs: weights, tables, inputs, workspaces and scratch guarded, rows not rounded up."""
    workspace.aligned, workspace.ROUND = guard.aligned, 1
    native.np = guard.numpy()
    pin = native_program.Program.pin
    native_program.Program.pin = lambda self, array: pin(self, guard.copy(array, _border(array)))
    synthetic.SIZES |= {
        f"edge {edge}": (2, edge, edge, 1, edge) for edge in ((1, 63, 65, 128) if guard.side == "end" else (1, 65))
    }
    synthetic.SIZES |= {"heads": (1, 130, 66, 3, 65), "wide": (1, 64, 64, 2, 513), "no block": (0, 65, 65, 1, 1)}
    names = [name for name in synthetic.SIZES if not name.startswith(("base", "tiny"))]
    lookup = os.environ.get("BEBERT_PRODUCT") == "lookup"  # which does not take signs
    schemes = ("1-1-4",) if lookup else ("1-1-1", "1-1-4")
    models = {f"{name} {scheme}": (name, scheme) for name in names for scheme in schemes}
    folders = {folder.name: folder for folder in sorted(FROZEN.iterdir()) if folder.is_dir()}
    if lookup:
        folders = {name: folders[name] for name in ("binarybert_1_1_4_h64", "bit_1_1_2")}
    for name in [*models, *folders]:
        say(f"loading {name}")
        if name in models:
            artifact = synthetic.random_model(*models[name], 1, vocab_size=67)
            for tensor in (key for key in artifact.tensors if key.endswith("intermediate.bias")):
                artifact.tensors[tensor][:20] = -9  # GELU makes exact zeros of these
            model = Ensemble(artifact, threads=2)
        else:
            model = Ensemble.from_pretrained(folders[name], threads=2)
        _member(guard, name, model)


def _border(array: np.ndarray) -> int:
    """Panels of weights, and limits, are words in one axis; kernels rely on the border where they begin."""
    return PLANE if array.dtype == np.uint64 and array.ndim == 1 else 1


def _member(guard: Guard, name: str, model: Ensemble) -> None:
    rng = np.random.default_rng(0)
    longest = min(129, model.limits.positions)
    for lengths in ((1,), (63, 1, 64), (127, 65, 128, 2), (129,), (1,) * 65):
        lengths = [min(length, longest) for length in lengths]
        ids = rng.integers(0, model.limits.vocabulary, (len(lengths), max(lengths)))
        ids[0, 0] = model.limits.vocabulary - 1
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        batch = ragged_batch(ids, mask, rng.integers(0, model.limits.types, ids.shape))
        batch = Batch(*(guard.copy(part) for part in (batch.ids, batch.positions, batch.types, batch.offsets)))
        for index, member in enumerate(model.members):
            program = model.engine.members[index]
            expected = member.forward(batch)
            for threads in (1, 2) if isinstance(program, native.NativeMember) else ():
                say(f"{name} member {index}, sentences of {lengths[:4]} tokens, {threads} threads")
                program.program.instructions = guard.copy(program.program.instructions)
                program.program.phases = guard.copy(program.program.phases)
                tables = program.program.instructions, program.program.phases
                program.program.addresses = tuple(table.ctypes.data for table in tables)
                program._free.clear()  # exactly the memory of this batch
                np.testing.assert_array_equal(program.forward(batch, model.engine.team, threads=threads), expected)
            guard.check()


def broken(guard: Guard) -> None:
    """A kernel that takes 32 floats where 31 are: must not come to its end."""
    say(f"sign_bits of {HALF_WORD - 1} floats")
    row = guard.zeros(HALF_WORD - 1, np.float32)
    numba.njit(lambda place: sign_bits(place))(row.ctypes.data)


if __name__ == "__main__":
    every = {"arrays": arrays, "layers": layers, "lookups": lookups, "members": members, "broken": broken}
    every[sys.argv[1]](Guard(sys.argv[2]))
    say("done")
