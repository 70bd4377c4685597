"""The one place that chooses the arithmetic: the NumPy reference or the compiled Numba kernels.

Both modules offer the same functions with the same signatures and, bit for bit, the same results
(`kernels/README.md`), so the choice changes speed and nothing else.
"""

import importlib
import os
from types import ModuleType

from bebert_infer.errors import InputError

# A table instead of a ladder: the name a user may write -> the module that answers to it.
BACKENDS = {"numba": "bebert_kernels.compiled", "reference": "bebert_kernels.reference.integers"}


def choose_backend(name: str | None = None) -> ModuleType:
    """Return the kernels to use: `name`, else the environment variable BEBERT_BACKEND, else "numba".

    Raises InputError for a name that is not in BACKENDS.
    """
    chosen = name or os.environ.get("BEBERT_BACKEND") or "numba"
    if chosen not in BACKENDS:
        source = "backend" if name else "BEBERT_BACKEND"
        raise InputError(f'{source} is "{chosen}"; accepted are {", ".join(sorted(BACKENDS))}')
    try:
        return importlib.import_module(BACKENDS[chosen])
    except ValueError as error:  # BEBERT_ISA names no instruction set of this CPU
        raise InputError(str(error)) from None
