"""Which engine answers: the compiled one, or the NumPy truth, by name or by environment."""

import os

from bebert_infer.errors import InputError
from bebert_infer.model.engine import Engine
from bebert_infer.model.member import Member

# What a user may write -> the engine that answers; "numba" is what "native" was called.
BACKENDS = {"native": "native", "numba": "native", "reference": "reference"}


def chosen_backend(name: str | None = None) -> str:
    """Return "native" or "reference": `name`, else the environment variable BEBERT_BACKEND, else "native".

    Where nothing may be compiled (NUMBA_DISABLE_JIT=1) the reference answers for "native", with the same bits.

    Raises InputError for a name that is not in BACKENDS.
    """
    chosen = name or os.environ.get("BEBERT_BACKEND") or "native"
    if chosen not in BACKENDS:
        source = "backend" if name else "BEBERT_BACKEND"
        raise InputError(f'{source} is "{chosen}"; accepted are native and reference')
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "reference"
    return BACKENDS[chosen]


def native_engine(members: list[Member], threads: int, releases: bool = False) -> Engine:
    """The native engine; releases : as it has it. Raises InputError for a wrong BEBERT_ISA, _KERNELS or _PRODUCT."""
    try:
        from bebert_infer.native.engine import NativeEngine  # which the reference does without

        return NativeEngine(members, threads, releases)
    except ValueError as error:
        raise InputError(str(error)) from None
