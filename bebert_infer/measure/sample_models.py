"""Models at hand: the shipped one, and random ones of any geometry, right in shape and meaningless in answers."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.config import (
    CODES,
    FORMAT,
    FORMAT_VERSION,
    LINEARS,
    Config,
    MemberConfig,
    Site,
    expected_tensors,
)
from bebert_infer.artifact.folder import Artifact, finish_config
from bebert_infer.artifact.values import bit_depths
from bebert_infer.errors import ModelFormatError

Scheme = Literal["1-1-1", "1-1-4", "1-1-8", "2-2-8"]
# Name -> layers, hidden width, attention width, heads, FFN width. "half" is BinaryBERT's own geometry.
SIZES = {
    "base": (12, 768, 768, 12, 3072),
    "base-half": (12, 768, 384, 6, 1536),
    "tiny": (2, 128, 128, 2, 512),
}


def random_model(size: str, scheme: Scheme, members: int, *, vocab_size: int = 30522, seed: int = 0) -> Artifact:
    """Return an in-memory model folder with two labels.

    scheme : 1-1-1 BiBERT; 1-1-4 and 1-1-8 two-branch BinaryBERT; 2-2-8 TernaryBERT
    """
    layers, hidden, attention, heads, wide = SIZES[size]
    bits = int(scheme[-1])
    boolean = bits == 1
    kind: Literal["codes", "dynamic"] = "dynamic" if bits == 8 else "codes"
    ternary = scheme == "2-2-8"
    signed = Site("sign") if boolean else Site(kind, bits, True)
    unsigned = signed if boolean or ternary else Site(kind, bits, False)
    sites = dict.fromkeys(LINEARS, signed) | {"output": unsigned}
    if not boolean:
        sites |= dict.fromkeys(CODES, signed) | {"probability_codes": unsigned}
    member = MemberConfig(
        family="bibert" if boolean else "ternarybert" if ternary else "binarybert",
        scheme=scheme,
        branches=1 if boolean else 2,
        row_scales=boolean,
        hidden_size=hidden,
        attention_size=attention,
        num_attention_heads=heads,
        intermediate_size=wide,
        num_hidden_layers=layers,
        layer_norm_eps=1e-12,
        attention="boolean" if boolean else "softmax",
        activation="relu" if kind == "codes" and not boolean else "gelu",
        sites=sites,
    )
    config = Config(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        vocab_size=vocab_size,
        max_position_embeddings=512,
        type_vocab_size=2,
        num_labels=2,
        id2label={"0": "negative", "1": "positive"},
        label2id={"negative": 0, "positive": 1},
        problem_type="single_label_classification",
        combination="logits" if members == 1 else "vote",
        members=[member] * members,
        tensors_sha256="",
        tensors_bytes=0,
    )
    generator = np.random.default_rng(seed)
    tensors = {
        name: _tensor(name, kind, shape, config, generator) for name, (kind, shape) in expected_tensors(config).items()
    }
    for name, depth in bit_depths(config).items():
        tensors[name][:, -1] &= np.uint64(2**64 - 1 >> -depth % 64)  # padding bits are 0
    config, _ = finish_config(config, tensors)
    return Artifact(Path(f"random {size} {scheme}"), config, tensors, None)


def _tensor(name: str, kind: str, shape: list[int], config: Config, generator: np.random.Generator) -> NDArray:
    if name == "alphas":
        return np.ones(shape, np.float64)
    if kind == "U64":
        return generator.integers(0, 2**64, shape, dtype=np.uint64)
    if name.endswith((".step", ".minimum")):
        # Hidden values have deviation 1, scores and probabilities 1/T: steps that spread codes over their range.
        value = 0.0 if name.endswith(".minimum") else 0.02 if "probability" in name else 0.3
        # No two quantizers alike, as in a trained model: equal ones would be encoded once.
        return np.full(shape, value * generator.uniform(0.9, 1.1), np.float32)
    if name.endswith(".clip"):
        return np.array([-2.5, 2.5], np.float32)
    if name.endswith(".scale"):
        return generator.uniform(0.02, 0.04, shape).astype(np.float32)
    if "norm.weight" in name:
        return np.ones(shape, np.float32)
    return (0.05 * generator.standard_normal(shape)).astype(np.float32)


def demo_path() -> Path:
    """Return the folder of the model that is shipped in the package."""
    folder = Path(__file__).parents[1] / "demo_model"
    if not (folder / "config.json").is_file():
        raise ModelFormatError("this installation lacks its demo model; install the wheel or run in a checkout")
    return folder
