"""Does the packed engine compute what the PyTorch graph computes? Every code, every hidden state, every logit.

Two correct float implementations differ by rounding, and a value that lies within rounding of a threshold may get
another code in each. One such flip moves the logits of a small network by tenths, so comparing logits alone would
either miss mistakes or refuse good models. Therefore the graph runs with the truth's codes put in its place:

    at every quantizer   codes of graph and truth must be equal, or differ by one step where the value before
                         rounding lies within rounding of a threshold (`exchange.py`); then the truth's codes go on
    between quantizers   hidden states and logits must agree to ROUNDING
    at the end           the engine that will answer must give the truth's logits, bit for bit, on more sentences: each
                         alone, and all of them in one padded batch

How many codes flip says nothing by itself: as many may as there are values that near to a threshold, and a network of
nine million codes has thousands of them. Each flip must be one of those. So there is no limit on their number; the
evidence names both, `flips` of `near_threshold`.

Both graph and truth use the zero minimum, one sentence at a time, which is also what a dynamic quantizer sees.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bebert_export.pack.exchange import ROUNDING, Exchange, quantizer_sites
from bebert_export.student.bert import QuantLinear, Student
from bebert_export.student.layers import exactly
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import ParityError

Sentences = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

# Tokens of the sentences, as far as the model has positions; those of the engine include sizes around its blocks.
LENGTHS, ENGINE_LENGTHS = (1, 7, 18, 40), (1, 2, 3, 5, 8, 13, 24, 65)


@dataclass
class Parity:
    """What the check saw. Differences are absolute.

    near_threshold, flips : values within rounding of a threshold, and those of them whose codes differ
    label_agreement       : between free runs, without exchanged codes
    """

    sentences: int = 0
    tokens: int = 0
    codes: int = 0
    near_threshold: int = 0
    flips: int = 0
    max_hidden_difference: float = 0.0
    max_logit_difference: float = 0.0
    free_logit_difference: float = 0.0
    label_agreement: float = 1.0
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the evidence for config and model card."""
        return {key: value for key, value in asdict(self).items() if key != "faults"}


def check_parity(students: list[Student], ensemble: Ensemble, seed: int = 0) -> Parity:
    """Compare every student with its packed member on random token ids of several lengths.

    Raises ParityError, naming the first site that differs, if more differs than rounding explains.
    """
    ids, mask, types = random_sentences(ensemble, LENGTHS, seed)
    lengths = mask.sum(axis=1)
    parity = Parity(sentences=len(ids), tokens=int(lengths.sum()))
    traces = ensemble.trace(ids, mask, types)
    asked = random_sentences(ensemble, ENGINE_LENGTHS, seed)
    parity.faults += engine_faults(ensemble, asked, truth_logits(ensemble, asked))
    agreed = 0
    for index, (student, trace) in enumerate(zip(students, traces, strict=True)):
        with _weights_quantized_once(student):
            for sentence, length in enumerate(lengths):
                own_ids, own_types = (
                    torch.from_numpy(array[sentence : sentence + 1, :length]) for array in (ids, types)
                )
                rows = slice(int(lengths[:sentence].sum()), int(lengths[: sentence + 1].sum()))
                own = {key: _of_sentence(key, value, sentence, rows) for key, value in trace.items()}
                agreed += _compare(f"member {index}", student, own, own_ids, own_types, parity)
    parity.label_agreement = agreed / (len(lengths) * len(students))
    if parity.faults:
        raise ParityError(
            f"the packed engine does not compute what the PyTorch graph computes: {parity.faults[0]} "
            f"({len(parity.faults)} faults in all); nothing was written. This is a bug or an unknown checkpoint layout."
        )
    return parity


