"""No kernel reads or writes a byte outside its arrays, whatever their sizes: unmapped pages lie behind and before them.

Not padding either: buffers have exactly the sizes that the checks and the workspace demand. What kernels rely on beyond
sizes is one thing, the border on which packed weights begin (`triples.aligned`).
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from guard import Guard

from bebert_kernels.abi.stage import available
from bebert_kernels.cpu import isa

if not available() or not sys.platform.startswith("linux"):
    pytest.skip("guards compiled code with mprotect", allow_module_level=True)

HELPERS = Path(__file__).parents[1] / "helpers"
HERE = isa.available_levels(platform.machine(), isa.host_features())


def run(what: str, side: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(HELPERS / "guard_cases.py"), what, side],
        env=os.environ | {"BEBERT_QUIET": "1", "PYTHONHASHSEED": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def check(done: subprocess.CompletedProcess[str]) -> None:
    last = done.stdout.splitlines()[-1:]
    if done.returncode < 0:
        pytest.fail(f"{signal.Signals(-done.returncode).name} in: {last}")
    assert (done.returncode, last) == (0, ["done"]), f"in {last}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("side", ["start", "end"])
@pytest.mark.parametrize("what", ["arrays", "layers", "lookups"])
def test_kernels_stay_inside_their_arrays(what, side):
    check(run(what, side))


@pytest.mark.parametrize("side", [pytest.param("start", marks=pytest.mark.long), "end"])
@pytest.mark.parametrize("product", ["popcount", "bitsliced", "lookup"])
def test_programs_stay_inside_weights_inputs_and_workspaces(product, side):
    check(run("members", side, BEBERT_PRODUCT=product))


@pytest.mark.long
@pytest.mark.parametrize("what", ["arrays", "layers"])
def test_kernels_of_a_smaller_instruction_set_stay_inside_too(what):
    """Vectors are of other widths there, and tails are others."""
    level = next(level for level in ("avx2", "neon", "generic", "native") if level in HERE)
    check(run(what, "end", BEBERT_ISA=level))


def test_a_read_past_the_end_ends_the_process_and_is_named():
    """Else these tests would prove nothing."""
    done = run("broken", "end")
    assert done.returncode == -signal.SIGSEGV, done.stderr
    with pytest.raises(pytest.fail.Exception, match="SIGSEGV in: .*sign_bits of 31 floats"):
        check(done)


@pytest.mark.parametrize("side", ["start", "end"])
def test_a_write_on_the_far_side_is_noticed(side):
    guard = Guard(side)
    array = guard.empty(10, np.uint8)
    guard.check()
    ctypes.memset(array.ctypes.data + (10 if side == "start" else -1), 1, 1)
    with pytest.raises(AssertionError, match="bytes around the array"):
        guard.check()
