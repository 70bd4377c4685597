"""Answers one element at a time in plain Python, from unpacked values: slow, short, and obviously right."""

import math

import numpy as np

F = np.float32


def sign(x: float) -> int:
    return int(x > 0) - int(x < 0)


def dot(xs, ys) -> int:
    return sum(int(x) * int(y) for x, y in zip(xs, ys, strict=True))


def gemm(rows, weights) -> list[list[int]]:
    """Dot products of every row of integers with every row of weights."""
    return [[dot(row, weight) for weight in weights] for row in rows]


def words_of(bits) -> list[int]:
    """Bits to 64-bit words, the least significant bit first, padded with 0."""
    count = -(-len(bits) // 64)
    return [sum(1 << j for j, bit in enumerate(bits[64 * w : 64 * w + 64]) if bit) for w in range(count)]


def code(x, shift, step, minimum, low, high) -> int:
    """One code in float32; Python's round is half to even."""
    value = float(F(F(F(x) + F(shift)) - F(minimum)) / F(step))
    return max(low, min(high, round(value)))


def head(row, h, size):
    """The part of a row that belongs to head h."""
    return row[h * size : (h + 1) * size]


def score_bits(q, k, heads, size) -> list[list[list[bool]]]:
    """[heads][queries][keys]: whether the dot product of sign rows is > 0."""
    return [[[dot(head(row, h, size), head(key, h, size)) > 0 for key in k] for row in q] for h in range(heads)]


def context(weights, v, heads, size) -> list[list[int]]:
    """[queries][heads * size]: sum over the keys of weight times value."""
    return [
        [
            sum(int(weights[h][m][t]) * int(v[t][h * size + d]) for t in range(len(v)))
            for h in range(heads)
            for d in range(size)
        ]
        for m in range(len(weights[0]))
    ]


def lane_sum(values) -> np.float32:
    """Sixteen float32 sums in order, then joined 8, 4, 2 and 1 apart."""
    lanes = [F(0)] * 16
    for i, value in enumerate(values):
        lanes[i % 16] = F(lanes[i % 16] + F(value))
    for half in (8, 4, 2, 1):
        lanes = [F(lanes[j] + lanes[j + half]) for j in range(half)]
    return lanes[0]


def layer_norm(row, residual, gamma, beta, eps) -> list[np.float32]:
    h = [F(a + b) for a, b in zip(row, residual, strict=True)]
    mean = F(lane_sum(h) / F(len(h)))
    d = [F(value - mean) for value in h]
    variance = F(lane_sum([F(value * value) for value in d]) / F(len(h)))
    inverse = F(F(1) / F(np.sqrt(F(variance + F(eps)))))
    return [F(F(F(value * inverse) * g) + b) for value, g, b in zip(d, gamma, beta, strict=True)]


def softmax(row) -> list[float]:
    """In float64."""
    top = max(float(value) for value in row)
    powers = [math.exp(float(value) - top) for value in row]
    return [power / math.fsum(powers) for power in powers]


def gelu(x: float) -> np.float32:
    return F(0.5 * float(x) * (1.0 + math.erf(float(x) / math.sqrt(2.0))))
