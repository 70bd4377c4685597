"""The look-up product's shape on this CPU, and the weights and rows in the order in which its code reads them.

Weights and rows in this form depend on the CPU: neither is for files.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.machine_code import code_features
from bebert_kernels.packing import Words

Bytes = NDArray[np.uint8]

LINE = 64  # bytes of a cache line
INPUTS = 4  # codes of a group, which share a table
ENTRIES = 1 << INPUTS  # bytes of a table
UNIT = 4  # groups whose sums always fit into a byte together
TOGETHER = 8  # groups of codes that are encoded at a time
SPAN = TOGETHER * INPUTS  # codes of those
HIGHEST = 15  # code, counted from the lowest one
DEEPEST = 4369  # codes of a row: 15 * K must stay below 2**16
TOTAL, BASE, WINDOWS, BIAS = 0, 4, 6, 8  # places in the header of a row, `RowLayout`
NEAR = 32 << 10  # bytes of the indices of a block of outputs that the first-level cache should hold


class Shape(NamedTuple):
    """A way to look up.

    shuffle : key of `shuffles.SHUFFLES`
    lanes   : bytes of a vector, one for each output
    widths  : vectors of outputs that fit into the registers together, widest first, each a power of two
    """

    shuffle: str
    lanes: int
    widths: tuple[int, ...]

    def vector_bytes(self, depth: int) -> int:
        """Bytes of the weights of one vector of outputs."""
        return groups_of(depth) * self.lanes // 2

    def widest(self, depth: int) -> int:
        """Vectors of the widest block: its indices should stay in the first-level cache for all rows."""
        fit = [width for width in self.widths if groups_of(depth) * self.lanes * width <= NEAR]
        return max(fit[0] if fit else 1, min(2, self.widths[0]))

    def index_bytes(self, depth: int) -> int:
        """Bytes of the scratch in which the indices of a block are unpacked."""
        return groups_of(depth) * self.lanes * self.widest(depth)


def groups_of(depth: int) -> int:
    """Groups of a row, in whole spans of the encoder."""
    return -(-depth // SPAN) * TOGETHER


# Feature of the CPU: shape, the best first. `vpermb` (AVX-512 VBMI) would look up six codes at a time, in tables four
# times as large: that was slower, `docs/log.md`.
SHAPES = {
    "avx512bw": Shape("vpshufb 512", 64, (4, 2, 1)),
    "avx2": Shape("vpshufb 256", 32, (4, 2, 1)),
    "ssse3": Shape("pshufb 128", 16, (4, 2, 1)),
    "neon": Shape("tbl", 16, (8, 4, 2, 1)),
}
PORTABLE = Shape("portable", 16, (4, 2, 1))


def best_shape(features: Iterable[str]) -> Shape:
    """The shape for a CPU with these features (names as in `machine_code.code_features`)."""
    features = set(features)
    for feature, shape in SHAPES.items():
        if feature in features:
            return shape
    return PORTABLE


SHAPE = best_shape(code_features())


def runs(vectors: int, widest: int, shape: Shape = SHAPE) -> Iterator[tuple[int, int, int]]:
    """(first vector, blocks, width) of the blocks in which outputs are computed, in order, as wide as possible."""
    first = 0
    for width in shape.widths:
        count = (vectors - first) // width
        if width <= widest and count:
            yield first, count, width
            first += count * width


def lut_weights(signs: Words, depth: int, shape: Shape = SHAPE) -> Bytes:
    """Indices into the tables, in the order in which `tile.py` reads them.

    signs   : uint64[N, W]   bit 1 = -1, W = ceil(depth / 64)
    returns : uint8[ceil(N / lanes) * vector_bytes]; outputs beyond N and inputs beyond depth count as +1

    A block of `width` vectors is uint8[groups / 2, width, lanes]: the low nibble for an even group, the high one for
    the next. Output h * lanes/2 + i of a vector is byte 2*i + h.
    """
    outputs, groups = len(signs), groups_of(depth)
    vectors, half = -(-outputs // shape.lanes), shape.lanes // 2
    octets = np.ascontiguousarray(signs, "<u8").view(np.uint8)
    columns = groups * INPUTS // 8
    used = min(octets.shape[1], columns)
    padded = np.zeros((vectors * shape.lanes, columns), np.uint8)
    padded[:outputs, :used] = octets[:, :used]
    # Two outputs that become neighbours move as one: half the steps of the slow part, which is turning rows to columns.
    low, high = padded.reshape(vectors, 2, half, columns).transpose(1, 0, 2, 3)
    pairs = high.astype("<u2") << 8 | low  # (vectors, half, columns)
    out, size = np.empty(vectors * shape.vector_bytes(depth), np.uint8), shape.vector_bytes(depth)
    for first, count, width in runs(vectors, shape.widest(depth), shape):
        part = pairs[first : first + count * width].reshape(count, width, half, columns)
        turned = np.ascontiguousarray(part.transpose(0, 3, 1, 2)).view(np.uint8)  # (blocks, columns, width, lanes)
        out[first * size : (first + count * width) * size] = turned.reshape(-1)
    return out


class EncodedRows(NamedTuple):
    """Rows of one depth as `encode.py` leaves them, one behind the other from an address on."""

    address: int
    number: int
    depth: int


class RowLayout(NamedTuple):
    """Where the parts of an encoded row stand, in bytes from its start, for rows of one depth.

    A row begins with its header: float32 total, uint16 base, uint16 count of windows, uint8 bias.

    windows : uint16[groups / UNIT + 1], the end of each window in the list
    list    : uint16[groups + TOGETHER], ENTRIES * the number of each group that has a code other than 0
    tables  : uint8[groups, ENTRIES]
    size    : of all
    """

    windows: int
    list: int
    tables: int
    size: int


def row_layout(depth: int) -> RowLayout:
    """Layout of an encoded row of so many codes."""
    groups, windows = groups_of(depth), LINE
    numbers = windows + -(-2 * (groups // UNIT + 1) // LINE) * LINE
    tables = numbers + -(-2 * (groups + TOGETHER) // LINE) * LINE
    return RowLayout(windows, numbers, tables, tables + groups * ENTRIES)


def bias_of(low: int, bits: int) -> int:
    """What the bytes of a window start from, so that the sums of a unit of codes of some bits stay within 0..255.

    low : the lowest code, -15..0
    """
    high = low + (1 << bits) - 1
    if -8 <= low < 0 and high < 8:
        return 128
    return -16 * low
