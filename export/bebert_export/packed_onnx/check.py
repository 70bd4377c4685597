"""Does the ONNX model compute what the engine computes? Every code, every hidden state, every label, in ONNX Runtime.

As in the check of an export from PyTorch (`pack/parity.py`), codes of the truth are put in the place of the model's own
behind every quantizer, so that one flip of a code does not hide what comes after it. For that the model is built a
second time: its quantizers are outputs there, and their codes inputs. Then the model itself answers alone.

    at every quantizer   codes equal the truth's, or lie one step off where the value is within rounding of a threshold
    between quantizers   hidden states and logits agree to ROUNDING
    the model itself     its labels are those of the engine, alone and in a padded batch
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bebert_export.packed_onnx.build import OUTPUTS
from bebert_export.packed_onnx.graph import Graph, Value
from bebert_export.packed_onnx.member import INPUTS, member_logits, read_inputs
from bebert_infer.artifact.config import Config
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import ParityError

Sentences = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
ROUNDING = 2e-5
"""Of the largest magnitude of a tensor: how far correct float32 evaluations may lie apart (`docs/numerics.md`).

Almost everything is the same bits; what is left to ONNX Runtime is erf, in models with GELU.
"""
LENGTHS = (1, 7, 18, 40)  # tokens, as far as the model has positions
TEXTS = (
    "a gripping, funny film",
    "The story is lame, not interesting and never really explains anything.",
    "Does the second one say the same?",
)


@dataclass
class Agreement:
    """What the check saw. Differences are absolute; `max_logit_difference` is of the model with its own codes."""

    sentences: int = 0
    codes: int = 0
    flips: int = 0
    max_hidden_difference: float = 0.0
    max_logit_difference: float = 0.0
    faults: list[str] = field(default_factory=list)


class Site(NamedTuple):
    """A quantizer of a model that is checked: names of its tensors.

    value : "" where the codes come from integers;  step : name, or the number itself
    """

    name: str
    zero: int
    codes: str
    value: str
    step: str | float
    truth: str


class CheckedGraph(Graph):
    """A graph of one member whose quantizers and hidden states are outputs, and that goes on with given codes."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[Site] = []
        self.states: list[str] = []

    def site(self, name: str, codes: str, zero: int, rank: int, value: str | None, step: Value) -> str:
        """Make codes and value outputs, and the codes that follow an input."""
        shape = [None] * rank
        self.output(f"codes of {name}", codes, np.uint8, shape)
        if value is not None:
            self.output(f"value of {name}", value, np.float32, shape)
        if isinstance(step, str):
            self.output(f"step of {name}", step, np.float32, shape)
        found = f"step of {name}" if isinstance(step, str) else float(step)
        truth = self.input(f"truth of {name}", np.uint8, shape)
        self.sites.append(Site(name, zero, f"codes of {name}", f"value of {name}" if value else "", found, truth))
        return truth

    def state(self, name: str, value: str) -> None:
        """Make it an output."""
        self.output(name, value, np.float32, [None] * 3)
        self.states.append(name)


def check(ensemble: Ensemble, file: Path, seed: int = 0) -> Agreement:
    """Compare the model in a file, and each of its members with the truth's codes in it, with the engine.

    Raises ParityError, naming the first thing that differs, if more differs than rounding explains.
    """
    seen = Agreement()
    sentences = _random_sentences(ensemble, seed)
    traces = ensemble.trace(*sentences)
    for index, trace in enumerate(traces):
        _check_member(ensemble, index, trace, sentences, seen)
    asked = [sentences]
    if ensemble.config.tokenizer is not None and ensemble.tokenizer_json is not None:
        asked.append(ensemble.encode(list(TEXTS), truncate=True).arrays)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in asked:
        _check_answers(ensemble, session, batch, seen)
    if seen.faults:
        raise ParityError(
            f"the ONNX model does not compute what the engine computes: {seen.faults[0]} ({len(seen.faults)} faults in "
            "all); nothing was written. This is a bug, or ONNX Runtime computes something else on this machine."
        )
    return seen


