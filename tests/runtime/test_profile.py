"""A profile accounts for all of the time: parts of layers, cycles, threads; and looking changes no bit."""

import os
import struct

import numpy as np
import pytest

from bebert_infer import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.measure import cycles as cycles_module
from bebert_infer.measure import layer_profile as layer_module
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.measure.cycles import Counter, Watch, attributes, cycle_counter, open_counter
from bebert_infer.measure.layer_profile import OTHER, profile_layers
from bebert_infer.measure.profiling import PRODUCTS
from bebert_infer.measure.waiting import profile_call
from bebert_infer.model.batch import ragged_batch
from bebert_infer.native.linear_parts import LinearParts
from bebert_infer.native.stepping import Stepper
from bebert_kernels.tuning.clock import cycles_per_second

CASES = [("1-1-1", ""), ("1-1-8", ""), *(("1-1-4", product) for product in ("popcount", "bitsliced", "lookup"))]
TOKENS = 20


class FakeCounter:
    """Counts 10 cycles at each look."""

    def __init__(self):
        self.cycles, self.closed = 0, False

    def read(self):
        """As `Counter.read`."""
        self.cycles += 10
        return self.cycles

    def close(self):
        """As `Counter.close`."""
        self.closed = True


@pytest.fixture
def ensemble(request, monkeypatch):
    """A tiny model of (scheme, product); skips where no native program runs."""
    scheme, product = getattr(request, "param", ("1-1-4", "lookup"))
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    model = Ensemble(synthetic.random_model("tiny", scheme, 3, vocab_size=50), threads=2)
    if model.backend != "native":
        pytest.skip("no native program on this machine")
    return model


def _batch(tokens):
    ids = np.random.default_rng(0).integers(0, 50, (1, tokens))
    return ragged_batch(ids, np.ones(ids.shape, bool), np.zeros_like(ids))


@pytest.mark.parametrize("ensemble", CASES, indirect=True)
@pytest.mark.parametrize("tokens", [1, TOKENS])
def test_a_pass_in_parts_leaves_the_bits_of_a_pass(ensemble, tokens):
    native, batch = ensemble.engine.members[0], _batch(tokens)
    stepper = Stepper(native.program, batch)
    calls = LinearParts(stepper, Watch(None, stepper.call_nothing).cost)
    for _ in range(2):
        calls.one_pass()
        np.testing.assert_array_equal(stepper.logits, native.forward(batch))


@pytest.mark.parametrize("ensemble", CASES, indirect=True)
def test_parts_of_layers_add_up_to_their_operations(ensemble):
    found = profile_layers(ensemble, TOKENS, rounds=3)
    in_all = sum(row.ms for row in found.operations)
    coding = ("encode", "quantize")
    layers = sum(row.ms for row in found.operations if row.operation in (*PRODUCTS, *coding))
    assert sum(part.ms for part in found.parts) == pytest.approx(layers)
    assert [part.layer for part in found.parts if part.part == OTHER] == list(PRODUCTS)
    for part in found.parts:
        assert part.share == pytest.approx(part.ms / in_all)


def test_a_look_up_has_the_parts_of_a_look_up(ensemble):
    found = {(part.layer, part.part) for part in profile_layers(ensemble, TOKENS, rounds=1).parts}
    of_products = {"tables", "indices", "look-ups", "widening", "epilogue"}
    assert {part for layer, part in found if layer == "intermediate"} == {*of_products, "codes in", "codes out", OTHER}
    assert {part for layer, part in found if layer == "output"} == {*of_products, "sums out", OTHER}  # codes are there


@pytest.mark.parametrize(
    ("ensemble", "rows"), [(("1-1-4", "lookup"), TOKENS + 1), (("1-1-8", ""), 2 * TOKENS)], indirect=["ensemble"]
)
def test_outputs_are_those_of_all_rows_that_are_computed(ensemble, rows):
    """Two blocks, the last one for the first token only; unfused programs compute both for all, and two branches."""
    parts = {part.layer: part for part in profile_layers(ensemble, TOKENS, rounds=1).parts if part.part == OTHER}
    outputs = {name: 1e6 * part.ms / part.ns_an_output for name, part in parts.items()}
    assert outputs["pooler"] == pytest.approx(128)
    assert outputs["intermediate"] == pytest.approx(512 * rows)


