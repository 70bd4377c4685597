"""Sizes of what attention computes with on this CPU, and the scratch that a sentence needs."""

from bebert_kernels.machine_code import code_features
from bebert_kernels.packing import WORD_BITS
from bebert_kernels.reference.floats import LANES

# Attention on bits (`boolean.py`).
NIBBLES = 16  # of a word
COLUMNS = 64  # that one look-up serves: keys, or values of a head
PLANE_WORDS = COLUMNS // 8
CODE_WORDS = NIBBLES * 2 // 8  # words that hold the codes of one word
BOOLEAN_QUERIES = 32  # rows that go through both products together

# Attention on codes (`softmax.py`).
BYTE_PRODUCT = bool(code_features() & {"avx512vnni", "avxvnni"})
UNIT_INPUTS = 4 if BYTE_PRODUCT else 2  # inputs in a unit
SOFTMAX_QUERIES = 16  # rows that go through all steps together


def boolean_words(keys: int, size: int) -> int:
    """Words of scratch that `boolean_attention` needs for a sentence of `keys` keys and heads of `size` values."""
    blocks, words = -(-keys // COLUMNS), -(-size // WORD_BITS)
    planes = 4 * blocks * words * NIBBLES * PLANE_WORDS
    return PLANE_WORDS + planes + blocks * COLUMNS + BOOLEAN_QUERIES * (CODE_WORDS * (words + blocks) + 2)


def softmax_units(keys: int, size: int) -> int:
    """Elements of scratch that `softmax_attention` needs for a sentence of `keys` keys and heads of `size` values."""
    padded, depth = -(-keys // LANES) * LANES, -(-size // LANES) * LANES
    panels = 2 * padded * depth // UNIT_INPUTS + padded + depth
    rows = SOFTMAX_QUERIES * (depth // UNIT_INPUTS + padded + padded // UNIT_INPUTS + depth + 1)
    return LANES + panels + rows + max(padded, SOFTMAX_QUERIES) * depth // 4


def float_words(keys: int, heads: int, size: int) -> int:
    """Words of scratch that `floats.attend_sentence` needs for a sentence of so many tokens."""
    width = heads * size
    longest = max(width, keys) + 2 * LANES
    # bytes of a row; floats of a row, and zeros; sums of a context; codes of three, and of a row; probabilities
    total = longest + 2 * 4 * longest + 4 * size + 2 * (3 * keys * width + longest) + 4 * heads * keys * keys
    return total // 8 + 8
