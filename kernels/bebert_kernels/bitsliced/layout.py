"""Sizes of the bitsliced product on this CPU: what the memory of its tables, states and counters looks like.

Whoever packs weights or makes room for a call needs these; the code that uses the memory is elsewhere in this room.
"""

from bebert_kernels.abi.frame import BLOCK
from bebert_kernels.machine_code import code_features

FEATURES = code_features()
TERNARY = "avx512f" in FEATURES  # any function of three bits is one instruction
BIT_SELECT = "neon" in FEATURES  # a choice between two planes, bit by bit, is one instruction
PANEL_OUTPUTS = 512 if TERNARY else 256 if "avx2" in FEATURES else 128
PLANE = PANEL_OUTPUTS // 8  # bytes of a plane
HALVES = PANEL_OUTPUTS > 128  # whether half panels exist
HALF_OUTPUTS = PANEL_OUTPUTS // 2
ENTRIES = 8  # planes in the table of a triple
TRIPLE = 3 * PLANE  # bytes of the weights of a triple
TABLE = ENTRIES * PLANE  # bytes of the table of a triple
CHUNK_TRIPLES = 32  # triples whose tables stand in the first-level cache together: 16 KiB on AVX-512
# Planes of the state for look-ups of 1 and 4 index planes: CHUNK_TRIPLES * (2**planes - 1) < 2**levels.
LEVELS = {1: 5, 4: 9}
ONE, FOUR = LEVELS[1], LEVELS[4]
GROUP_PLANES = 4  # index planes of a large group
INDEX_ROWS = BLOCK + 1  # room for index planes; one more, or all chunks of a row would meet in one set of a cache
STRIP = 8  # rows whose carries of one chunk lie side by side
COUNTER_PLANES = 16  # sums below 2**16
COUNTER = COUNTER_PLANES * PLANE  # bytes
COMPARED = 13  # planes of a counter of signs: MAX_DEPTH is below 2**13
MAX_DEPTH = 4369  # 15 * K must stay below 2**16


def state_bytes(triples: int, planes: int, sign: bool) -> int:
    """Bytes of the states of a row."""
    large = 0 if sign else planes // GROUP_PLANES
    small = planes - GROUP_PLANES * large
    chunks = triples // CHUNK_TRIPLES
    return PLANE * (large * (FOUR + chunks) + small * (ONE + chunks))


def chain_bytes(depth: int, planes: int) -> int:
    """Bytes of scratch of one row: codes and their parities, then index planes."""
    return (2 * depth + 16 + 63) // 64 * 64 + planes * (depth // 2 + 64)
