"""Rules by which floats become codes (`rows/quantize.py`), and the numbers that belong to them."""

from typing import NamedTuple

# ALREADY_CODED: byte codes stand in BYTES, an earlier stage has made them. PLAIN_CODES: CODES without shift and
# minimum, of a step by which one can multiply instead of divide (`rows/reciprocal.py`).
SIGN, GELU_SIGN, CODES, RELU_CODES, ALREADY_CODED, PLAIN_CODES = range(6)

# Where step and minimum of a quantizer come from: they are stored, or statistics of a sentence (`rows/ranges.py`).
STORED, SYMMETRIC, ASYMMETRIC = range(3)


class Numbers(NamedTuple):
    """Of a quantizer, float32: code = clamp(rne((x + shift - minimum) / step), low, high)."""

    step: float
    minimum: float
    low: float
    high: float


class SoftmaxNumbers(NamedTuple):
    """Of attention on codes, float32: factor of scores, quantizer of the probabilities, factor of the context."""

    score_scale: float
    step: float
    low: float
    high: float
    context_scale: float
