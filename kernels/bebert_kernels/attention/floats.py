"""Attention of one sentence from floats: any quantizers, with stored numbers or with statistics of the sentence.

Queries, keys and values become codes, whole sentence by whole sentence, then either kind of attention follows:

    softmax   scores -> softmax -> codes of the probabilities -> sums of values; all probabilities stand in memory,
              because their codes may depend on the least and the largest one
    bits      a key counts where its dot product is > 0

Every float operation is that of `bebert_infer/model/attention.py`, in its order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bebert_kernels.abi import rule as rules
from bebert_kernels.abi.instruction import Site
from bebert_kernels.abi.rule import Numbers
from bebert_kernels.emit.memory import array, as_float32, as_int16, as_int32, as_uint8
from bebert_kernels.emit.tables import read_numbers, read_site
from bebert_kernels.jit.kernel import kernel
from bebert_kernels.reference.floats import EXP_LOWEST, EXP_TERMS, LANES, LN2_HIGH, LN2_LOW, LOG2_E
from bebert_kernels.rows.quantize import quantize_row
from bebert_kernels.rows.ranges import clip, sentence_numbers

Floats = NDArray[np.float32]
Codes = NDArray[np.int16]

C0, C1, C2, C3, C4, C5 = EXP_TERMS


@kernel
def attend_sentence(q: Floats, k: Floats, v: Floats, heads: int, sites: int, scratch: int) -> None:
    """Replace q float32[T, H * D] by the context.

    sites   : table of four `instruction.Site`, or 0 for attention on bits
    scratch : address of `layout.float_words` words
    """
    tokens, width = q.shape
    size = width // heads
    longest = max(width, tokens) + 2 * LANES
    row = array(as_float32(scratch), (longest,))
    zeros = array(as_float32(scratch + 4 * longest), (longest,))
    sums = array(as_int32(scratch + 8 * longest), (size,))
    probabilities = array(as_float32(scratch + 8 * longest + 4 * size), (heads, tokens, tokens))
    # The same as rows; reshaping would call Numba's helper, which a library compiled ahead has not.
    all_rows = array(as_float32(scratch + 8 * longest + 4 * size), (heads * tokens, tokens))
    place = scratch + 8 * longest + 4 * size + 4 * heads * tokens * tokens
    codes = array(as_int16(place), (3, tokens, width))
    code_row = array(as_int16(place + 6 * tokens * width), (longest,))
    octets = array(as_uint8(place + 6 * tokens * width + 2 * longest), (longest,))
    for i in range(longest):
        zeros[i] = np.float32(0)
    if sites == 0:
        for which in range(3):
            signs_of(q if which == 0 else k if which == 1 else v, codes[which])
        bits_context(codes, heads, sums, q)
        return
    query = encode(q, read_site(sites, 0), row, zeros, octets, codes[0])
    key = encode(k, read_site(sites, 1), row, zeros, octets, codes[1])
    value = encode(v, read_site(sites, 2), row, zeros, octets, codes[2])
    scale = np.float32(np.float64(query.step) * np.float64(key.step) / math.sqrt(np.float64(size)))
    for h in range(heads):
        for m in range(tokens):
            scores(codes, h * size, size, m, scale, row)
            softmax_row(row, tokens, probabilities[h, m])
    site = read_site(sites, 3)
    numbers = site_numbers(all_rows, site)
    factor = np.float32(np.float64(numbers.step) * np.float64(value.step))
    below = np.float32(np.float64(numbers.minimum) * np.float64(value.step))
    for h in range(heads):
        for m in range(tokens):
            encode_row(probabilities[h, m], site, numbers, row, zeros, octets, code_row)
            code_context(code_row, codes[2], h * size, sums)
            out = q[m, h * size : (h + 1) * size]
            for d in range(size):
                add = np.float32(0)
                if numbers.minimum != 0:
                    add += below * np.float32(column_sum(codes[2], h * size + d))
                out[d] = np.float32(sums[d]) * factor + add


@kernel
def site_numbers(x: Floats, site: Site) -> Numbers:
    """Numbers of a quantizer for all of x float32[M, K]."""
    found = np.float32(0), np.float32(0)
    if site.source_of_numbers != rules.STORED:
        low, high = x[0, 0], x[0, 0]
        for m in range(x.shape[0]):
            for i in range(x.shape[1]):
                low = min(low, x[m, i])
                high = max(high, x[m, i])
        found = low, high
    limits = array(as_float32(site.clip), (2,))
    return sentence_numbers(site.source_of_numbers, found, limits, read_numbers(site.numbers, 0))


@kernel
def encode(x: Floats, site: Site, row: Floats, zeros: Floats, octets: NDArray[np.uint8], out: Codes) -> Numbers:
    """Codes int16[T, C] of x, and the numbers that they were made with."""
    numbers = site_numbers(x, site)
    for t in range(x.shape[0]):
        encode_row(x[t], site, numbers, row, zeros, octets, out[t])
    return numbers


@kernel
def encode_row(
    x: Floats, site: Site, numbers: Numbers, row: Floats, zeros: Floats, octets: NDArray[np.uint8], out: Codes
) -> None:
    """Codes of a row as numbers, not as bytes that start at 0."""
    source, limits = x, array(as_float32(site.clip), (2,))
    if site.source_of_numbers != rules.STORED:
        for i in range(x.size):
            row[i] = clip(x[i], limits)
        source = row[: x.size]
    quantize_row(source, zeros[: x.size], site.rule, numbers, octets[: x.size])
    low = np.int32(numbers.low)
    for i in range(x.size):
        byte = np.int32(octets[i])
        out[i] = 1 - (byte & 1) - (byte >> 1) if site.rule == rules.SIGN else byte + low


@kernel
def scores(codes: Codes, first: int, size: int, query: int, scale: np.float32, out: Floats) -> None:
    """out[t] = float32(q . k[t]) * scale of one head and query. Exact for D < 2**16."""
    q = codes[0, query, first : first + size]
    for t in range(codes.shape[1]):
        k = codes[1, t, first : first + size]
        dot = np.int32(0)
        for d in range(size):
            # int32 at every step: numba's default int64 sum would not vectorize
            dot = np.int32(dot + np.int32(q[d]) * np.int32(k[d]))
        out[t] = np.float32(dot) * scale


@kernel
def softmax_row(x: Floats, count: int, out: Floats) -> None:
    """Out = e / lane_sum(e), e = exp(x - max x), exactly 0 below EXP_LOWEST; x has room for two more LANES."""
    top = x[0]
    for i in range(1, count):
        top = max(top, x[i])
    for i in range(count):
        y = x[i] - top
        bounded = y if y > EXP_LOWEST else EXP_LOWEST
        n = np.rint(bounded * LOG2_E)
        r = (bounded - n * LN2_HIGH) - n * LN2_LOW
        p = ((((C0 * r + C1) * r + C2) * r + C3) * r + C4) * r + C5
        p = (p * (r * r) + r) + np.float32(1)
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        x[i] = p * power if y >= EXP_LOWEST else np.float32(0)
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        x[i] = np.float32(0)
    total = lane_sum(x, count, x[x.size - LANES :])
    for i in range(count):
        out[i] = x[i] / total


@kernel
def lane_sum(x: Floats, count: int, lanes: Floats) -> np.float32:
    """Sum in the order of `reference.floats.lane_sum`; x holds zeros up to a multiple of LANES."""
    for j in range(LANES):
        lanes[j] = x[j]
    for start in range(LANES, count, LANES):
        for j in range(LANES):
            lanes[j] = lanes[j] + x[start + j]
    half = LANES // 2
    while half > 0:
        for j in range(half):
            lanes[j] = lanes[j] + lanes[j + half]
        half //= 2
    return lanes[0]


@kernel
def code_context(codes: Codes, values: Codes, first: int, sums: NDArray[np.int32]) -> None:
    """sums[d] = sum_t codes[t] * values[t, first + d]. Exact for 8-bit codes and T < 2**16."""
    for d in range(sums.size):
        sums[d] = 0
    for t in range(values.shape[0]):
        weight, value = np.int32(codes[t]), values[t, first : first + sums.size]
        for d in range(sums.size):
            sums[d] = np.int32(sums[d] + weight * np.int32(value[d]))


@kernel
def column_sum(codes: Codes, column: int) -> np.int32:
    """Sum of a column."""
    total = np.int32(0)
    for t in range(codes.shape[0]):
        total = np.int32(total + codes[t, column])
    return total


@kernel
def signs_of(x: Floats, out: Codes) -> None:
    """-1, 0 or +1 of every value."""
    for t in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[t, i] = np.int16(x[t, i] > 0) - np.int16(x[t, i] < 0)


@kernel
def bits_context(codes: Codes, heads: int, sums: NDArray[np.int32], out: Floats) -> None:
    """Sums of the value signs of all keys whose dot product with the query is > 0, strictly.

    Source: BiBERT, section 4.1.
    """
    _, tokens, width = codes.shape
    size = width // heads
    for h in range(heads):
        first = h * size
        for m in range(tokens):
            for d in range(size):
                sums[d] = 0
            q = codes[0, m, first : first + size]
            for t in range(tokens):
                k, v = codes[1, t, first : first + size], codes[2, t, first : first + size]
                dot = np.int32(0)
                for d in range(size):
                    dot = np.int32(dot + np.int32(q[d]) * np.int32(k[d]))
                if dot > 0:
                    for d in range(size):
                        sums[d] = np.int32(sums[d] + np.int32(v[d]))
            for d in range(size):
                out[m, first + d] = np.float32(sums[d])
