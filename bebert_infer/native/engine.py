"""The engine: members as native programs, which threads run without the interpreter between their stages.

`bebert_infer/model/` says what a member computes. Here its stages are written down once, as tables of addresses and
sizes, and `bebert_kernels/program/interpreter.py` executes them in one call a thread. Both give the same bits.
"""

import importlib
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.batch import Batch
from bebert_infer.model.member import Member
from bebert_infer.model.noise import Noise
from bebert_infer.native.lower_unfused import can_fuse, lowered
from bebert_infer.native.memory import workspace_bytes
from bebert_infer.native.workspace import Workspace
from bebert_infer.threads import ThreadTeam
from bebert_kernels.abi import frame
from bebert_kernels.abi.frame import Frame
from bebert_kernels.abi.stage import Stage
from bebert_kernels.machine_code import library

RUN = Stage.named("run_program")
RunParallel = Callable[[list[Callable[[], None]], Callable[[], None]], None]  # `ThreadTeam.run`

ROWS_A_THREAD = 4  # with fewer, waking and waiting take longer than the rows: 4 rows 0.37 ms on one thread, 0.45 on two


class NativeEngine:
    """Members as programs, and the threads that run them: whole members first, then rows within a member.

    members  : of the ensemble, in its order
    releases : whether members may give back what programs have in a form of their own; they compute nothing then
    """

    name = "native"

    def __init__(self, members: list[Member], threads: int, releases: bool = False):
        self.members = lower_members(members, releases)
        self.threads = threads
        self.team = ThreadTeam(threads)

    def member_logits(
        self, batch: Batch, noise: list[Noise] | None = None, *, times: list[NDArray[np.int64]] | None = None
    ) -> NDArray[np.float32]:
        """Logits float32[members, S, labels] of a ragged batch; one call runs at a time.

        noise : of each member
        times : of each member int64[threads, instructions], receives nanoseconds of each on each thread
        """
        logits: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(self.members)
        whole = len(self.members) // self.threads * self.threads

        def run(index: int, threads: range) -> None:
            own = None if noise is None else noise[index]
            spent = None if times is None else times[index][threads.start : threads.stop]
            logits[index] = self.members[index].forward(
                batch, self.team.run, threads=len(threads), noise=own, times=spent
            )

        def lane(first: int) -> None:
            for index in range(first, whole, self.threads):
                run(index, range(first, first + 1))

        with self.team.turn:
            if whole:
                self.team.run([partial(lane, first) for first in range(self.threads)])
            for index in range(whole, len(self.members)):
                run(index, range(self.threads))
        return np.stack(logits)

    def one_member_logits(self, member: int, batch: Batch) -> NDArray[np.float32]:
        """Logits float32[S, labels] of one member, its rows split among all threads."""
        with self.team.turn:
            return self.members[member].forward(batch, self.team.run, threads=self.threads)

    def pinned(self) -> list[dict[int, NDArray]]:
        """Arrays that programs point to, by address, of each program: weights as kernels read them, tables."""
        return [member.program.pinned for member in self.members]

    def workspace_bytes(self, rows: int, sentences: int, tokens: int) -> list[int]:
        """Bytes of the workspace of each program after calls of at most so many rows, sentences, tokens a sentence."""
        return [workspace_bytes(member.program.sizes, rows, sentences, tokens, self.threads) for member in self.members]


def lower_members(members: list[Member], releases: bool = False) -> "list[NativeMember]":
    """Return the native form of every member; if Numba compiles, what they need is compiled first, side by side."""
    stages = [Stage.named(name) for name in _stages(members)]
    if library() is None:
        importlib.import_module("bebert_kernels.abi.precompile").precompile(stages)
    for stage in stages:
        stage.resolve()  # now: a process that forks in its first call would leave a lock of numba to the child, locked
    return [NativeMember(member, releases) for member in members]


def _stages(members: list[Member]) -> list[str]:
    """What these members will need, so that it can be compiled side by side; the longest ones at both ends."""
    fused = [block.attention for member in members if can_fuse(member) for block in member.blocks]
    rest = [member for member in members if not can_fuse(member)]
    boolean = any(isinstance(attention, BooleanAttention) for attention in fused)
    softmax = any(isinstance(attention, SoftmaxAttention) for attention in fused)
    found = ["linear", "bitsliced_encode", "embed"]
    found += ["bitsliced_sign_epilogue"] if boolean else []
    found += ["lookup_gemm", "lookup_encode"] if softmax else []
    found += ["popcount_epilogue", "popcount_encode", "by_rows", "norm", "gather", "classify", RUN.name]
    found += ["attend_on_bits"] if boolean else []
    found += ["attend_on_codes"] if softmax else []
    if rest:
        found += ["attend_on_floats", "quantize_rows", "combine_branches", "measure_rows"]
        found += ["activate"] if any(block.gelu for member in rest for block in member.blocks) else []
    return [*found, "popcount_gemm", "bitsliced_epilogue", "bitsliced_gemm"]


class NativeMember:
    """The program of one member, its packed weights, and workspaces that calls take in turn."""

    def __init__(self, member: Member, releases: bool = False):
        self.program = lowered(member, releases)
        self._free: deque[Workspace] = deque()  # no lock: a thread that is gone after a fork cannot hold it

    def forward(
        self,
        batch: Batch,
        run_parallel: RunParallel | None = None,
        *,
        threads: int = 1,
        noise: Noise | None = None,
        times: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Return the logits float32[S, labels]; as `Member.forward`.

        run_parallel : runs the shares of `threads` threads at the same time (`ThreadTeam.run`); None: one thread
        times        : int64[instructions], receives nanoseconds of each, of all threads together; or of each thread,
                       int64[threads, instructions]
        """
        program = self.program
        threads = max(1, min(threads, batch.rows // ROWS_A_THREAD)) if run_parallel is not None else 1
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace(program.sizes)
        try:
            rows = slice(0, batch.rows)
            drawn = None if noise is None else noise.draw(batch, rows, program.sizes.hidden)
            logits = workspace.prepare(batch, threads, drawn)
            barrier = np.zeros(8, np.int64)  # a cache line of its own
            spent = np.zeros((threads, 0 if times is None else times.shape[-1]), np.int64)

            def work(thread: int) -> None:
                try:
                    address = spent[thread].ctypes.data if times is not None else 0
                    sizes = batch.rows, batch.sentences, threads
                    call = Frame(*sizes, barrier.ctypes.data, address, workspace.scratch_words, program.block)
                    table = np.array(call, np.int64)
                    slots = workspace.slots[thread].ctypes.data
                    RUN(*program.addresses, len(program.phases), slots, table.ctypes.data, thread)
                except BaseException:
                    open_barrier()
                    raise

            def open_barrier() -> None:
                barrier[0] = frame.FREE  # nobody waits any more for a thread that never comes

            if run_parallel is None or threads == 1:
                work(0)
            else:
                run_parallel([partial(work, thread) for thread in range(threads)], open_barrier)
            if times is not None:
                if times.ndim > 1:
                    times[:threads] += spent
                else:
                    times += spent.sum(axis=0)
            return logits.copy()
        finally:
            self._free.append(workspace)
