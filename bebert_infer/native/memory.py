"""What a model needs in memory: a function of tokens, sentences, members and threads.

    model      tensors of the file, and what is made of them at load: panels of weights, tables of addresses
    workspace  of each member, made by the first call and kept: buffers for every row of a chunk (at most MAX_ROWS rows,
               or one sentence that is longer), and for each thread scratch for a block of rows and the longest sentence
    call       token ids, masks, types, positions and logits, which go when the call returns

One call runs at a time, so Python threads that call add a `call` each and nothing else.
"""

from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from bebert_infer.artifact.config import Config
from bebert_infer.errors import InputError
from bebert_infer.model.batch import MAX_ROWS
from bebert_infer.model.engine import Engine

BORDER = 64  # bytes with which `triples.aligned` moves an array to a border
COPIES = 12  # int64 a token: three inputs, checked, compared, and without padding


class Memory(Struct, frozen=True):
    """Bytes. The interpreter, numpy and tokenizers come on top: about 45 MB, whatever the model; 140 with Numba.

    model, workspace, call : see the top of this file      members : those whose workspace is counted
    """

    model: int
    workspace: int
    call: int
    members: int

    @property
    def total(self) -> int:
        """All bytes of a process with this model, once it has answered such a call."""
        return self.model + self.workspace + self.call


def memory_of(config: Config, tensors: dict[str, NDArray], engine: Engine, sentences: int, tokens: int) -> Memory:
    """What a model and its engine need for calls of at most so many sentences of at most so many tokens.

    tensors : of the model, those that are kept beside what the engine has

    The reference has no workspace: its arrays come and go.

    Raises InputError for counts below 1 and for more tokens than the model has positions.
    """
    if sentences < 1 or not 1 <= tokens <= config.max_position_embeddings:
        raise InputError(
            f"{sentences} sentences of {tokens} tokens; accepted are at least 1 sentence "
            f"and 1 to {config.max_position_embeddings} tokens"
        )
    rows = sentences * tokens
    call = 8 * COPIES * rows + 16 * sentences * config.num_labels * len(config.members)
    tables: list[dict] = [tensors, *engine.pinned()]
    workspaces = engine.workspace_bytes(rows, sentences, tokens)
    return Memory(
        sum({array.ctypes.data: array.nbytes for table in tables for array in table.values()}.values()),
        sum(workspaces),
        call,
        len(workspaces),
    )


def workspace_bytes(sizes: Any, rows: int, sentences: int, tokens: int, threads: int) -> int:
    """Bytes of the workspace of one member after calls of at most so many rows, sentences, tokens of a sentence.

    sizes : `workspace.Sizes` of its program
    """
    from bebert_infer.native.workspace import rounded, scratch_bytes, shared_bytes

    chunk = min(rows, max(MAX_ROWS, tokens))
    room, keys = rounded(chunk), rounded(tokens)
    shared = shared_bytes(sizes, room, min(sentences, chunk))
    scratch = scratch_bytes(sizes, room, keys)
    return sum(shared) + BORDER * len(shared) + threads * (sum(scratch.values()) + BORDER * len(scratch))
