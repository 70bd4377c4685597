"""The instruction set that kernels are compiled for: all that this CPU has, or less of it by BEBERT_ISA.

A level is a class of CPUs, named after what it adds. It stands on another level, and everything that neither
lists is switched off, so that a path meant for small machines runs (and is tested, and measured) on a large one:

    x86:  generic - sse4 - avx2 +- avxvnni                               ARM:  generic = neon - dotprod
                                +- avx512 - avx512vnni - avx512vpopcnt

The name of the CPU stays, and with it LLVM's costs and schedules: what is measured is this machine without some
instructions. `native`, the default, touches nothing, hence NUMBA_CPU_NAME and NUMBA_CPU_FEATURES keep working
there; any other level overrides them. Numba has one target for each process, so a level holds for all numba
code of the process and must be set before the first of it is compiled.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

NATIVE = "native"

_X86 = {
    "generic": (None, "64bit cmov cx8 fxsr mmx sse sse2"),
    "sse4": ("generic", "sse3 ssse3 sse4.1 sse4.2 popcnt"),
    "avx2": ("sse4", "avx avx2 f16c fma bmi bmi2 lzcnt"),
    "avxvnni": ("avx2", "avxvnni"),
    "avx512": ("avx2", "avx512f avx512bw avx512cd avx512dq avx512vl"),
    "avx512vnni": ("avx512", "avx512vnni"),
    "avx512vpopcnt": ("avx512vnni", "avx512vpopcntdq avx512bitalg avx512ifma avx512vbmi avx512vbmi2"),
}
_ARM = {
    "generic": (None, "fp-armv8 neon"),  # every 64-bit ARM has them
    "neon": ("generic", ""),
    "dotprod": ("neon", "dotprod"),
}
# platform.machine() -> level -> (level below or None, what the level adds, as LLVM spells it)
LADDERS: dict[str, dict[str, tuple[str | None, str]]] = {
    "x86_64": _X86,
    "AMD64": _X86,
    "aarch64": _ARM,
    "arm64": _ARM,
}
# A CPU's name implies these for LLVM, and the host's list may leave out what a virtual machine hides.
_ARM_EXTRAS = ("bf16", "dotprod", "fullfp16", "i8mm", "sme", "sve", "sve2")

_config: Any = numba.config


class IsaError(ValueError):
    """BEBERT_ISA asks for something unknown, or for something that this CPU cannot run."""


def chosen_level() -> str:
    """The value of BEBERT_ISA in small letters, `native` if it is not set; unchecked."""
    return os.environ.get("BEBERT_ISA", "").strip().lower() or NATIVE


def available_levels(machine: str, host: Mapping[str, bool]) -> list[str]:
    """Levels that a CPU with these features can run, smallest first, `native` last.

    machine : as platform.machine() spells it
    host    : feature -> whether the CPU has it
    """
    levels = [level for level in LADDERS.get(machine, {}) if not _missing(level, machine, host)]
    return [*levels, NATIVE]


def features_of(level: str, machine: str, host: Mapping[str, bool]) -> str:
    """Features of a level other than `native`, on and off, in the notation of LLVM: "+sse2,-avx".

    Raises IsaError that says what the CPU has and which levels are accepted.
    """
    accepted = ", ".join(available_levels(machine, host))
    if level not in LADDERS.get(machine, {}):
        known = sorted({name for ladder in LADDERS.values() for name in ladder})
        what = f"is no level of {machine} CPUs" if level in known else "is unknown"
        raise IsaError(f'BEBERT_ISA is "{level}", which {what}; accepted on this CPU: {accepted}')
    if missing := _missing(level, machine, host):
        vectors = ", ".join(sorted(name for name in vector_features(host)))
        raise IsaError(
            f'BEBERT_ISA is "{level}", but this CPU lacks {", ".join(missing)} and has {vectors}; accepted: {accepted}'
        )
    wanted = _features(level, machine)
    others = set(host) | (set(_ARM_EXTRAS) if LADDERS[machine] is _ARM else set())
    return ",".join(f"+{name}" if name in wanted else f"-{name}" for name in sorted(others | set(wanted)))


def vector_features(host: Mapping[str, bool]) -> list[str]:
    """Those features of a CPU that the levels and the kernels care about, sorted."""
    known = {name for machine in LADDERS for level in LADDERS[machine] for name in _features(level, machine)}
    plain = set(_features("generic", "x86_64")) - {"sse2"}
    return sorted(name for name, has in host.items() if has and name in (known | set(_ARM_EXTRAS)) - plain)


def llvm_features() -> dict[str, bool]:
    """Feature -> whether LLVM finds it here, and Numba so uses it; empty where LLVM cannot tell."""
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


# Words of Linux for features of ARM that LLVM does not look for, and LLVM's words; see `host_features`.
_ARM_WORDS = {"asimddp": "dotprod", "asimdhp": "fullfp16", "i8mm": "i8mm", "bf16": "bf16"}


def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool]:
    """Feature -> whether this CPU has it; empty where LLVM cannot tell.

    On ARM LLVM 22 finds less than there is: it reports no dot product on a Raspberry Pi 5, which has it.
    """
    found = llvm_features()
    if "neon" in found:
        try:
            lines = [line.split(":")[-1].split() for line in cpuinfo.read_text().splitlines() if "Features" in line]
        except OSError:
            lines = []
        if lines:
            common = set(lines[0]).intersection(*lines)  # cores of different kinds: what all of them have
            found |= {name: True for word, name in _ARM_WORDS.items() if word in common}
    return found


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
    name, features = llvm.get_host_cpu_name(), features_of(level, platform.machine(), host_features())
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


def _features(level: str, machine: str) -> list[str]:
    """Features of a level and of those that it stands on."""
    below, added = LADDERS[machine][level]
    return ([] if below is None else _features(below, machine)) + added.split()


def _missing(level: str, machine: str, host: Mapping[str, bool]) -> list[str]:
    return [name for name in _features(level, machine) if not host.get(name)]
