"""BEBERT_ISA forces a path that gives the same bits, and what this CPU cannot run is an error that says so."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bebert_kernels.cpu import isa
from bebert_kernels.jit import target

TESTS = Path(__file__).parents[1]
ZEN4 = dict.fromkeys(isa.level_features("avx512vpopcnt", "x86_64") + ["gfni", "sha"], True) | {"avxvnni": False}
ALDER_LAKE = dict.fromkeys(isa.level_features("avxvnni", "x86_64"), True) | {"avx512f": False}
NEOVERSE = dict.fromkeys(["fp-armv8", "neon", "dotprod", "sve", "crc"], True)
HERE = isa.available_levels(platform.machine(), isa.host_features())


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(TESTS / "helpers"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"NUMBA_DISABLE_JIT": "0", "PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def on(features: str) -> set[str]:
    return {name[1:] for name in features.split(",") if name[0] == "+"}


@pytest.mark.parametrize(
    ("machine", "host", "levels"),
    [
        ("x86_64", ZEN4, "generic sse4 avx2 avx512 avx512vnni avx512vpopcnt native"),
        ("x86_64", ALDER_LAKE, "generic sse4 avx2 avxvnni native"),
        ("aarch64", NEOVERSE, "generic neon dotprod native"),
        ("riscv64", {}, "native"),
    ],
)
def test_levels_are_those_that_the_cpu_can_run(machine, host, levels):
    assert isa.available_levels(machine, host) == levels.split()


@pytest.mark.parametrize(
    ("words", "levels"),
    [
        ((1 << 0 | 1 << 1 | 1 << 7, 0), "generic neon native"),  # Cortex-A72
        ((1 << 0 | 1 << 1 | 1 << 10 | 1 << 20, 0), "generic neon dotprod native"),  # Cortex-A76
    ],
)
def test_a_raspberry_pi_has_the_levels_of_its_cpu(words, levels, monkeypatch):
    """Linux says it to every process; LLVM reports no dot product for the newer one, which has it."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(isa, "_hardware_words", lambda: words)
    assert isa.available_levels("aarch64", isa.host_features()) == levels.split()


def test_flags_of_x86_are_those_that_all_cores_have(tmp_path):
    file = tmp_path / "cpuinfo"
    base = "lm cmov cx8 fxsr mmx sse sse2 pni ssse3 sse4_1 sse4_2 popcnt avx avx2 f16c fma bmi1 bmi2 abm"
    file.write_text(f"flags\t\t: {base} avx_vnni ht\nvmx flags\t: vnmi\nflags\t\t: {base} constant_tsc\n")
    if platform.machine() == "x86_64":
        assert isa.available_levels("x86_64", isa.host_features(file)) == "generic sse4 avx2 native".split()
    assert isa.host_features(tmp_path / "none") == {} or platform.machine() != "x86_64"


def test_a_level_switches_off_everything_above_it():
    assert on(isa.features_of("generic", "x86_64", ZEN4)) == set("64bit cmov cx8 fxsr mmx sse sse2".split())
    features = isa.features_of("avx512", "x86_64", ZEN4)
    assert {"avx512bw", "avx512vl", "avx2", "popcnt"} <= on(features)
    assert {"-avx512vnni", "-avx512vpopcntdq", "-avx512vbmi", "-gfni", "-avxvnni"} <= set(features.split(","))
    assert {"-sve", "-sve2", "-dotprod", "-i8mm", "+neon"} <= set(
        isa.features_of("neon", "aarch64", NEOVERSE).split(",")
    )


@pytest.mark.parametrize(
    ("level", "machine", "host", "message"),
    [
        (
            "avx512vpopcnt",
            "x86_64",
            ALDER_LAKE,
            "lacks avx512f, .* has avx, .*; accepted: generic, sse4, avx2, avxvnni,",
        ),
        ("mmx", "x86_64", ZEN4, '"mmx", which is unknown; accepted on this CPU: generic, .*, native$'),
        ("dotprod", "x86_64", ZEN4, "which is no level of x86_64 CPUs; accepted"),
        ("avx2", "aarch64", NEOVERSE, "which is no level of aarch64 CPUs; accepted on this CPU: generic, neon"),
        ("generic", "riscv64", {}, "accepted on this CPU: native"),
    ],
)
def test_what_this_cpu_cannot_run_is_an_error_that_says_what_it_can(level, machine, host, message):
    with pytest.raises(isa.IsaError, match=message):
        isa.features_of(level, machine, host)


