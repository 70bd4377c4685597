"""Stages: kernels that a program calls by address. Here they are names; `machine_code.py` says whence their code comes.

A stage takes six int64 and returns nothing. `@stage` marks the function that Numba compiles, in a module that nobody
imports but to compile it; whoever writes programs asks for the stage by its name:

    Stage.named("linear").address
"""

import ctypes
import functools
import importlib
from collections.abc import Callable
from typing import Any

from bebert_kernels.machine_code import library, may_compile

COUNT = 6  # arguments
PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * COUNT)  # a call lets other threads run

# Module of `bebert_kernels` -> stages that it defines. A library has all of them (`compile/object_file.py`).
DEFINED = {
    "bitsliced.gemm": ("bitsliced_gemm",),
    "program.linear": ("linear",),
    "lookup.stages": ("lookup_gemm", "lookup_encode"),
    "bitsliced.epilogue": ("bitsliced_epilogue", "bitsliced_sign_epilogue"),
    "popcount.stages": ("popcount_gemm", "popcount_encode", "popcount_epilogue"),
    "bitsliced.encode": ("bitsliced_encode",),
    "program.stages": ("by_rows", "embed", "norm", "attend_on_bits", "attend_on_codes", "gather", "classify"),
    "program.unfused": ("measure_rows", "quantize_rows", "combine_branches", "activate", "attend_on_floats"),
    "program.interpreter": ("run_program",),
    "program.team": ("serve", "run_team", "rouse"),
    "tuning.adders": ("add_planes",),
    "tuning.chain": ("add_in_turn",),
}


class Stage:
    """A stage by its name.

    path : module:name of the function that is compiled
    """

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name
        self.path = f"{module}:{name}"
        self.function: Callable[..., Any] | None = None
        self._address: int | None = None
        self._call: Callable[..., None] | None = None  # made when first needed

    @staticmethod
    def named(name: str) -> "Stage":
        """The one stage of this name."""
        return STAGES[name]

    @property
    def address(self) -> int:
        """Address of the C function; the first request in a process looks it up, or has it compiled."""
        if self._address is None:
            found = library()
            known = found is not None and STAGES.get(self.name) is self
            self._address = found.address(self.name) if found is not None and known else self.compiled.address
        return self._address

    @functools.cached_property
    def compiled(self) -> Any:
        """The same as Numba compiles it (`jit.compiled.CompiledStage`); imports the module that defines it."""
        importlib.import_module(self.module)
        assert self.function is not None, f"{self.module} defines no stage {self.name}"
        return importlib.import_module("bebert_kernels.jit.compiled").CompiledStage(self.function)

    def resolve(self) -> Callable[..., None]:
        """Look it up, or have it compiled, and return it as a function of six integers."""
        if self._call is None:
            self._call = PROTOTYPE(self.address)
        return self._call

    def __call__(self, *arguments: int) -> None:
        """Call it from Python: six integers."""
        (self._call or self.resolve())(*arguments)


STAGES = {name: Stage(f"bebert_kernels.{module}", name) for module, names in DEFINED.items() for name in names}


def stage(function: Callable[..., Any]) -> Stage:
    """Decorator of the function of a stage; one that is not in DEFINED is compiled just in time, whatever else is."""
    known = STAGES.get(function.__name__)
    found = known if known and known.module == function.__module__ else Stage(function.__module__, function.__name__)
    found.__doc__, found.function = function.__doc__, function
    return found


def available() -> bool:
    """Whether programs can run: not under NUMBA_DISABLE_JIT."""
    return may_compile()
