"""Memory is what `Ensemble.memory` says, for all sizes, and calls do not add to it."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_infer import Ensemble, InputError
from bebert_infer.measure import sample_models as synthetic
from bebert_infer.model.batch import MAX_ROWS
from bebert_infer.native.memory import workspace_bytes
from bebert_kernels.abi.stage import available

if not available():
    pytest.skip("workspaces belong to compiled programs", allow_module_level=True)

HELPERS = Path(__file__).parents[1] / "helpers"
MODELS = {scheme: synthetic.random_model("tiny", scheme, 3, vocab_size=50) for scheme in ("1-1-1", "1-1-4")}


def held(model: Ensemble) -> int:
    """Bytes of the memory that the workspaces of a model really hold."""
    workspaces = [workspace for native in model.engine.members for workspace in native._free]
    arrays = [array for workspace in workspaces for array in workspace._shared]
    arrays += [array for workspace in workspaces for own in workspace._own for array in own.values()]
    return sum(base_of(array).nbytes for array in arrays)


def base_of(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("scheme", MODELS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("sentences", "tokens"), [(1, 1), (1, 512), (3, 65), (31, 130), (70, 1)])
def test_workspaces_hold_exactly_the_bytes_of_the_formula(scheme, threads, sentences, tokens):
    """Threads that a call cannot use, for want of members or of rows, have no scratch yet: at most, then."""
    model = Ensemble(MODELS[scheme], threads=threads)
    model.logits(np.zeros((sentences, tokens), np.int64))
    found, promised = held(model), model.memory(sentences, tokens).workspace
    for native in model.engine.members:
        (workspace,) = native._free
        used = workspace_bytes(native.program.sizes, sentences * tokens, sentences, tokens, len(workspace._own))
        arrays = [*workspace._shared, *(array for own in workspace._own for array in own.values())]
        assert sum(base_of(array).nbytes for array in arrays) == used
    assert found <= promised


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 200)), min_size=1, max_size=5))
def test_no_sequence_of_calls_needs_more_than_its_largest(calls):
    model = Ensemble(MODELS["1-1-1"], threads=2)
    for sentences, tokens in calls:
        model.logits(np.zeros((sentences, tokens), np.int64))
    most = [max(sizes) for sizes in zip(*calls, strict=True)]
    rows = max(sentences * tokens for sentences, tokens in calls)
    sizes = [native.program.sizes for native in model.engine.members]
    assert held(model) <= sum(workspace_bytes(size, rows, *most, 2) for size in sizes)


def test_a_large_batch_is_cut_and_the_bound_does_not_grow_with_it():
    model = Ensemble(MODELS["1-1-1"], threads=2)
    most = [model.memory(sentences, 512).workspace for sentences in (MAX_ROWS, 10 * MAX_ROWS, 1000 * MAX_ROWS)]
    assert most[0] == most[1] == most[2]
    model.logits(np.zeros((60, 512), np.int64))
    model.logits(np.zeros((MAX_ROWS + 5, 1), np.int64))
    assert held(model) <= most[0]


def test_impossible_sizes_are_refused():
    with pytest.raises(InputError, match="0 sentences of 5 tokens; accepted are at least 1 sentence and 1 to 512"):
        Ensemble(MODELS["1-1-1"]).memory(0, 5)
    with pytest.raises(InputError, match="of 513 tokens"):
        Ensemble(MODELS["1-1-1"]).memory(1, 513)


RESIDENT = """
import gc, sys
import numpy as np
from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import SIZES, random_model
SIZES["wide"] = (3, 768, 384, 6, 1536)
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096
Ensemble(random_model("tiny", "SCHEME", 1, vocab_size=50), threads=2).logits(np.zeros((2, 9), int))  # kernels, threads
artifact = random_model("wide", "SCHEME", 2, vocab_size=3000)
before = resident()
model = Ensemble(artifact, threads=2)
loaded = resident()
model.logits(np.zeros((SENTENCES, TOKENS), int))
after = resident()
promised = model.memory(SENTENCES, TOKENS)
tensors = sum(array.nbytes for array in artifact.tensors.values())
print(loaded - before, promised.model - tensors, after - loaded, promised.workspace + promised.call)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads the resident size in /proc")
@pytest.mark.parametrize(("scheme", "sentences", "tokens"), [("1-1-1", 40, 100), ("1-1-4", 8, 512)])
def test_the_process_grows_by_no_more_than_that(scheme, sentences, tokens):
    """Measured from outside. Margin: 6 MB and a tenth, for the allocator, and for what loading leaves behind."""
    code = RESIDENT.replace("SCHEME", scheme).replace("SENTENCES", str(sentences)).replace("TOKENS", str(tokens))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    loaded, model, called, call = map(int, done.stdout.split())
    print(f"load {loaded / 1e6:.1f} MB of {model / 1e6:.1f}, call {called / 1e6:.1f} MB of {call / 1e6:.1f}")
    assert loaded <= 1.1 * model + 6e6
    assert called <= 1.1 * call + 6e6
    assert called >= 0.3 * call  # a formula that promises far too much would be of no use


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_leave_nothing_to_the_collector(threads, backend):
    """Tasks and their group held each other: 9 bytes a call stayed until a full collection, and arrays with them."""
    model = Ensemble(MODELS["1-1-1"], threads=threads, backend=backend)
    model.predict_ids([[1, 2, 3]])
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            model.predict_ids([[1, 2, 3]])
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads the resident size in /proc")
@pytest.mark.parametrize("scheme", ["1-1-1", pytest.param("1-1-4", marks=pytest.mark.long)])
def test_thousands_of_calls_of_mixed_lengths_need_no_more_memory(scheme):
    """100,000 calls: `make soak`."""
    command = [sys.executable, str(HELPERS / "soak.py"), "--calls", "3000", "--scheme", scheme]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_soak_notices_growth():
    command = [sys.executable, str(HELPERS / "soak.py"), "--calls", "400", "--leak", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and "grew by" in done.stdout
