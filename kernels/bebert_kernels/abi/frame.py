"""A call of a program: what all of its stages may ask about it, and the phases that it runs through."""

from typing import NamedTuple

from bebert_kernels.abi.table import Address

ROWS, SENTENCES = range(2)  # domains of phases: what their rows are

BLOCK = 128  # rows at a time, or fewer (`Frame.block`): what they need stays in the second-level cache


class Frame(NamedTuple):
    """Sizes of a call.

    rows, sentences : of the batch        threads : that run it
    barrier         : int64[1], count of arrivals
    times           : int64[instructions], receives nanoseconds of this thread, or None
    scratch         : words of the slot ATTENTION
    block           : rows at a time
    """

    rows: int
    sentences: int
    threads: int
    barrier: Address
    times: Address
    scratch: int
    block: int


class Phase(NamedTuple):
    """Instructions first .. end - 1, for all rows of a domain."""

    first: int
    end: int
    domain: int
