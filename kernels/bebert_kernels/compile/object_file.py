"""All stages to one object file, for any level of any architecture, on any machine: what a library is linked from.

    python -m bebert_kernels.compile.object_file aarch64 dotprod stages.o

Numba asks LLVM three things about the machine: its triple, its CPU's name, its features. Here they are answered for the
level, so everything that Numba compiles in this process is code for it, the same that it would compile there. Such code
need not run here, and never does.

Numba's function of a stage returns a status and reports exceptions to Python. Stages raise none, so around each goes a
plain C function of six int64, and what reports to Python becomes empty: a library wants nothing but the C library. A
stage that needs anything else of Numba or Python ends the compilation, for an empty helper would make it wrong.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from bebert_kernels.ahead.library import PREFIX
from bebert_kernels.cpu.isa import LADDERS, level_features

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
# Whose costs and schedules LLVM takes for a level. It decides no instruction: features are those of the level alone.
CPUS = {
    "x86_64": {
        "generic": "x86-64",
        "sse4": "goldmont",
        "avx2": "znver2",
        "avxvnni": "gracemont",
        "avx512": "skylake-avx512",
        "avx512vnni": "cascadelake",
        "avx512vpopcnt": "icelake-server",
    },
    "aarch64": {"neon": "cortex-a72", "dotprod": "cortex-a76"},
}
# Features of ARM that a CPU's name brings along and no level has; x86 has its own list in LLVM.
ARM_OTHERS = ("aes", "bf16", "crc", "dotprod", "fullfp16", "i8mm", "lse", "rcpc", "rdm", "sha2", "sve", "sve2")
# What a stage of arrays on given memory never comes to: exceptions, and the count of references.
REPORTING = set(
    "numba_do_raise numba_gil_ensure numba_gil_release numba_runtime_build_excinfo_struct numba_unpickle "
    "PyBytes_FromStringAndSize PyErr_Clear PyErr_SetNone PyErr_SetString PyErr_WriteUnraisable PyUnicode_FromString "
    "Py_DecRef NRT_Free NRT_MemInfo_call_dtor NRT_decref NRT_incref".split()
)
PYTHON = re.compile(r"^declare ([^@\n]*)@((?:numba_|Py|NRT_)\w+)\((.*)\)[^()\n]*$", re.MULTILINE)
MESSAGE = re.compile(r"(@\.const\.pickle(?:buf|data)\.)([0-9a-f]{40})")
KIND = re.compile(r"\b(void|ptr|i\d+|double|float)\b")


def features_of(architecture: str, level: str, known: list[str]) -> str:
    """Features of a level on, all others off, in the notation of LLVM."""
    wanted = level_features(level, architecture)
    return ",".join(f"{'+' if name in wanted else '-'}{name}" for name in sorted({*known, *wanted}))


def imitate(architecture: str, cpu: str, features: str) -> None:
    """From now on Numba compiles for this CPU; to be called before any other module of this package is imported."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    switches = {feature[1:]: feature[0] == "+" for feature in features.split(",")}
    llvm.get_process_triple = lambda: TRIPLES[architecture]
    llvm.get_host_cpu_name = lambda: cpu
    llvm.get_host_cpu_features = lambda: llvm.FeatureMap(switches)

    from numba.core import dispatcher

    kernels: Any = dispatcher.Dispatcher
    # Without its entry point a kernel is "not compiled yet" at every call, and never runs.
    kernels.add_overload = lambda self, result: self.overloads.__setitem__(result.signature.args, result)


