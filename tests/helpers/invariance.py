"""Answers a file of requests in a process of its own: `python invariance.py requests.npz answers.npz threads`.

Beside the logits it stores the codes of every layer, for comparisons across instruction sets.
"""

import sys
from pathlib import Path

import numpy as np

from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model

FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
VOCABULARY, LONGEST = 50, 130
NAMES = ["1-1-1", "1-1-4", *sorted(folder.name for folder in FROZEN.iterdir() if folder.is_dir())]


def load(name: str, threads: int) -> Ensemble:
    """A synthetic model of three members, or a frozen one."""
    if name in ("1-1-1", "1-1-4"):
        return Ensemble(random_model("tiny", name, 3, vocab_size=VOCABULARY), threads=threads)
    return Ensemble.from_pretrained(FROZEN / name, threads=threads)


def requests(seed: int, vocabulary: int, longest: int, types: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of ids, mask (with holes) and types."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(3):
        lengths = rng.integers(1, longest + 1, rng.integers(1, 5))
        mask = np.arange(lengths.max()) < lengths[:, None]
        mask[:, 1:] &= rng.random(mask[:, 1:].shape) < 0.97
        ids, kinds = rng.integers(0, vocabulary, mask.shape), rng.integers(0, types, mask.shape)
        found.append((ids, mask.astype(np.int64), kinds))
    return found


def write_requests(file: Path, seed: int) -> None:
    """Three requests for every model."""
    found = {}
    for name in NAMES:
        limits = load(name, 1).limits
        asked = requests(seed, limits.vocabulary, min(LONGEST, limits.positions), limits.types)
        found |= {f"{name} {number} {part}": asked[number][part] for number in range(3) for part in range(3)}
    np.savez(file, **found)


def main(asked: str, answers: str, threads: int) -> None:
    """Answer all requests."""
    found = {}
    with np.load(asked) as given:
        for name in NAMES:
            model = load(name, threads)
            for number in range(3):
                request = [given[f"{name} {number} {part}"] for part in range(3)]
                found[f"{name} {number} logits"] = model.member_logits(*request)
                for index, trace in enumerate(model.trace(*request)):
                    for key, values in trace.items():
                        flat = np.concatenate([np.ravel(part) for part in values])  # some are lists of arrays
                        found[f"{name} {number} member {index} {key}"] = flat
    np.savez(answers, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
