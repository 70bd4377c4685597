"""What a kernel benchmark is: a call on seeded data at a shape of BERT, and what it should return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOW, BITS = -8, 4  # 4-bit codes as BinaryBERT's


@dataclass(frozen=True)
class Sizes:
    """Shapes that all cases are made for.

    rows       : M of the products          layers : (N, K), outputs and depth of the products
    tokens     : rows of everything else, and keys of attention
    heads      : H, of `head_size` values each; `width` of all of them
    wide       : width of the feed-forward  vocabulary : rows of the word table
    """

    rows: tuple[int, ...]
    layers: tuple[tuple[int, int], ...]
    tokens: int
    heads: int
    head_size: int
    wide: int
    vocabulary: int

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return self.heads * self.head_size


SIZES = {
    "bert": Sizes((1, 128), ((768, 768), (3072, 768), (768, 3072)), 128, 12, 64, 3072, 30522),
    "small": Sizes((1, 5), ((24, 136),), 9, 2, 24, 100, 50),
}


@dataclass(frozen=True)
class Work:
    """A call that is ready to be timed; its data are made, its weights prepared as when a model is loaded.

    call      : what is timed               expected : what NumPy says that `result` is, to the bit
    result    : what is compared, if not what `call` returns
    functions : kernels and stages that it enters by
    macs      : multiply-adds; 0 for other kernels, whose rates are those of `elements` (values that go in or come out,
                whichever are more) and, where it is known, `octets` (bytes read and written, each once)
    planes    : bitplanes of the activations where weights are signs: the bound is that of `tuning/roofline.py`
    """

    call: Callable[[], Any]
    expected: Callable[[], Any]
    functions: tuple[Any, ...] = ()
    macs: int = 0
    planes: int = 0
    elements: int = 0
    octets: int = 0
    result: Callable[[], Any] | None = None

    @property
    def amounts(self) -> dict[str, int]:
        """Its numbers, without its data."""
        return {name: getattr(self, name) for name in ("macs", "planes", "elements", "octets")}


@dataclass(frozen=True)
class Case:
    """One row of the table; `prepare` makes its data, so that a list of cases costs nothing.

    kernel : name of the function or the product    what : variant, or empty
    shape  : outputs × depth and the like, as text  needs : package of another library, or empty
    """

    kernel: str
    what: str
    shape: str
    prepare: Callable[[], Work]
    needs: str = ""

    @property
    def name(self) -> str:
        """Kernel and variant."""
        return f"{self.kernel}, {self.what}" if self.what else self.kernel

    @property
    def id(self) -> str:
        """Name for pytest: no spaces, ASCII."""
        return "-".join(f"{self.name} {self.shape}".replace(",", "").replace("×", "x").split())


def check(case: Case, work: Work) -> None:
    """Raise AssertionError unless the case returns what NumPy says."""
    found, expected = ((work.result or work.call)(), work.expected())
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    for have, want in zip(found, expected, strict=True):
        assert np.array_equal(np.asarray(have), want), f"{case.name} {case.shape} computes something else"


def hidden(s: Sizes) -> tuple[int, ...]:
    """Shape of hidden states."""
    return s.tokens, s.width


def pairs(s: Sizes) -> tuple[int, ...]:
    """Heads, queries, keys, values of a head: the multiply-adds of one product of attention."""
    return s.heads, s.tokens, s.tokens, s.head_size


def shape(*sizes: int) -> str:
    """Text of a shape."""
    return "×".join(map(str, sizes))


def octets(*values: Any) -> int:
    """Bytes of arrays, also inside tuples."""
    return sum(octets(*value) if isinstance(value, tuple) else getattr(value, "nbytes", 0) for value in values)