def test_an_unknown_level_stops_the_import_of_the_kernels():
    result = run("import bebert_kernels.jit.kernel", BEBERT_ISA="turbo")
    assert result.returncode == 1
    assert 'IsaError: BEBERT_ISA is "turbo", which is unknown; accepted on this CPU: ' in result.stderr


TARGET = """
from bebert_kernels.jit import target
from bebert_kernels.jit import kernel as jit
print(target.target()[0], *jit.cpu_features())
print(jit.cache_directory().name)
"""


def test_features_and_cache_follow_the_level(tmp_path):
    folders = set()
    for level in [*HERE, "", " NATIVE "]:
        result = run(TARGET, BEBERT_ISA=level, BEBERT_CACHE_DIR=str(tmp_path / "cache"))
        assert result.returncode == 0, result.stderr
        (_, *features), (folder,) = (line.split() for line in result.stdout.splitlines())
        folders.add(folder)
        if level in isa.LADDERS[platform.machine()]:
            assert set(features) == set(isa.level_features(level, platform.machine()))
        else:
            assert set(features) == {name for name, has in target.llvm_features().items() if has}
    # On ARM generic and neon are one target.
    assert len(folders) == len({*HERE} - ({"neon"} if platform.machine() in ("aarch64", "arm64") else set()))


def test_numbas_own_variables_imitate_a_cpu_unless_a_level_is_given(tmp_path):
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+popcnt", "BEBERT_CACHE_DIR": str(tmp_path)}
    assert run(TARGET, BEBERT_ISA="native", **environment).stdout.split()[:2] == ["generic", "popcnt"]
    assert run(TARGET, BEBERT_ISA="", **environment).stdout.split()[:2] == ["generic", "popcnt"]
    assert run(TARGET, BEBERT_ISA="generic", **environment).stdout.split()[0] != "generic"


WIDEST = """
import numba, numpy as np
from bebert_kernels.jit import kernel as jit
@numba.njit
def add(a, b, out):
    for i in range(out.size):
        out[i] = a[i] + b[i]
x = np.zeros(64, np.float32)
add(x, x, x)
code = "".join(add.inspect_asm().values())
print(*(kind for kind in ("xmm", "ymm", "zmm") if kind in code))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks at x86 registers")
@pytest.mark.parametrize(
    ("level", "widths"), [("generic", "xmm"), ("sse4", "xmm"), ("avx2", "xmm ymm"), ("avx512", "xmm ymm")]
)
def test_generated_code_uses_no_wider_registers_than_the_level_has(level, widths):
    if level not in HERE:
        pytest.skip(f"this CPU cannot run {level}")
    result = run(WIDEST, BEBERT_ISA=level)
    assert result.returncode == 0, result.stderr
    assert "not a recognized" not in result.stderr  # what LLVM says of a misspelt feature
    assert result.stdout.strip().removesuffix(" zmm" if level == "avx512" else "") == widths


def test_a_level_after_other_numba_code_was_compiled_is_an_error():
    code = "import numba; numba.njit(lambda x: x + 1)(1); import bebert_kernels.jit.kernel"
    level = HERE[0]
    result = run(code, BEBERT_ISA=level)
    assert result.returncode == 1
    assert f'IsaError: BEBERT_ISA is "{level}", but numba compiled other code' in result.stderr
    assert run(code, BEBERT_ISA="").returncode == 0


# Kernels are compiled anew for each: the lowest level and the one that most CPUs have are enough between two commits.
OFTEN = {HERE[0], "avx2", "neon"}


@pytest.mark.parametrize(
    "level", [pytest.param(level, marks=() if level in OFTEN else pytest.mark.long) for level in HERE[:-1]]
)
def test_every_level_of_this_cpu_gives_the_same_bits(level):
    """Products, all kernel functions against their NumPy twins, and whole members, as `bebert doctor` checks them."""
    code = (
        "import product_cases; product_cases.check_all(); "
        "import kernel_cases; kernel_cases.check_all(); kernel_cases.check_all(seed=2, rows=17, depth=333, size=64); "
        "from bebert_infer.measure.machine import self_test; cases = self_test(); assert cases['passed'], cases"
    )
    result = run(code, BEBERT_ISA=level)
    assert result.returncode == 0, result.stderr