def random_sentences(ensemble: Ensemble, lengths: tuple[int, ...], seed: int) -> Sentences:
    """Random ids, mask and types int64[S, T], padded to the longest; the second half of a sentence has type 1."""
    limits = ensemble.limits
    tokens = np.array(sorted({min(length, limits.positions) for length in lengths}))[:, None]
    column = np.arange(tokens[-1, 0])
    ids = np.random.default_rng(seed).integers(0, limits.vocabulary, (len(tokens), len(column)))
    mask = column < tokens
    types = (column >= (tokens + 1) // 2) * (limits.types > 1)
    return ids * mask, mask.astype(np.int64), (types * mask).astype(np.int64)


def truth_logits(ensemble: Ensemble, sentences: Sentences) -> list[NDArray[np.float32]]:
    """Logits float32[S, labels] of each member by the truth."""
    return [trace["logits"] for trace in ensemble.trace(*sentences)]


def engine_faults(ensemble: Ensemble, sentences: Sentences, expected: list[NDArray[np.float32]]) -> list[str]:
    """Where the engine's logits are not those of the truth, bit for bit; expected : from `truth_logits`."""
    ids, mask, types = sentences
    batches = [("all sentences in one batch", slice(None))]
    batches += [(f"{mask[i].sum()} tokens", slice(i, i + 1)) for i in range(len(ids))]
    faults = []
    for name, rows in batches:
        tokens = int(mask[rows].sum(axis=1).max())
        found = ensemble.member_logits(ids[rows, :tokens], mask[rows, :tokens], types[rows, :tokens])
        for index, (logits, truth) in enumerate(zip(found, expected, strict=True)):
            if not np.array_equal(logits.view(np.uint32), truth[rows].view(np.uint32)):
                faults.append(
                    f"member {index}, {name}: the {ensemble.backend} engine's logits differ from the truth's by "
                    f"{float(np.abs(logits - truth[rows]).max()):.2g}; accepted are the same bits"
                )
    return faults


@contextmanager
def _weights_quantized_once(student: Student) -> Iterator[None]:
    """Leave the weights' quantizers out of the passes inside: their results are kept instead."""
    kept: list[tuple[Any, Any]] = []
    try:
        for module in student.modules():
            if isinstance(module, QuantLinear) and module.weight_quantizer is not None:
                layer: Any = module  # torch types attributes of a module as Tensor or Module
                kept.append((layer, layer.weight_quantizer))
                value = exactly(layer.weight_quantizer, layer.weight.detach())
                layer.weight_quantizer = lambda weight, value=value: value
        yield
    finally:
        for layer, quantizer in kept:
            layer.weight_quantizer = quantizer


def _of_sentence(key: str, value: Any, sentence: int, rows: slice) -> Any:
    """What a trace of all sentences says of one."""
    if isinstance(value, list):
        return value[sentence]
    return value[sentence : sentence + 1] if key.startswith(("codes.pooler", "pooled", "logits")) else value[rows]


@torch.no_grad()
def _compare(
    name: str, student: Student, truth: dict[str, Any], ids: torch.Tensor, types: torch.Tensor, parity: Parity
) -> bool:
    """Compare one sentence; returns whether the free runs choose the same label."""
    was_training = student.training
    student.eval()
    free = student(ids, None, types).logits[0].numpy()
    exchanges = [(Exchange(site, truth), module) for site, module in quantizer_sites(student)]
    hooks = [module.register_forward_hook(exchange) for exchange, module in exchanges]
    try:
        forced: dict[str, Any] = {}
        logits = student(ids, None, types, trace=forced).logits[0].numpy()
    finally:
        for hook in hooks:
            hook.remove()
        student.train(was_training)
    for exchange, _ in exchanges:
        parity.codes += exchange.codes
        parity.near_threshold += exchange.near_threshold
        parity.flips += exchange.flips
        if exchange.fault:
            parity.faults.append(f"{name} {exchange.site}: {exchange.fault}")
    for layer in range(student.config.num_layers + 1):
        key = f"hidden_{layer}"
        gap = _gap(forced[key][0], truth[key], parity, f"{name} {key}")
        parity.max_hidden_difference = max(parity.max_hidden_difference, gap)
    expected = truth["logits"][0]
    gap = _gap(logits, expected, parity, f"{name} logits")
    parity.max_logit_difference = max(parity.max_logit_difference, gap)
    parity.free_logit_difference = max(parity.free_logit_difference, float(np.abs(free - expected).max()))
    return int(free.argmax()) == int(expected.argmax())


def _gap(expected: NDArray, found: NDArray, parity: Parity, name: str) -> float:
    gap = float(np.abs(expected - found).max())
    allowed = ROUNDING * max(1.0, float(np.abs(expected).max()))
    if not gap <= allowed:
        parity.faults.append(f"{name} differs by {gap:.2g}, rounding explains {allowed:.2g}")
    return gap
