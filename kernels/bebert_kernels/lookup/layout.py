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
    index = np.zeros((panels * shape.panel, 2 * steps), np.uint8)
    octets = np.ascontiguousarray(signs, "<u8").view(np.uint8)
    if shape.inputs == 4:  # what the words hold already
        index[:outputs] = octets[:, : 2 * steps]
    else:  # four times six bits in three bytes
        threes = np.zeros((outputs, -(-steps // 2), 3), np.uint8)
        used = min(octets.shape[1], threes[0].size)
        threes.reshape(outputs, -1)[:, :used] = octets[:, :used]
        a, b, c = threes[:, :, 0], threes[:, :, 1], threes[:, :, 2]
        sixes = np.stack([a, a >> 6 | b << 2, b >> 4 | c << 4, c >> 2], axis=2) & 63
        index[:outputs] = sixes.reshape(outputs, -1)[:, : 2 * steps]
    ordered = index.reshape(panels, shape.vectors, 2, shape.lanes // 2, steps, 2).transpose(0, 4, 1, 5, 3, 2)
    return np.ascontiguousarray(ordered).reshape(panels, steps, shape.vectors, 2, shape.lanes)


def lut_bytes(rows: int, depth: int, shape: Shape = SHAPE) -> int:
    """Bytes of the tables of this many rows."""
    return -(-rows // shape.rows) * shape.rows * -(-depth // shape.step) * shape.step_bytes
