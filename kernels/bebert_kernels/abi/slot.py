"""Slots: the numbers by which a program names memory.

`slots` is int64[COUNT], addresses. Slots below LOCAL belong to the whole call and are indexed by the rows of the batch
(or by sentences); slots from LOCAL on belong to one thread and hold the rows of its present block.
"""

# Of the call.
HIDDEN = 0  # float32[rows, C]
FIRST = 1  # float32[sentences, C], first tokens in the last block
LOGITS = 2  # float32[sentences, labels]
IDS, POSITIONS, TYPES = 3, 4, 5  # int64[rows]
OFFSETS = 6  # int64[sentences + 1], the first row of each sentence
# What attention reads. It exists twice, for even and odd blocks of a model (`program/interpreter.py`).
QUERY, KEY, VALUE = 7, 8, 9  # codes int8[rows, C], or sign words uint64[rows, H * Wd]
QUERY_NONZERO, KEY_NONZERO, VALUE_NONZERO = 10, 11, 12  # non-zero words
QUERY_NO_ZEROS, KEY_NO_ZEROS, VALUE_NO_ZEROS = 13, 14, 15  # uint8[rows], 1 = no zero in this row
STORE = 9  # slots of one such store; the second one follows the first
NONZERO, FLAGS = 3, 6  # from the words of something to its non-zero words, and to its flags
NOISE = 25  # float32[rows, C] to add to the embeddings, or address 0
# Of programs that keep floats between quantizers (`program/unfused.py`): queries (then the context), keys and values
# float32[rows, A]; outputs of `intermediate`, and those after GELU, float32[rows, I]; least and largest value of each
# row, float32[2, rows, 2]: one half is read while the other is written.
QUERY_FLOATS, KEY_FLOATS, VALUE_FLOATS, WIDE, ACTIVATED, RANGES = range(26, 32)

LOCAL = 32

# Of one thread, of a linear layer.
FLOATS = 32  # float32[rows, any], what a layer leaves for attention or for the next stage
Y = 33  # float32[STRIP, PANEL_OUTPUTS], a strip of outputs on its way to sinks
BITS = 34  # uint64[STRIP, 2, PANEL_OUTPUTS / 64], the same as signs: negative, zero
OUT, OUT_STRIDE = 35, 36  # no memory: where an epilogue leaves floats, and the bytes from row to row
STATE = 37  # what a gemm leaves for its epilogue, as the product wants it; of branch 0, branch 1 follows
# Of an input of a linear layer; those of input 1 follow those of input 0.
ENCODED = 39  # what an encode stage leaves for gemms, as the product wants it
PARITIES = 40  # uint8[rows, planes], what triples leave over (bitsliced)
TOTALS = 41  # int32[rows], sums of codes (popcount)
NO_ZEROS = 42  # uint8[rows], 1 = no sign of this row is 0
BYTES = 43  # byte codes uint8[rows, K] that an earlier stage has left for a layer with rule ALREADY_CODED
# Flags that come with BYTES. A layer writes them panel by panel while it still needs NO_ZEROS, the flags of its own
# inputs: one slot for both made later panels read the flags of earlier outputs.
BYTES_NO_ZEROS = 44
INPUT = 6  # from one input to the next; there are two

# Of one thread, of a bitsliced product: codes and their parities, tables of a chunk, zeros, a counter, sums.
CHAIN, TABLE, NOTHING, COUNTER, SUMS = range(51, 56)
# Of one thread, of other stages: scratch of attention, float32[16] of a lane sum.
ATTENTION, LANES = 56, 57
# Of one thread, of unfused programs: dot products float32[rows, N] of both branches, step and minimum of each row's
# codes float32[2, rows, 2].
DOTS = 58
CODED = 60
# Of one thread, of a look-up product: indices of a block of outputs.
INDICES = 61
COUNT = 62
