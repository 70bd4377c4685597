"""Whether two multiplications give the same codes as a division by a step: decided once, when a model is loaded.

    division     rne(clamp(fl(x / step)))
    instead      rne(clamp(fma(x, inverse, fl(x * rest))))       inverse + rest = 1 / step, both float32

Both rise (or fall) with x, so they agree for every float32 if they agree around each place where the code changes.
There x lies next to (code + 1/2) * step. Source of the rule: `reference.integers.quantize`.
"""

import numpy as np

SMALLEST, LARGEST = 2.0**-20, 2.0**60  # of steps: no product overflows, no rest is lost
_NEXT = np.arange(-3, 4, dtype=np.int32)  # floats around a boundary
# The sum in float64 is this close to the exact one, whose rounding to float32 the fused multiply-add gives.
_CLOSE = np.array([[1 - 2.0**-50], [1 + 2.0**-50]])


def parts_of(step: float) -> tuple[np.float32, np.float32]:
    """(inverse, rest) as `quantize.py` computes them."""
    divisor = np.float32(step)
    inverse = np.float32(1) / divisor
    left = np.float32(1.0 - float(divisor) * float(inverse))  # exact in float64
    return inverse, left * inverse


def multiplies_exactly(step: float, low: int, high: int) -> bool:
    """Whether codes low .. high of a step are the same by multiplication, for every finite float32."""
    if not SMALLEST <= abs(step) <= LARGEST:
        return False
    divisor, (inverse, rest) = np.float32(step), parts_of(step)
    middles = ((np.arange(low, high) + 0.5) * float(divisor)).astype(np.float32)
    x = (middles.view(np.int32)[:, None] + _NEXT).reshape(-1).view(np.float32)
    wanted = np.rint(x / divisor)
    sums = x.astype(np.float64) * float(inverse) + (x * rest).astype(np.float64)
    return bool((np.rint((sums * _CLOSE).astype(np.float32)) == wanted).all())
