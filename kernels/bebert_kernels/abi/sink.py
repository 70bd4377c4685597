"""Ends of a linear layer: inputs, how values become codes, and sinks, where outputs go and as what."""

from typing import NamedTuple

from bebert_kernels.abi.table import Address

# Kinds of sinks: floats, floats to add to, byte codes for a layer, codes for attention, sign words for attention.
TO_FLOATS, TO_SUM, TO_BYTES, TO_CODES, TO_WORDS = range(5)


class Input(NamedTuple):
    """How the rows of a layer become codes.

    rule    : of `abi/rule.py`; ALREADY_CODED needs no more
    numbers : float32[4], `rule.Numbers`
    shift   : float32[K]
    """

    rule: int
    numbers: Address = None
    shift: Address = None


class Sink(NamedTuple):
    """Where some outputs of a layer go.

    kind         : TO_FLOATS ...
    start, width : outputs start .. start + width - 1, which are the columns 0 .. width - 1 of what they go to
    to           : slot
    flags        : slot of the flags "no zero in this row", for all kinds but floats
    rule         : of codes, with `numbers` float32[4] and `shift` float32[width]
    head         : size of a head, TO_WORDS only
    """

    kind: int
    start: int
    width: int
    to: int
    flags: int = 0
    rule: int = 0
    numbers: Address = None
    shift: Address = None
    head: int = 0
