"""One pass of one member down to the parts of its linear layers, in milliseconds and in cycles an output."""

import time
from dataclasses import dataclass

import numpy as np

from bebert_infer.ensemble import Ensemble
from bebert_infer.measure.cycles import Cost, Watch, cycle_counter
from bebert_infer.measure.profiling import PRODUCTS, Passes, Stage, native_engine, random_sentence, stages, time_passes
from bebert_infer.model.batch import ragged_batch
from bebert_infer.native.linear_parts import PARTS, LinearParts
from bebert_infer.native.stepping import Stepper
from bebert_kernels.tuning.clock import cycles_per_second

FEWEST, SECONDS = 4, 5.0  # passes in parts, each as long as ten others, and when no further one begins
OTHER = "other"  # what a pass spends on a layer beyond its parts


@dataclass(frozen=True)
class LinearPart:
    """A part of all linear layers of one kind; `native/linear_parts.py` says what parts there are.

    ms, share        : of the pass; all parts of a layer together are what the pass spends on it
    ns_an_output     : for each output of each row      cycles_an_output : the same in cycles
    """

    layer: str
    part: str
    ms: float
    share: float
    ns_an_output: float
    cycles_an_output: float


@dataclass(frozen=True)
class LayerProfile:
    """Operations and parts of the same passes.

    counted : whether the processor counted the cycles; else they are times by a measured clock
    gigahertz : cycles a nanosecond, either way
    """

    operations: list[Stage]
    parts: list[LinearPart]
    counted: bool
    gigahertz: float


def profile_layers(ensemble: Ensemble, tokens: int = 128, rounds: int = 20, member: int = 0) -> LayerProfile:
    """As `profiling.profile`, with the parts of linear layers, whose calls take turns with the passes."""
    program, ids = native_engine(ensemble).members[member].program, random_sentence(ensemble, tokens)
    stepper = Stepper(program, ragged_batch(ids, np.ones(ids.shape, bool), np.zeros_like(ids)))
    counter = cycle_counter(lambda: cycles_per_second(rounds=1))
    found: list[dict[tuple[int, str], Cost]] = []
    clocks: list[float] = []
    try:
        watch = Watch(counter, stepper.call_nothing)
        calls = LinearParts(stepper, watch.cost)

        started = time.perf_counter()

        def beside() -> None:
            clocks.append(cycles_per_second(rounds=1) / 1e9)
            if len(found) < FEWEST or time.perf_counter() - started < SECONDS:
                watch.set_to_zero()
                found.append(calls.one_pass())

        passes = time_passes(ensemble, tokens, rounds, member, beside)
    finally:
        if counter is not None:
            counter.close()
    costs = {key: np.median([one[key] for one in found[1:]], axis=0) for key in found[0]}
    gigahertz = float(np.median(clocks[1:]))
    if counter is not None:
        nanoseconds, cycles = np.sum(list(costs.values()), axis=0)
        gigahertz = float(cycles / nanoseconds)
    else:
        costs = {key: np.array([cost[0], cost[0] * gigahertz]) for key, cost in costs.items()}
    parts = parts_of_layers(passes, calls, costs, gigahertz)
    return LayerProfile(stages(passes), parts, counter is not None, gigahertz)


def parts_of_layers(
    passes: Passes, calls: LinearParts, costs: dict[tuple[int, str], Cost], gigahertz: float
) -> list[LinearPart]:
    """Parts of the layers of each kind together, and what is other.

    costs : of each part of each layer, nanoseconds and cycles
    """
    infos, found, in_all = passes.member.program.instruction_info, [], float(passes.ms.sum())
    for name in PRODUCTS:
        layers = [layer for layer in calls.outputs if infos[layer].name == name]
        outputs = sum(calls.outputs[layer] * passes.rows(layer) for layer in layers)
        parts = {}
        for part in PARTS:
            here = [costs[layer, part] for layer in layers if (layer, part) in costs]
            if here:
                parts[part] = np.sum(here, axis=0)
        whole = 1e6 * sum(passes.ms[i] for i, layer in calls.layer_of.items() if layer in layers)
        rest = whole - sum(cost[0] for cost in parts.values())
        parts[OTHER] = np.array([rest, rest * gigahertz])
        for part, (nanoseconds, cycles) in parts.items():
            ms = float(nanoseconds) / 1e6
            each = float(nanoseconds) / outputs, float(cycles) / outputs
            found.append(LinearPart(name, part, ms, ms / in_all, *each))
    return found
