"""Compile all kernels for an ARM board on this machine, into the cache that emulated processes read.

    python tests/arm64/cross.py cortex-a72 FEATURES [FOLDER]

Numba asks LLVM three things about the machine: its triple, its CPU's name, its features. Here they are answered for
the board, so everything that Numba compiles in this process is aarch64 code, the same that it would compile there. Such
code must not run here: a kernel that is called is compiled and skipped. Compiling under emulation takes ten times as
long, and works as well: a cache that does not fit (other versions of Python or Numba) costs time only.

FEATURES are as LLVM writes them, "+neon,+crc"; FOLDER takes one file of assembly for each stage of the programs.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
TRIPLE = "aarch64-unknown-linux-gnu"
# What LLVM reads in /proc/cpuinfo of a Raspberry Pi 4 and 5.
FEATURES = {"cortex-a72": "+crc,+fp-armv8,+neon", "cortex-a76": "+aes,+crc,+fp-armv8,+lse,+neon,+sha2"}


def target(cpu: str, features: str) -> None:
    """From now on Numba compiles for this CPU; before bebert_kernels is imported."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    switches = {feature[1:]: feature[0] == "+" for feature in features.split(",")}
    llvm.get_process_triple = lambda: TRIPLE
    llvm.get_host_cpu_name = lambda: cpu
    llvm.get_host_cpu_features = lambda: llvm.FeatureMap(switches)

    from numba.core.dispatcher import Dispatcher

    def compile_only(self: Any, *arguments: Any, **_: Any) -> Any:
        self.compile(tuple(self.typeof_pyval(argument) for argument in arguments))
        return partial(_size, self.py_func) if self.py_func.__annotations__.get("return") else lambda *_: None

    Dispatcher._compile_for_args = compile_only
    # Without its entry point a kernel is "not compiled yet" at every call, and never runs.
    Dispatcher.add_overload = lambda self, result: self.overloads.__setitem__(result.signature.args, result)


def _size(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a kernel that returns a size says in Python: sizes are needed here, results are not."""
    try:
        return function(*arguments)
    except NotImplementedError:  # what is emitted as vector code has no form in Python
        return 0


def stages() -> list[Any]:
    """Every stage of the native programs."""
    from bebert_kernels.abi.stage import STAGES

    return list(STAGES.values())


def main() -> None:
    """Compile stages, the kernels that tests call, with the types that they use, and the program itself."""
    target(sys.argv[1], sys.argv[2])
    for stage in stages():
        stage.compiled.compile()
        if len(sys.argv) > 3:
            folder = Path(sys.argv[3])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{stage.name}.s").write_text(stage.compiled.assembly())
    import engine_kernels
    import kernel_cases

    from bebert_infer import Ensemble
    from bebert_infer.measure.sample_models import demo_path
    from bebert_kernels.lookup import gemm as lut_gemm
    from bebert_kernels.lookup import layout as lut_layout

    for name, arguments in kernel_cases.calls(0):
        if name != "classify":  # a stage, compiled above
            getattr(engine_kernels, name)(*arguments)
    octets = np.zeros(64, np.uint8)
    lut_gemm.lut_tables(octets.reshape(4, 16), 4, octets)
    lut_gemm.lut_panel(octets, octets, 0, 4, 16, np.zeros((4, lut_layout.PANEL), np.int32))
    for model in sorted(path for path in FROZEN.iterdir() if path.is_dir()) + [demo_path()]:
        ones = np.ones((1, 3), np.int64)
        with suppress(ValueError):  # numbers that nobody computed
            Ensemble.from_pretrained(model, threads=1).member_logits(ones, ones, 0 * ones)


if __name__ == "__main__":
    main()
