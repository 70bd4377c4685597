"""What Numba generates code for in this process: the level of BEBERT_ISA, or all that LLVM finds here.

The name of the CPU stays, and with it LLVM's costs and schedules: what is measured at a lower level is this machine
without some instructions. `native` touches nothing, hence NUMBA_CPU_NAME and NUMBA_CPU_FEATURES keep working there; any
other level overrides them. Numba has one target for each process, so a level holds for all numba code of the process
and must be set before the first of it is compiled.
"""

import platform
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

from bebert_kernels.cpu.isa import NATIVE, IsaError, chosen_level, features_of, host_features

_config: Any = numba.config


def llvm_features() -> dict[str, bool]:
    """Feature -> whether LLVM finds it here, and Numba so uses it; empty where LLVM cannot tell."""
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


def all_features() -> dict[str, bool]:
    """Feature -> whether LLVM or the operating system finds it here.

    On ARM LLVM 22 finds less than there is: it reports no dot product on a Raspberry Pi 5, which has it.
    """
    return llvm_features() | host_features()


def target() -> tuple[str, str]:
    """Name of the CPU and features (in the notation of LLVM) that numba generates code for in this process."""
    name = llvm.get_host_cpu_name() if _config.CPU_NAME is None else _config.CPU_NAME
    if _config.CPU_FEATURES is not None:
        return name, _config.CPU_FEATURES
    return name, ",".join(f"{'+' if has else '-'}{feature}" for feature, has in sorted(llvm_features().items()))


def apply() -> None:
    """Set numba's target to the level of BEBERT_ISA; `native` leaves it alone.

    Raises IsaError for a level that is unknown or that this CPU cannot run, or if numba has already fixed
    another target because other code was compiled before.
    """
    level = chosen_level()
    if level == NATIVE:
        return
    name, features = llvm.get_host_cpu_name(), features_of(level, platform.machine(), all_features())
    before = _config.CPU_NAME, _config.CPU_FEATURES
    _config.CPU_NAME, _config.CPU_FEATURES = name, features
    if _config.DISABLE_JIT:
        return
    if cpu_target.target_context.codegen().magic_tuple()[2] != features:  # made here, unless it was made before
        _config.CPU_NAME, _config.CPU_FEATURES = before
        raise IsaError(
            f'BEBERT_ISA is "{level}", but numba compiled other code for another target before; '
            f"import bebert_kernels.jit.kernel first, or set no BEBERT_ISA"
        )