def _random_sentences(ensemble: Ensemble, seed: int) -> Sentences:
    """Random ids, mask and types int64[S, T], padded to the longest; the second half of a sentence has type 1."""
    limits = ensemble.limits
    tokens = np.array(sorted({min(length, limits.positions) for length in LENGTHS}))[:, None]
    column = np.arange(tokens[-1, 0])
    mask = (column < tokens).astype(np.int64)
    ids = np.random.default_rng(seed).integers(0, limits.vocabulary, mask.shape)
    types = (column >= (tokens + 1) // 2) * (limits.types > 1)
    return ids * mask, mask, types * mask


def _check_member(ensemble: Ensemble, index: int, trace: dict[str, Any], sentences: Sentences, seen: Agreement) -> None:
    graph = CheckedGraph()
    logits = member_logits(graph, ensemble.members[index], read_inputs(graph, ensemble.limits))
    graph.output("logits", logits, np.float32, [None] * 2)
    model = graph.model("checked member", "", {})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    real = sentences[1].astype(bool)
    truth = {site.name: _padded(site, trace[site.name], real) for site in graph.sites}
    feed: dict[str, NDArray] = dict(zip(INPUTS, sentences, strict=True))
    feed |= {site.truth: (truth[site.name][0] + site.zero).astype(np.uint8) for site in graph.sites}
    found = dict(zip((one.name for one in graph.outputs), session.run(None, feed), strict=True))
    for site in graph.sites:
        if fault := _compare_codes(site, found, *truth[site.name], seen):
            seen.faults.append(f"member {index} {site.name}: {fault}")
    for name in [*graph.states, "logits"]:
        rows = found[name] if name == "logits" else found[name][real]
        gap, largest = float(np.abs(rows - trace[name]).max()), float(np.abs(trace[name]).max())
        seen.max_hidden_difference = max(seen.max_hidden_difference, gap)
        if not gap <= ROUNDING * max(1.0, largest):
            seen.faults.append(
                f"member {index} {name} differs by {gap:.2g}, rounding explains {ROUNDING:g} of the largest"
            )


def _padded(site: Site, rows: Any, real: NDArray[np.bool_]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Codes of a trace in the shape that a graph has, 0 where it has padding, and bool of that shape: what is real.

    rows : integers [S, K] of the pooler, [M, K] of all real tokens, or a list of [H, T, T]
    """
    if site.name.startswith("codes.pooler"):
        return rows.astype(np.int16), np.ones(rows.shape, np.bool_)
    if not isinstance(rows, list):
        kept = np.repeat(real[:, :, None], rows.shape[1], axis=2)
        codes = np.zeros(kept.shape, np.int16)
        codes[real] = rows
        return codes, kept
    tokens = real.shape[1]
    codes = np.zeros((len(rows), len(rows[0]), tokens, tokens), np.int16)
    kept = np.zeros(codes.shape, np.bool_)
    for sentence, found in enumerate(rows):
        part = (sentence, slice(None), slice(found.shape[1]), slice(found.shape[1]))
        codes[part], kept[part] = found, True
    return codes, kept


def _compare_codes(
    site: Site, found: dict[str, NDArray], truth: NDArray[np.int16], kept: NDArray[np.bool_], seen: Agreement
) -> str:
    """What is wrong with the codes of a quantizer; empty if they equal the truth's as far as rounding allows.

    A threshold lies between two neighbouring codes, for signs at 0. The distance that rounding explains is one of the
    largest value; a dynamic quantizer's step and minimum are off by as much, three times in all, and the weights of
    softmax by as much as their scores lie apart.
    """
    codes = found[site.codes].astype(np.int16) - site.zero
    different = (codes != truth) & kept
    seen.codes += int(kept.sum())
    seen.flips += int(different.sum())
    if not different.any():
        return ""
    if not site.value:
        return f"{int(different.sum())} of {int(kept.sum())} codes differ, which are exact integers"
    values = found[site.value]
    real = values[kept]
    allowed = ROUNDING * float(np.abs(real).max()) * (3 if isinstance(site.step, str) else 1)
    if site.name.endswith(".probs"):
        lowest = max(float(real.min()), float(np.finfo(np.float32).tiny))
        allowed *= max(1.0, math.log(max(float(real.max()), lowest) / lowest))
    step = np.broadcast_to(found[site.step] if isinstance(site.step, str) else site.step, values.shape)[different]
    between = (codes[different] + truth[different]) / 2
    distance = np.abs(values[different].astype(np.float64) - between * step)
    apart = int(np.abs(codes - truth)[different].max())
    signs = site.step == 0.0
    if distance.max() <= allowed and apart <= (2 if signs else 1):
        return ""
    return (
        f"{int(different.sum())} of {int(kept.sum())} codes differ, by up to {apart}, as far as {distance.max():.2g} "
        f"from a threshold; rounding explains one step within {allowed:.2g}"
    )


def _check_answers(
    ensemble: Ensemble, session: onnxruntime.InferenceSession, batch: Sentences, seen: Agreement
) -> None:
    """Labels of the model itself, for all sentences in one padded batch and for each alone."""
    ids, mask, types = batch
    expected = ensemble.member_logits(*batch)
    seen.sentences += len(ids)
    parts = [("all sentences in one batch", slice(None))]
    parts += [(f"{mask[i].sum()} tokens", slice(i, i + 1)) for i in range(len(ids))]
    for name, rows in parts:
        tokens = int(mask[rows].sum(axis=1).max())
        feed = dict(zip(INPUTS, (ids[rows, :tokens], mask[rows, :tokens], types[rows, :tokens]), strict=True))
        logits, shares, members = session.run(list(OUTPUTS), feed)
        gap = float(np.abs(members - expected[:, rows]).max())
        seen.max_logit_difference = max(seen.max_logit_difference, gap)
        said = answers(ensemble.config, logits)
        wanted = answers(ensemble.config, ensemble.logits(*(array[rows, :tokens] for array in batch)))
        if not np.array_equal(said, wanted):
            seen.faults.append(f"{name}: labels are {said.tolist()}, those of the engine {wanted.tolist()}")
        if not np.isfinite(shares).all():
            seen.faults.append(f"{name}: probabilities are not numbers")


def answers(config: Config, logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """What combined logits float32[B, labels] say: the place of the label, or 0 and 1 for each of several labels.

    A regression has one label; its values are compared in the checked members.
    """
    return (logits > 0).astype(np.int64) if config.multi_label else logits.argmax(axis=1)
