"""A chain of additions and nothing else, as a stage: what `clock.py` times."""

from bebert_kernels.abi.stage import stage
from bebert_kernels.emit.memory import array, as_int64
from bebert_kernels.tuning.clock import PAIRS


@stage
def add_in_turn(rounds: int, memory: int, c: int, d: int, f: int, g: int) -> None:
    """PAIRS * rounds times x = (x + a) ^ b, of x, a, b at an address; the other arguments are not read."""
    values = array(as_int64(memory), (3,))
    x, a, b = values[0], values[1], values[2]
    for _ in range(rounds):
        for _ in range(PAIRS):  # no compiler makes fewer operations of an addition and an exclusive or in turn
            x = (x + a) ^ b
    values[0] = x
