"""One seeded call of every kernel of the engine at chosen sizes, and the check that it returns the reference's bits."""

from collections.abc import Iterator
from typing import Any

import engine_kernels as engine
import numpy as np

from bebert_kernels import packing
from bebert_kernels.reference import floats as reference_float
from bebert_kernels.reference import integers as reference

Call = tuple[str, tuple[Any, ...]]


class truth:  # noqa: N801  # stands beside the module `engine`: the same names
    """The reference by the names of `engine_kernels`; some kernels are several of its functions in one."""

    pack_signs, gelu_signs, quantize = reference.pack_signs, reference.gelu_signs, reference.quantize
    layer_norm, embed, scale_add = reference_float.layer_norm, reference_float.embed, reference_float.scale_add

    @staticmethod
    def relu_quantize(x, *rest):
        """Codes of max(x, 0)."""
        return reference.quantize(reference_float.relu(x), *rest)

    @staticmethod
    def classify(x, weight, bias):
        """Dense layer of the hyperbolic tangent."""
        return reference_float.dense(reference_float.tanh(x), weight, bias)

    @staticmethod
    def boolean_attention(q, q_nonzero, k, k_nonzero, v, v_nonzero, size):
        """Signs of the context, and which rows have no 0."""
        context = reference.bit_context(reference.score_bits(q, q_nonzero, k, k_nonzero), v, v_nonzero, size)
        return np.sign(context).astype(np.int8), (context != 0).all(axis=1)

    @staticmethod
    def softmax_attention(q, k, v, heads, scale, step, high, context_scale):
        """Context of integer codes."""
        scores = reference_float.softmax(reference.code_scores(q, k, heads, scale))
        codes = reference.quantize(scores.reshape(-1, len(k)), None, step, 0, 0, high).reshape(scores.shape)
        zeros = np.zeros(q.shape[1], np.float32)
        return reference_float.scale_add(reference.code_context(codes, v), zeros + np.float32(context_scale), zeros)


BACKENDS = [truth, engine]


def backends(name: str) -> list[Any]:
    """Both where this kernel can run; with the JIT off some cannot."""
    return BACKENDS if name in engine.FUNCTIONS else [truth]


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Float32 with about one exact zero in eight and some large magnitudes."""
    x = rng.standard_normal(shape) * rng.choice([0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 9.0], shape)
    return x.astype(np.float32)


def planes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random packed bits with padding 0: uint64[..., W] for bool[..., K]."""
    return packing.pack_bits(rng.random(shape) < 0.5)


def calls(
    seed: int, rows: int = 9, outputs: int = 7, depth: int = 70, heads: int = 2, size: int = 24, keys: int = 5
) -> Iterator[Call]:
    """Arguments for every kernel that can run here, most with several variants."""
    for name, arguments in _calls(seed, rows, outputs, depth, heads, size, keys):
        if name in engine.FUNCTIONS:
            yield name, arguments


def _calls(seed: int, rows: int, outputs: int, depth: int, heads: int, size: int, keys: int) -> Iterator[Call]:
    rng = np.random.default_rng(seed)
    x, shift = floats(rng, rows, depth), floats(rng, depth)
    yield "pack_signs", (x, None)
    yield "pack_signs", (x, shift)
    yield "gelu_signs", (3 * x,)
    for shifted in (None, shift):
        for name in ("quantize", "relu_quantize"):
            yield name, (x, shifted, 0.3, 0.0, -8, 7)
            yield name, (x, shifted, -0.2, -0.5, 0, 15)
    acc = rng.integers(-(2**25), 2**25, (rows, outputs), dtype=np.int32)
    yield "scale_add", (acc, floats(rng, outputs), floats(rng, outputs))
    yield "scale_add", (acc, floats(rng, outputs), floats(rng, rows, outputs))
    yield "layer_norm", (x, None, shift, floats(rng, depth), 1e-12)
    yield "layer_norm", (x, floats(rng, rows, depth), shift, floats(rng, depth), 0.05)
    yield "classify", (x, floats(rng, outputs, depth), floats(rng, outputs))
    places = tuple(rng.integers(0, 11, rows) for _ in range(3))
    tables = floats(rng, 11, depth), floats(rng, 11, depth)
    words = planes(rng, 2, 11, depth)
    yield "embed", (*places, (words[0],), (floats(rng, 11),), *tables)
    yield "embed", (*places, tuple(words), (floats(rng, 11), floats(rng, 11)), *tables)
    (q, q_nonzero), (k, k_nonzero), (v, v_nonzero) = (planes(rng, 2, n, heads, size) for n in (rows, keys, keys))
    signs = (q & q_nonzero, q_nonzero, k & k_nonzero, k_nonzero, v & v_nonzero, v_nonzero)  # a zero has no sign
    yield "boolean_attention", (*signs, size)
    every = packing.pack_bits(np.ones((max(rows, keys), heads, size), bool))
    yield "boolean_attention", (q, every[:rows], k, every[:keys], v, every[:keys], size)
    codes = rng.integers(-128, 128, (rows + 2 * keys, heads * size), dtype=np.int8)
    codes = codes[:rows], codes[rows : rows + keys], codes[rows + keys :]
    yield "softmax_attention", (*codes, heads, 0.0003, 1 / 255, 255, 0.37)
    yield "softmax_attention", (*(part >> 4 for part in codes), heads, 0.02, -0.02, 15, -0.5)


def check(name: str, arguments: tuple[Any, ...]) -> Any:
    """The kernel and the reference return equal values, dtypes and shapes; arguments stay as they are."""
    before = [np.copy(value) for value in arguments if isinstance(value, np.ndarray)]
    expected = getattr(truth, name)(*arguments)
    found = getattr(engine, name)(*arguments)
    after = [value for value in arguments if isinstance(value, np.ndarray)]
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert same, f"{name} changed its arguments"
    pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
    for want, have in pairs:
        assert type(want) is type(have), f"{name}: {type(have)} instead of {type(want)}"
        if isinstance(want, np.ndarray):
            assert (want.dtype, want.shape) == (have.dtype, have.shape), name
        assert np.array_equal(want, have), f"{name}: {np.argwhere(np.asarray(want != have))[:3]} differ"
    return found


def check_all(seed: int = 0, **sizes: int) -> None:
    """Every call of `calls`, and no kernel without a call."""
    seen = set()
    for name, arguments in calls(seed, **sizes):
        check(name, arguments)
        seen.add(name)
    assert seen == engine.FUNCTIONS


if __name__ == "__main__":
    check_all()
    check_all(seed=1, rows=1, outputs=1, depth=1, heads=1, size=65, keys=65)
