"""The kernels of the look-up product for the shapes of other CPUs, so that this one can test them."""

from types import FunctionType
from typing import Any, NamedTuple

import numba

from bebert_kernels.lookup import gemm
from bebert_kernels.lookup.layout import Shape


class Kernels(NamedTuple):
    """The functions of `lookup/gemm.py`, compiled for one shape."""

    shape: Shape
    tables: Any
    panel: Any
    gemm: Any


def kernels_for(shape: Shape) -> Kernels:
    """The kernels for another shape than the best of this CPU, uncached."""
    names: dict[str, Any] = vars(gemm).copy()
    names |= {"PANEL": shape.panel, "_ROWS": shape.rows, "_STEP": shape.step, "_STEP_BYTES": shape.step_bytes}
    names["_row_tables"] = gemm._tables_tile(shape)
    for name, rows in (("_eight_rows", 8), ("_four_rows", 4), ("_two_rows", 2), ("_one_row", 1)):
        names[name] = gemm._panel_tile(shape, min(rows, shape.rows))
    for function in (gemm.lut_tables, gemm.lut_panel, gemm.lut_gemm):
        plain: Any = getattr(function, "py_func", function)
        copy = FunctionType(plain.__code__, names, plain.__name__)
        # Numba names machine code by this and a number that counts in each process: what another process kept of this
        # CPU's shape may bear the number that a copy gets here, and one would answer for the other.
        copy.__qualname__ = "_".join(map(str, (plain.__name__, *shape)))
        names[plain.__name__] = numba.njit(nogil=True, error_model="numpy")(copy)
    return Kernels(shape, names["lut_tables"], names["lut_panel"], names["lut_gemm"])