def test_without_a_counter_cycles_are_time_by_a_measured_clock(ensemble, monkeypatch):
    monkeypatch.setattr(layer_module, "cycle_counter", lambda work: None)
    found = profile_layers(ensemble, TOKENS, rounds=1)
    assert not found.counted
    assert 0.3 < found.gigahertz < 7
    for part in found.parts:
        assert part.cycles_an_output == pytest.approx(part.ns_an_output * found.gigahertz)


def test_counted_cycles_are_those_of_the_counter(ensemble, monkeypatch):
    counter = FakeCounter()
    monkeypatch.setattr(layer_module, "cycle_counter", lambda work: counter)
    found = profile_layers(ensemble, TOKENS, rounds=1)
    assert found.counted and counter.closed
    assert all(part.cycles_an_output == 0 for part in found.parts if part.part != OTHER)  # 10, less 10 for nothing


def test_a_watch_takes_off_what_calling_takes():
    counter, extra = FakeCounter(), 0

    def call():
        counter.cycles += extra

    watch = Watch(counter, call)
    watch.set_to_zero()
    extra = 7
    assert watch.cost(call)[1] == 7


def test_a_counter_is_read_from_its_descriptor():
    reader, writer = os.pipe()
    os.write(writer, struct.pack("<QQ", 5, 1 << 40))
    os.close(writer)
    counter = Counter(reader)
    assert (counter.read(), counter.read()) == (5, 1 << 40)
    counter.close()


def test_a_counter_that_stays_at_0_is_none(monkeypatch):
    still = FakeCounter()
    monkeypatch.setattr(still, "read", lambda: 0)
    monkeypatch.setattr(cycles_module, "open_counter", lambda: still)
    assert cycle_counter(lambda: None) is None
    assert still.closed


@pytest.mark.parametrize("machine", ["x86_64", "riscv64"])
def test_where_the_system_gives_no_counter_there_is_none(machine, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(cycles_module, "_system_call", lambda *arguments: -1)
    assert cycle_counter(lambda: None) is None


def test_counters_count_this_program_only():
    """The layout of Linux's perf_event_attr: type, size, config, and from byte 40 on its flags."""
    made = attributes(1, 2)
    assert struct.unpack_from("=IIQ", made) == (1, 64, 2)
    assert struct.unpack_from("=Q", made, 40) == (0b1100000,)


def test_the_system_takes_our_request():
    """The time of this thread, a counter that every Linux has; cycles are asked for in the same way."""
    counter = open_counter(kind=1, event=1)
    if counter is None:
        pytest.skip("no counters for this process")
    before = counter.read()
    sum(range(100_000))
    assert 0 < counter.read() - before < 10_000_000_000
    counter.close()


def test_the_clock_is_one_of_processors():
    assert 0.3e9 < cycles_per_second(rounds=5) < 7e9


def test_threads_compute_or_wait(ensemble):
    """Three members on two threads: one each, then the rows of the third."""
    engine = ensemble.engine
    found = profile_call(ensemble, TOKENS, rounds=3)
    assert ensemble.engine is engine
    assert len(found.computes_ms) == len(found.waits_ms) == 2
    assert min(*found.computes_ms, *found.waits_ms, found.outside_ms) > 0
    for computes, waits in zip(found.computes_ms, found.waits_ms, strict=True):
        assert computes + waits + found.outside_ms == pytest.approx(found.ms)


def test_times_of_threads_are_of_their_members_and_rows(ensemble):
    batch, engine = _batch(TOKENS), ensemble.engine
    times = [np.zeros((2, len(member.program.instruction_info)), np.int64) for member in engine.members]
    np.testing.assert_array_equal(engine.member_logits(batch, times=times), engine.member_logits(batch))
    assert (times[0][1] == 0).all() and (times[1][0] == 0).all()  # whole members, on one thread each
    assert times[0][0].sum() > 0 and times[1][1].sum() > 0 and (times[2].sum(axis=1) > 0).all()


def test_the_reference_has_no_profile():
    reference = Ensemble(synthetic.random_model("tiny", "1-1-4", 1, vocab_size=50), backend="reference")
    for measured in (profile_layers, profile_call):
        with pytest.raises(InputError, match="the reference has no profile"):
            measured(reference, 4)
