"""Does the packed engine compute what the PyTorch graph computes? Every code, every hidden state, every logit.

Two correct float implementations differ by rounding, and a value that lies within rounding of a threshold may get
another code in each. One such flip moves the logits of a small network by tenths, so comparing logits alone would
either miss mistakes or refuse good models. Therefore the graph runs with the engine's codes put in its place:

    at every quantizer   codes of graph and truth must be equal, or differ by one step where the value before
                         rounding lies within BOUNDARY of a threshold; then the truth's codes go on
    between quantizers   hidden states and logits must agree to FLOAT
    at the end           the engine that will answer must give the truth's logits, bit for bit

How many codes flip says nothing by itself: as many may as there are values that near to a threshold, and a network of
nine million codes has thousands of them (a share of about 2 * BOUNDARY where values spread evenly between thresholds,
more where they are multiples of half a step). Each flip must be one of those. So there is no limit on their number; the
evidence names both, `flips` of `near_threshold`. A threshold in the wrong place by more than BOUNDARY flips a value
that is none of them, and one such value is enough to refuse.

Both graph and truth use the zero minimum, one sentence at a time, which is also what a dynamic quantizer sees.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bebert_export.quantizers import ActivationQuantizer
from bebert_export.student.bert import Student
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import ParityError

# Golden README: with rounding noise of 1e-6 values move by up to 1e-4 steps; dynamic 8-bit steps by up to 1e-3.
BOUNDARY, BOUNDARY_8BIT = 1e-4, 1e-3
# A sign flips where |x| is within rounding of 0: float32 sums of a few thousand terms keep 1e-5 of the largest.
BOUNDARY_SIGN = 1e-5
# Hidden states and logits, relative to their largest magnitude (at least 1): float32 sums in another order.
FLOAT = 2e-5


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
    parity = Parity()
    generator = np.random.default_rng(seed)
    limits = ensemble.limits
    agreed = 0
    lengths = sorted({min(length, limits.positions) for length in (1, 7, 18, 40)})
    for length in lengths:
        ids = generator.integers(0, limits.vocabulary, (1, length))
        types = (np.arange(length) >= (length + 1) // 2).astype(np.int64)[None] * (limits.types > 1)
        traces = ensemble.trace(ids, None, types)
        answers = ensemble.member_logits(ids, None, types)
        for index, (answer, trace) in enumerate(zip(answers, traces, strict=True)):
            if not np.array_equal(answer.view(np.uint32), trace["logits"].view(np.uint32)):
                gap = float(np.abs(answer - trace["logits"]).max())
                parity.faults.append(
                    f"member {index}, {length} tokens: the {ensemble.backend} engine's logits differ from the truth's "
                    f"by {gap:.2g}; accepted are the same bits"
                )
        for index, (student, trace) in enumerate(zip(students, traces, strict=True)):
            agreed += _compare(
                f"member {index}", student, trace, torch.from_numpy(ids), torch.from_numpy(types), parity
            )
        parity.sentences += 1
        parity.tokens += length
    parity.label_agreement = agreed / (len(lengths) * len(students))
    if parity.faults:
        raise ParityError(
            f"the packed engine does not compute what the PyTorch graph computes: {parity.faults[0]} "
            f"({len(parity.faults)} faults in all); nothing was written. This is a bug or an unknown checkpoint layout."
        )
    return parity


@torch.no_grad()
def _compare(name: str, student: Student, trace: dict[str, Any], ids: Tensor, types: Tensor, parity: Parity) -> bool:
    """Compare one sentence; returns whether the free runs choose the same label."""
    was_training = student.training
    student.eval()
    free = student(ids, None, types).logits[0].numpy()
    exchanges = [
        module.register_forward_hook(_Exchange(f"{name} {site}", site, student, trace, parity))
        for site, module in quantizer_sites(student)
    ]
    try:
        forced: dict[str, Any] = {}
        logits = student(ids, None, types, trace=forced).logits[0].numpy()
    finally:
        for exchange in exchanges:
            exchange.remove()
        student.train(was_training)
    for layer in range(student.config.num_layers + 1):
        key = f"hidden_{layer}"
        gap = _gap(forced[key][0], trace[key], parity, f"{name} {key}")
        parity.max_hidden_difference = max(parity.max_hidden_difference, gap)
    gap = _gap(logits, trace["logits"][0], parity, f"{name} logits")
    parity.max_logit_difference = max(parity.max_logit_difference, gap)
    parity.free_logit_difference = max(parity.free_logit_difference, float(np.abs(free - trace["logits"][0]).max()))
    return int(free.argmax()) == int(trace["logits"][0].argmax())


def _gap(expected: NDArray, found: NDArray, parity: Parity, name: str) -> float:
    gap = float(np.abs(expected - found).max())
    allowed = FLOAT * max(1.0, float(np.abs(expected).max()))
    if not gap <= allowed:
        parity.faults.append(f"{name} differs by {gap:.2g}, rounding explains {allowed:.2g}")
    return gap


class _Exchange:
    """Forward hook of one quantizer: compares its codes with the engine's and lets the engine's go on."""

    def __init__(self, name: str, site: str, student: Student, trace: dict[str, Any], parity: Parity):
        self.name, self.site, self.student, self.trace, self.parity = name, site, student, trace, parity

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, ActivationQuantizer)
        (x,) = inputs
        codes, step, minimum = module.codes(x)
        engine = self._engine_codes(x.shape)
        flips = codes != engine
        distance, allowed = self._distances(module, x, step, minimum)
        self.parity.codes += codes.numel()
        self.parity.near_threshold += int((distance <= allowed).sum())
        if flips.any():
            self.parity.flips += int(flips.sum())
            steps = float((codes - engine).abs().max())
            far = float(distance[flips].max())
            if not far <= allowed or (not self._is_sign(module, step) and steps > 1):
                self.parity.faults.append(
                    f"{self.name}: {int(flips.sum())} codes differ by up to {steps:g}, the farthest {far:.2g} from its "
                    f"threshold (rounding explains one step within {allowed:.0e})"
                )
        return engine * step + minimum

    @staticmethod
    def _is_sign(module: ActivationQuantizer, step: float) -> bool:
        return module.kind == "sign" or (module.kind == "bool" and module.bits == 1 and step == 1.0)

    def _distances(self, module: ActivationQuantizer, x: Tensor, step: float, minimum: float) -> tuple[Tensor, float]:
        """Distance of every value to its nearest threshold, and how much of it rounding explains.

        Of signs relative to the largest value, of codes in steps.
        """
        if self._is_sign(module, step):
            return x.abs() / max(float(x.abs().max()), 1e-30), BOUNDARY_SIGN
        ratio = (x.double() - minimum) / step
        return ((ratio - ratio.floor()) - 0.5).abs(), BOUNDARY_8BIT if module.bits == 8 else BOUNDARY

    def _engine_codes(self, shape: torch.Size) -> Tensor:
        """The engine's codes in the shape that the graph uses here."""
        # A ternary layer of the graph is two branches with one quantizer in the engine.
        key = self.site if self.site in self.trace else self.site.removesuffix(".in") + "_1.in"
        found = self.trace[key]
        codes = found[0] if isinstance(found, list) else found
        array = torch.from_numpy(codes.astype(np.float32))
        if self.site.endswith((".attn.q", ".attn.k", ".attn.v")):
            _, heads, tokens, size = shape
            array = array.view(tokens, heads, size).transpose(0, 1)
        return array.reshape(shape)


def quantizer_sites(student: Student) -> list[tuple[str, ActivationQuantizer]]:
    """Return (site name as in a trace, quantizer) of every activation quantizer of a student."""
    bert: Any = student.bert  # torch types attributes of a module as Tensor or Module
    places: list[tuple[str, Any, str]] = [("codes.pooler.dense", bert.pooler, "dense")]
    sites: list[tuple[str, ActivationQuantizer]] = []
    for index, layer in enumerate(bert.encoder.layer):
        name, attention = f"codes.l{index}", layer.attention.self
        places += [(f"{name}.attn.{kind}", attention, kind) for kind in ("query", "key", "value")]
        places += [(f"{name}.attn_out.dense", layer.attention.output, "dense")]
        places += [(f"{name}.{kind}.dense", getattr(layer, kind), "dense") for kind in ("intermediate", "output")]
        for short, kind in (("q", "query"), ("k", "key"), ("v", "value"), ("probs", "weight")):
            sites.append((f"{name}.attn.{short}", getattr(attention, f"{kind}_quantizer")))
    for name, owner, attribute in places:
        for suffix in student.config.rules.suffixes:
            sites.append((f"{name}{suffix}.in", owner.get_submodule(attribute + suffix).input_quantizer))
    return sites