def compile_object(architecture: str, cpu: str, features: str) -> bytes:
    """An object file with a function of every stage, after `imitate`."""
    import importlib

    import llvmlite.binding as llvm
    from numba.core import ccallback, types
    from numba.core.compiler import Compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    from bebert_kernels.abi.stage import STAGES
    from bebert_kernels.jit.compiled import ARGUMENTS

    whole: Any = None
    for stage in STAGES.values():
        importlib.import_module(stage.module)
        options = {"nopython": True, "error_model": "numpy"}
        compiler: Any = vars(ccallback)["_CFuncCompiler"]
        result = compiler(stage.function, cpu_target, options, {}, Compiler).compile(ARGUMENTS, types.void)
        with global_compiler_lock:
            result.library._ensure_finalized()  # with all that it calls
        text = with_entry(str(result.library._final_module), result.fndesc.llvm_func_name, PREFIX + stage.name)
        module = llvm.parse_assembly(text)
        module.verify()
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    for function in whole.functions:
        if not function.is_declaration and not function.name.startswith(PREFIX):
            function.linkage = "internal"
    for variable in whole.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    target = llvm.Target.from_triple(TRIPLES[architecture])
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small")
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3)))
    return bytes(machine.emit_object(whole))


def with_entry(text: str, inner: str, name: str) -> str:
    """IR of a module in which `name` calls Numba's function `inner`, and helpers that report to Python do nothing.

    Numba's function takes places of its result and of its exception, then the arguments.
    """
    arguments = ", ".join(f"i64 %a{i}" for i in range(6))
    text = "\n".join(_without(text.splitlines(), "@cfunc."))
    text += f"""
define void @{name}({arguments}) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @{inner}(ptr %result, ptr %exception, {arguments})
  ret void
}}
"""

    def empty(found: re.Match[str]) -> str:
        if found[2] not in REPORTING:
            raise ValueError(f"{name} calls {found[2]}, which a library cannot have; write the kernel without it")
        kind, *parameters = (KIND.search(part)[0] for part in (found[1], *filter(None, found[3].split(", "))))  # type: ignore[index]
        value = "void" if kind == "void" else f"{kind} {'null' if kind == 'ptr' else 0}"
        return f"define internal {kind} @{found[2]}({', '.join(parameters)}) {{\n  ret {value}\n}}"

    return _without_messages(PYTHON.sub(empty, text))


def _without_messages(text: str) -> str:
    """IR of a module in which exceptions say nothing: messages hold paths of the machine that compiles."""
    numbers: dict[str, int] = {}
    text = MESSAGE.sub(lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers))}", text)
    kept = []
    for line in text.splitlines():
        head, constant, _ = line.partition(" = internal constant ")
        if constant and head.startswith("@.const.pickledata."):
            continue
        if constant and head.startswith("@.const.picklebuf."):
            line = f"{head}{constant}{{ ptr, i32, ptr, ptr, i32 }} zeroinitializer"
        kept.append(line)
    return "\n".join(kept)


def _without(lines: list[str], mark: str) -> list[str]:
    """Lines of a module but for the definitions whose first line has a mark."""
    kept, inside = [], False
    for line in lines:
        inside = inside or (line.startswith("define") and mark in line)
        if not inside:
            kept.append(line)
        elif line == "}":
            inside = False
    return kept


def main() -> None:
    """ARCHITECTURE LEVEL OBJECT."""
    architecture, level, target = sys.argv[1:]
    os.environ |= {"BEBERT_KERNELS": "jit", "BEBERT_QUIET": "1", "BEBERT_CACHE_DIR": os.devnull}
    for name in ("BEBERT_ISA", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_DISABLE_JIT"):
        os.environ.pop(name, None)
    if level not in LADDERS.get(architecture, {}) or level not in CPUS[architecture]:
        raise SystemExit(f"{architecture} {level} is no level; accepted are {CPUS}")
    cpu = CPUS[architecture][level]
    known = list(ARM_OTHERS)
    if architecture == "x86_64":
        import llvmlite.binding as llvm

        known = list(llvm.get_host_cpu_features())
    features = features_of(architecture, level, known)
    imitate(architecture, cpu, features)
    Path(target).write_bytes(compile_object(architecture, cpu, features))


if __name__ == "__main__":
    main()
