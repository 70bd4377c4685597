"""The look-up product's shape on this CPU, and the weights and tables in the order in which its code reads them.

Panels and tables depend on the CPU: neither is for files.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.machine_code import code_features
from bebert_kernels.packing import Words

Bytes = NDArray[np.uint8]

FIELD_WORDS = 2184  # words whose codes add up to less than 2**16 in each field of `stages._total`, 30 at most a word


class Shape(NamedTuple):
    """A way to look up: the shuffle, its vector, and the block that fits into the registers.

    shuffle : key of `tile.SHUFFLES`
    lanes   : bytes of a vector, one for each output
    inputs  : codes in a table, 4 or 6
    rows    : rows of a block, 4 or 8
    vectors : vectors of outputs of a block
    """

    shuffle: str
    lanes: int
    inputs: int
    rows: int
    vectors: int

    @property
    def panel(self) -> int:
        """Outputs of a panel."""
        return self.lanes * self.vectors

    @property
    def tables(self) -> int:
        """Tables of a step."""
        return 4 if self.inputs == 4 else 2

    @property
    def step(self) -> int:
        """Codes of a step."""
        return self.tables * self.inputs

    @property
    def step_bytes(self) -> int:
        """Bytes that the tables of a step take for one row."""
        return self.tables << self.inputs


SHAPES = {  # feature of the CPU: shape, the best first
    "avx512vbmi": Shape("vpermb", 64, 6, 4, 2),
    "avx512bw": Shape("vpshufb 512", 64, 4, 4, 2),
    "avx2": Shape("vpshufb 256", 32, 4, 4, 1),
    "ssse3": Shape("pshufb 128", 16, 4, 4, 1),
    "neon": Shape("tbl", 16, 4, 4, 1),  # two vectors of outputs need more than 32 registers: a fifth was copies
}
PORTABLE = Shape("portable", 16, 4, 4, 1)


def best_shape(features: Iterable[str]) -> Shape:
    """The shape for a CPU with these features (names as in `machine_code.code_features`)."""
    features = set(features)
    for feature, shape in SHAPES.items():
        if feature in features:
            return shape
    return PORTABLE


SHAPE = best_shape(code_features())
PANEL = SHAPE.panel


def lut_weights(signs: Words, depth: int, shape: Shape = SHAPE) -> Bytes:
    """Indices into the tables, in the order in which `lut_panel` reads them.

    signs   : uint64[N, W]   bit 1 = -1, W = ceil(depth / 64)
    returns : uint8[ceil(N/panel), steps, vectors, 2, lanes]; outputs beyond N and inputs beyond depth count as +1

    Output h * lanes/2 + i of a vector is byte 2*i + h. With six inputs to a table, byte t of a step is the index into
    its table t; with four, the low nibble of byte t is that for table 2*t, the high one that for 2*t + 1.
    """
    outputs, steps = len(signs), -(-depth // shape.step)
    panels = -(-outputs // shape.panel)
    octets = np.ascontiguousarray(signs, "<u8").view(np.uint8)
    columns = 2 * steps if shape.inputs == 4 else 3 * -(-steps // 2)  # four times six bits in three bytes
    used = min(octets.shape[1], columns)
    padded = np.zeros((panels * shape.panel, columns), np.uint8)
    padded[:outputs, :used] = octets[:, :used]
    # Two outputs that become neighbours move as one: half the steps of the slow part, which is turning rows to columns.
    low, high = padded.reshape(panels * shape.vectors, 2, shape.lanes // 2, columns).transpose(1, 0, 2, 3)
    pairs = high.astype("<u2") << 8 | low
    turned = np.ascontiguousarray(pairs.transpose(2, 0, 1)).view(np.uint8)  # (columns, vectors of all panels, lanes)
    if shape.inputs == 6:
        a, b, c = turned[0::3], turned[1::3], turned[2::3]
        turned = np.stack([a, a >> 6 | b << 2, b >> 4 | c << 4, c >> 2], axis=1)
        turned &= 63
    index = turned.reshape(-1, panels, shape.vectors, shape.lanes)[: 2 * steps]
    ordered = index.reshape(steps, 2, panels, shape.vectors, shape.lanes).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(ordered)


def lut_bytes(rows: int, depth: int, shape: Shape = SHAPE) -> int:
    """Bytes of the tables of this many rows."""
    return -(-rows // shape.rows) * shape.rows * -(-depth // shape.step) * shape.step_bytes
