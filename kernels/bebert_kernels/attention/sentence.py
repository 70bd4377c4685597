"""What both kinds of attention are told about a sentence."""

from typing import NamedTuple


class Sentence(NamedTuple):
    """Rows of the batch.

    first, last         : queries, first .. last - 1
    key_first, key_last : keys and values, at least one
    """

    first: int
    last: int
    key_first: int
    key_last: int
