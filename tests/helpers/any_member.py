"""Members of every kind that the format allows, drawn by hypothesis, and a model of random tensors around one."""

import re
from pathlib import Path

import msgspec
import numpy as np
from hypothesis import strategies as st

from bebert_infer.artifact.config import CODES, LINEARS, Config, MemberConfig, Site, expected_tensors
from bebert_infer.artifact.folder import Artifact, finish_config
from bebert_infer.artifact.values import bit_depths
from bebert_infer.measure.sample_models import random_model

BITS = [1, 2, 3, 4, 5, 7, 8]


@st.composite
def sites(draw, unsigned=True, shift=True):
    """Any quantizer that `MemberConfig.faults` accepts."""
    kind = draw(
        st.sampled_from(
            ["sign", "shifted_sign", "bool", "codes", "dynamic"]
            if unsigned
            else ["sign", "shifted_sign", "codes", "dynamic"]
        )
    )
    moved = shift and kind not in ("sign", "dynamic") and draw(st.booleans())
    if kind in ("sign", "shifted_sign"):
        return Site(kind, 1, True, moved)
    if kind == "bool":
        return Site(kind, 1, False, moved)
    bits = draw(st.sampled_from(BITS[1:] if kind == "dynamic" else BITS))
    return Site(kind, bits, True if not unsigned else draw(st.booleans()), moved)


@st.composite
def members(draw):
    """A small member of any family, with any quantizer at any site."""
    heads = draw(st.integers(1, 3))
    attention = draw(st.sampled_from(["softmax", "boolean"]))
    quantizers = {site: draw(sites()) for site in LINEARS}
    if attention == "softmax":
        quantizers |= {site: draw(sites(unsigned=False, shift=False)) for site in CODES[:3]}
        quantizers |= {site: draw(sites(shift=False)) for site in CODES[3:]}
    return MemberConfig(
        family="mixed",
        scheme="1-1-1",
        branches=draw(st.integers(1, 2)),
        row_scales=draw(st.booleans()),
        hidden_size=draw(st.sampled_from([5, 64, 70])),
        attention_size=heads * draw(st.sampled_from([3, 16, 65])),
        num_attention_heads=heads,
        intermediate_size=draw(st.sampled_from([7, 64, 129])),
        num_hidden_layers=draw(st.integers(1, 2)),
        layer_norm_eps=1e-12,
        attention=attention,
        activation=draw(st.sampled_from(["relu", "gelu"])),
        sites=quantizers,
    )


def model_of(member: MemberConfig, seed: int) -> Artifact:
    """Random tensors; steps may be negative, minima are not zero.

    seed : an odd one gives equal quantizers to linears that read the same values, as `--shared-steps` does
    """
    base = random_model("tiny", "1-1-4", 1, vocab_size=30)
    config: Config = msgspec.structs.replace(base.config, members=[member], max_position_embeddings=130)
    assert not config.faults()
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (kind, shape) in expected_tensors(config).items():
        if kind == "U64":
            tensors[name] = rng.integers(0, 2**64, shape, dtype=np.uint64)
        elif name.endswith(".step"):
            tensors[name] = (rng.choice([-1, 1, 1, 1], shape) * rng.uniform(0.02, 0.5, shape)).astype(np.float32)
        elif name.endswith(".clip"):
            tensors[name] = np.array([-rng.uniform(0.5, 3), rng.uniform(0.5, 3)], np.float32)
        elif name.endswith(".scale"):
            tensors[name] = rng.uniform(0.01, 0.3, shape).astype(np.float32)
        else:
            tensors[name] = rng.normal(0, 0.5, shape).astype(np.float64 if kind == "F64" else np.float32)
    tensors["alphas"][:] = 1
    if seed % 2:
        for name in tensors:
            if name.endswith((".step", ".clip", ".minimum", ".shift")):
                first = re.sub(r"\.1\.(\w+)$", r".0.\1", name)
                first = re.sub(r"(layers\.\d+)\.(key|value)\.0\.", r"\1.query.0.", first)
                tensors[name] = tensors.get(first, tensors[name]).copy()
    for name, depth in bit_depths(config).items():
        tensors[name][:, -1] &= np.uint64(2**64 - 1 >> -depth % 64)
    config, _ = finish_config(config, tensors)
    return Artifact(Path("mixed"), config, tensors, None)
