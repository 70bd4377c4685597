"""The engine: members as native programs, which threads run without the interpreter between their stages.

`bebert_infer/model/` says what a member computes. Here its stages are written down once, as tables of addresses and
sizes, and `bebert_kernels/program/interpreter.py` executes them in one call a thread. Both give the same bits.
"""

import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from bebert_infer.model.attention import BooleanAttention, SoftmaxAttention
from bebert_infer.model.batch import Batch
from bebert_infer.model.member import Member
from bebert_infer.model.noise import Noise
from bebert_infer.native.lower_unfused import can_fuse, lowered
from bebert_infer.native.memory import workspace_bytes
from bebert_infer.native.team import ThreadTeam
from bebert_infer.native.workspace import CheckedBatch, Workspace, check_batch
from bebert_kernels.abi.frame import Frame
from bebert_kernels.abi.stage import Stage
from bebert_kernels.machine_code import library

RUN = Stage.named("run_program")

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
        self,
        batch: Batch,
        noise: list[Noise] | None = None,
        *,
        times: Sequence[NDArray[np.int64]] | None = None,
    ) -> NDArray[np.float32]:
        """Logits float32[members, S, labels] of a ragged batch; one call runs at a time.

        noise : of each member
        times : of each member int64[threads, instructions], receives nanoseconds of each on each thread
        """
        whole = len(self.members) // self.threads * self.threads
        drawn: Sequence[Noise | None] = noise or [None] * len(self.members)
        with self.team.turn:
            self.team.rouse(self.threads - 1 if whole else shares_of(batch.rows, self.threads) - 1)
            logits = []
            if whole:
                spent = None if times is None else times[:whole]
                some, lanes = self.members[:whole], self.threads
                logits += run_members(some, batch, self.team, 1, drawn[:whole], lanes, spent)
            for index in range(whole, len(self.members)):
                spent = None if times is None else [times[index]]
                logits += run_members(
                    [self.members[index]], batch, self.team, self.threads, [drawn[index]], times=spent
                )
        return np.stack(logits)

    def one_member_logits(self, member: int, batch: Batch) -> NDArray[np.float32]:
        """Logits float32[S, labels] of one member, its rows split among all threads."""
        with self.team.turn:
            self.team.rouse(shares_of(batch.rows, self.threads) - 1)
            return self.members[member].forward(batch, self.team, threads=self.threads)

    def pinned(self) -> list[dict[int, NDArray]]:
        """Arrays that programs point to, by address, of each program: weights as kernels read them, tables."""
        return [member.program.pinned for member in self.members]

    def workspace_bytes(self, rows: int, sentences: int, tokens: int) -> list[int]:
        """Bytes of the workspace of each program after calls of at most so many rows, sentences, tokens a sentence."""
        return [workspace_bytes(member.program.sizes, rows, sentences, tokens, self.threads) for member in self.members]


def shares_of(rows: int, threads: int) -> int:
    """Into how many shares rows are split for so many threads."""
    return max(1, min(threads, rows // ROWS_A_THREAD))


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
    found += [
        "popcount_epilogue",
        "popcount_encode",
        "by_rows",
        "norm",
        "gather",
        "classify",
        RUN.name,
        "serve",
        "run_team",
        "rouse",
    ]
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
        team: ThreadTeam | None = None,
        *,
        threads: int = 1,
        noise: Noise | None = None,
        times: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Return the logits float32[S, labels]; as `Member.forward`.

        team  : runs the shares of `threads` threads at the same time; None: one thread
        times : int64[instructions], receives nanoseconds of each, of all threads together; or of each thread,
                int64[threads, instructions]
        """
        count = threads if team is not None else 1
        spent = None if times is None else [np.zeros((count, times.shape[-1]), np.int64)]
        logits = run_members([self], batch, team, count, [noise], times=spent)[0]
        if times is not None and spent is not None:
            times += spent[0] if times.ndim > 1 else spent[0].sum(axis=0)
        return logits

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A workspace that nobody else has until the end."""
        try:
            found = self._free.pop()
        except IndexError:
            found = Workspace(self.program.sizes)
        try:
            yield found
        finally:
            self._free.append(found)


def run_members(
    members: Sequence[NativeMember],
    batch: Batch,
    team: ThreadTeam | None,
    threads: int,
    noise: Sequence[Noise | None],
    lanes: int = 1,
    times: Sequence[NDArray[np.int64]] | None = None,
) -> list[NDArray[np.float32]]:
    """Run members at the same time, and return the logits float32[S, labels] of each.

    threads : of each member      lanes : threads that take whole members in turn, where members have one thread each
    times   : of each member int64[threads, instructions], receives nanoseconds of each on each thread
    """
    with ExitStack() as stack:
        jobs, pinned, logits = [], [], []
        count = shares_of(batch.rows, threads)
        checked: dict[tuple[int, int, int], CheckedBatch] = {}
        for index, (member, own) in enumerate(zip(members, noise, strict=True)):
            workspace = stack.enter_context(member.workspace())
            program, sizes = member.program, member.program.sizes
            tables = sizes.vocabulary, sizes.positions, sizes.types
            if tables not in checked:
                checked[tables] = check_batch(batch, sizes)
            drawn = None if own is None else own.draw(batch, slice(0, batch.rows), sizes.hidden)
            logits.append(workspace.prepare(checked[tables], count, drawn))
            barrier = np.zeros(8, np.int64)  # a cache line of its own
            timed = [0] * count
            if times is not None:
                first_row = index % lanes
                timed = [row.ctypes.data for row in times[index][first_row : first_row + count]]
            call, rest = (batch.rows, batch.sentences, count), (workspace.scratch_words, program.block)
            frames = np.array([Frame(*call, barrier.ctypes.data, address, *rest) for address in timed], np.int64)
            first = *program.addresses, len(program.phases)
            slots, frame = workspace.slots.ctypes.data, frames.ctypes.data
            step, width = workspace.slots.strides[0], frames.strides[0]
            jobs += [(*first, slots + step * t, frame + width * t, t) for t in range(count)]
            pinned += [barrier, frames]
        ways = max(lanes, len(jobs) if len(members) == 1 else 1)
        shares = [np.array(jobs[way::ways], np.int64) for way in range(ways)]
        if team is None:
            for job in jobs:
                RUN(*job)
        else:
            team.run(shares)
        return [found.copy() for found in logits]
