"""A training process keeps the memory that its steps free."""

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="training needs the extra [export]")

STEPS = """
import resource
import torch
from bebert_export.training.allocator import keep_freed_memory

assert keep_freed_memory()
torch.set_num_threads(1)

def step():
    return len([torch.ones(1 << 20) for _ in range(16)])

for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


PAGES = 10 * 16 * 1024  # of 4 KiB that ten steps fill


def pages_touched_anew():
    """By ten steps of 64 MiB each, after ten others."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told")
def test_steps_use_freed_memory_again():
    """Left alone, glibc often gives it back: all of these pages are then new in every step."""
    assert pages_touched_anew() < PAGES / 10
