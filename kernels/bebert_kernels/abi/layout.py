"""Numbers that the parts of a native program share: slots of memory, columns of the tables that describe it.

A program (`program.py`) names memory by slot. Slots below LOCAL belong to the whole call and are indexed by the rows
of the batch (or by sentences); slots from LOCAL on belong to one thread and hold the rows of its present block.
Kernels get `slots`, an int64 array of addresses. Everything is int64 so that one compiled program runs every model.
"""

# Shared by the threads of a call. Attention's stores exist twice, for even and odd layers (`program.py`).
HIDDEN, FIRST, LOGITS, IDS, POSITIONS, TYPES, OFFSETS = range(7)
QUERY, KEY, VALUE, QUERY_NONZERO, KEY_NONZERO, VALUE_NONZERO, QUERY_PLAIN, KEY_PLAIN, VALUE_PLAIN = range(7, 16)
STORE = 9  # slots of one store; the second one follows the first
NONZERO = 3  # from sign words to non-zero words of the same thing
NOISE = 25  # float32[rows, C] to add to the embeddings, or 0
LOCAL = 32

# Of one thread.
FLOATS, CHAIN, TABLE, NOTHING, COUNTER, SUMS, BITS, Y, ATTENTION = range(32, 41)
STATE = 41  # of branch 0 of a linear layer; branch 1 follows
INDEX, PARITY, PLAIN, BYTES = range(43, 47)  # of input 0 of a linear layer
INPUT = 4  # from one input to the next; there are two
OUT, OUT_STRIDE = 51, 52  # where a product leaves floats, and the bytes from row to row
# Flags that come with ready codes of input 0; input 1 follows. A layer writes them panel by panel while it still needs
# PLAIN, the flags of its own inputs: one slot for both made later panels read the flags of earlier outputs.
READY_PLAIN = 53
COUNT = 56

BLOCK = 128  # rows at a time, or fewer (frame): what they need stays in the second-level cache
INDEX_ROWS = BLOCK + 1  # room for their index planes; one more, or all chunks of a row would meet in one set of a cache

# Columns of a branch of a linear layer: the addresses of the operations that multiply and that finish, addresses of its
# data (padded to whole panels), sizes, the number of its input, and for signs that are decided by limits the address of
# int64[panels], addresses of the limits or 0; 0 if floats are always wanted.
PRODUCT, FINISH, PANELS, TRIPLES, PLANES, SIGN, OFFSET, SCALE, ADD, FROM, OUTPUTS, LIMITS, DECIDE = range(13)
BRANCH = 13

# Columns of an input of a linear layer and of a sink of its outputs: how values become codes, and where they go.
RULE, NUMBERS, SHIFT, KIND, START, WIDTH, TO, FLAGS, HEAD = range(9)
TO_FLOATS, TO_SUM, TO_BYTES, TO_CODES, TO_WORDS = range(5)  # kinds of sinks; TO_SUM adds to floats

# Rules of `row_codes.quantize_row`, and its numbers; READY: codes are there already.
SIGN_RULE, GELU_RULE, CODE_RULE, RELU_RULE, READY = range(5)
STEP, MINIMUM, LOW, HIGH, SCORE_SCALE, CONTEXT_SCALE = range(6)
NUMBER_COUNT = 6

# Columns of an operation: the address of its stage, then its arguments.
COLUMNS = 16

# A call: rows and sentences (also the domains of phases), threads, the address of the barrier, the address of the
# times of all operations or 0, words of scratch for attention, rows of a block.
ROWS, SENTENCES, THREADS, BARRIER, TIMES, SCRATCH, BLOCK_ROWS = range(7)
FRAME = 7

FREE = 1 << 40  # a count of arrivals at the barrier that lets everybody through: a thread has failed
