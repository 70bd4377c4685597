"""What threads need of the CPU and of the system: time, atomics, sleep, and the CPU that a thread is on.

System calls are Linux' own, by their numbers. Elsewhere nobody sleeps here and no thread has a known CPU.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bebert_kernels.emit.emitter import Emitter, Value, emitted
from bebert_kernels.emit.vectors import I32, I64

SYSTEM_CALLS = {  # futex, sched_setaffinity, sched_getaffinity, gettid
    "x86_64": (202, 203, 204, 186),
    "aarch64": (98, 122, 123, 178),
}
FUTEX, SET_AFFINITY, GET_AFFINITY, THREAD_ID = range(4)
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # both private: among threads of one process


@emitted(types.int64)
def now(e: Emitter) -> Value:
    """Monotonic time in nanoseconds, int64, by the C library's clock_gettime."""
    b = e.builder
    place = cgutils.alloca_once(b, ir.ArrayType(I64, 2))  # once: within a loop the stack would grow with every look
    e.call("clock_gettime", I32, I32(1), place)
    seconds, rest = (b.load(b.gep(place, [I64(0), I64(i)])) for i in (0, 1))
    return b.add(b.mul(seconds, I64(1_000_000_000)), rest)


@emitted(types.int64)
def atomic_add(e: Emitter, address: Value, value: Value) -> Value:
    """Add to the int64 at an address, seen by all threads; returns the value before."""
    return e.builder.atomic_rmw("add", e.pointer(address, 0, I64), value, "seq_cst")


@emitted()
def sched_yield(e: Emitter) -> None:
    """Let another thread run: sched_yield."""
    e.call("sched_yield", I32)


@emitted(types.int64)
def atomic_load(e: Emitter, address: Value) -> Value:
    """The int64 at an address as another thread left it."""
    return e.builder.load_atomic(e.pointer(address, 0, I64), "acquire", 8)


@emitted()
def atomic_store(e: Emitter, address: Value, value: Value) -> None:
    """Write the int64 at an address, after all that was written before."""
    e.builder.store_atomic(value, e.pointer(address, 0, I64), "seq_cst", 8)


@emitted(types.int64)
def atomic_exchange_if(e: Emitter, address: Value, expected: Value, value: Value) -> Value:
    """Write the int64 at an address if it is the expected one; returns 1 if it was, else 0."""
    pair = e.builder.cmpxchg(e.pointer(address, 0, I64), expected, value, "seq_cst", "seq_cst")
    return e.builder.zext(e.builder.extract_value(pair, 1), I64)


@emitted()
def relax(e: Emitter) -> None:
    """Let the other thread of this core go first for a moment, where the CPU knows such a hint."""
    triple = e.builder.module.triple
    if triple.startswith("x86_64"):
        e.call("llvm.x86.sse2.pause", ir.VoidType())
    elif triple.startswith(("aarch64", "arm64")):
        e.call("llvm.aarch64.hint", ir.VoidType(), I32(1))


@emitted(types.int64)
def this_cpu(e: Emitter) -> Value:
    """Number of the CPU that this thread is on; -1 where the system does not say."""
    if "linux" not in e.builder.module.triple:
        return I64(-1)
    return e.builder.sext(e.call("sched_getcpu", I32), I64)


@emitted(types.int64)
def this_thread(e: Emitter) -> Value:
    """The system's number of this thread; -1 where it has none."""
    return _system_call(e, THREAD_ID)


@emitted(types.int64)
def cpus_of(e: Emitter, thread: Value, mask: Value, size: Value) -> Value:
    """Write the CPUs that a thread may run on, one bit each, to `size` bytes at an address; thread 0: this one.

    Returns how many bytes were written; below 1 if none.
    """
    return _system_call(e, GET_AFFINITY, thread, size, mask)


@emitted(types.int64)
def allow_cpus(e: Emitter, thread: Value, mask: Value, size: Value) -> Value:
    """Let a thread run on these CPUs alone, as `cpus_of`. Returns 0, or -1 if that cannot be."""
    return _system_call(e, SET_AFFINITY, thread, size, mask)


@emitted(types.int64)
def sleep_while(e: Emitter, address: Value, value: Value) -> Value:
    """Sleep while the int64 at an address, of which only 32 bits count, is the value, until somebody wakes this thread.

    It may also wake for no reason. Returns 1, or 0 at once where threads cannot sleep so.
    """
    _system_call(e, FUTEX, address, I64(FUTEX_WAIT), value, I64(0))
    return I64(int(_number(e, FUTEX) is not None))


@emitted()
def wake(e: Emitter, address: Value) -> None:
    """Wake one thread that sleeps at an address."""
    _system_call(e, FUTEX, address, I64(FUTEX_WAKE), I64(1))


def _number(e: Emitter, name: int) -> int | None:
    architecture, _, rest = e.builder.module.triple.partition("-")
    return SYSTEM_CALLS[architecture][name] if architecture in SYSTEM_CALLS and "linux" in rest else None


def _system_call(e: Emitter, name: int, *arguments: Value) -> Value:
    """Its result, by the C library's `syscall`; -1 where the system has no such call."""
    number = _number(e, name)
    if number is None:
        return I64(-1)
    kind = ir.FunctionType(I64, [I64], var_arg=True)
    function = cgutils.get_or_insert_function(e.builder.module, kind, "syscall")
    return e.builder.call(function, [I64(number), *arguments])
