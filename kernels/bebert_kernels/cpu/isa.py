"""The instruction set that kernels are compiled for: all that this CPU has, or less of it by BEBERT_ISA.

A level is a class of CPUs, named after what it adds. It stands on another level, and everything that neither
lists is switched off, so that a path meant for small machines runs (and is tested, and measured) on a large one:

    x86:  generic - sse4 - avx2 +- avxvnni                               ARM:  generic = neon - dotprod
                                +- avx512 - avx512vnni - avx512vpopcnt

`native`, the default, is the highest level of which there is a library compiled ahead (`ahead/library.py`); compiled
just in time it is all that the CPU has (`jit/target.py`). What the CPU has, the operating system says: it also knows
which registers it saves.
"""

import ctypes
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path

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
ARM_EXTRAS = ("bf16", "dotprod", "fullfp16", "i8mm", "sme", "sve", "sve2")


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


def features_of(level: str, machine: str, host: Mapping[str, bool], built: Collection[str] | None = None) -> str:
    """Features of a level other than `native`, on and off, in the notation of LLVM: "+sse2,-avx".

    built : levels that there is code for; None where all can be compiled

    Raises IsaError that says what the CPU has and which levels are accepted.
    """
    levels = available_levels(machine, host)
    accepted = ", ".join(name for name in levels if built is None or name in built or name == NATIVE)
    if level not in LADDERS.get(machine, {}):
        known = sorted({name for ladder in LADDERS.values() for name in ladder})
        what = f"is no level of {machine} CPUs" if level in known else "is unknown"
        raise IsaError(f'BEBERT_ISA is "{level}", which {what}; accepted on this CPU: {accepted}')
    if missing := _missing(level, machine, host):
        vectors = ", ".join(sorted(name for name in vector_features(host)))
        raise IsaError(
            f'BEBERT_ISA is "{level}", but this CPU lacks {", ".join(missing)} and has {vectors}; accepted: {accepted}'
        )
    wanted = level_features(level, machine)
    others = set(host) | (set(ARM_EXTRAS) if LADDERS[machine] is _ARM else set())
    return ",".join(f"+{name}" if name in wanted else f"-{name}" for name in sorted(others | set(wanted)))


def vector_features(host: Mapping[str, bool]) -> list[str]:
    """Those features of a CPU that the levels and the kernels care about, sorted."""
    known = {name for machine in LADDERS for level in LADDERS[machine] for name in level_features(level, machine)}
    plain = set(level_features("generic", "x86_64")) - {"sse2"}
    return sorted(name for name, has in host.items() if has and name in (known | set(ARM_EXTRAS)) - plain)


# Words of Linux for what LLVM calls otherwise.
_X86_WORDS = {
    "lm": "64bit",
    "pni": "sse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "bmi1": "bmi",
    "abm": "lzcnt",
    "avx_vnni": "avxvnni",
    "avx512_vnni": "avx512vnni",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vbmi2": "avx512vbmi2",
}
# Bits of AT_HWCAP and AT_HWCAP2 (Linux, arch/arm64/include/uapi/asm/hwcap.h).
_HWCAP, _HWCAP2 = 16, 26
_ARM_BITS = {0: "fp-armv8", 1: "neon", 10: "fullfp16", 20: "dotprod", 22: "sve"}
_ARM_BITS2 = {1: "sve2", 13: "i8mm", 14: "bf16", 23: "sme"}


def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool]:
    """Feature of a level, as LLVM spells it -> True, for those that Linux reports; empty where it reports nothing.

    On ARM the kernel says it to every process (getauxval), on x86 in /proc/cpuinfo.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return _arm_features()
    try:
        lines = [line.split(":")[-1].split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        lines = []
    # Cores of different kinds: what all of them have.
    common = set(lines[0]).intersection(*lines) if lines else set()
    known = set().union(*(level_features(level, "x86_64") for level in _X86))
    return {name: True for word in sorted(common) if (name := _X86_WORDS.get(word, word)) in known}


def _arm_features() -> dict[str, bool]:
    words = zip(_hardware_words(), (_ARM_BITS, _ARM_BITS2), strict=True)
    return {name: True for word, names in words for bit, name in names.items() if word >> bit & 1}


def _hardware_words() -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2 of this process; 0 where there is no Linux."""
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return 0, 0
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return getauxval(_HWCAP), getauxval(_HWCAP2)


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What /proc/cpuinfo calls the CPU: "GenuineIntel 6 207", "ARM 0x41 0xd0b"; "unknown" where it says nothing."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    x86 = [found.get(key, "") for key in ("vendor_id", "cpu family", "model")]
    arm = [found.get(key, "") for key in ("CPU implementer", "CPU part")]
    return " ".join(x86) if all(x86) else f"ARM {' '.join(arm)}" if all(arm) else "unknown"


def level_features(level: str, machine: str) -> list[str]:
    """Features of a level and of those that it stands on."""
    below, added = LADDERS[machine][level]
    return ([] if below is None else level_features(below, machine)) + added.split()


def _missing(level: str, machine: str, host: Mapping[str, bool]) -> list[str]:
    return [name for name in level_features(level, machine) if not host.get(name)]
