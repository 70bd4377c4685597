"""`benchmarks/older_cpu.py` hides newer instructions from every engine of a process, or says that it cannot."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEATURES = """
import threading
from numpy._core._multiarray_umath import __cpu_features__ as numpy_finds
from llvmlite.binding import get_host_cpu_features
def look():
    llvm_finds = get_host_cpu_features()
    print([bool(found.get(name)) for found, name in ((numpy_finds, "AVX2"), (numpy_finds, "AVX512F"),
           (llvm_finds, "avx2"), (llvm_finds, "avx512f"), (llvm_finds, "avxvnni"), (llvm_finds, "amx-int8"))])
thread = threading.Thread(target=look)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="CPUID is x86's, faults Linux'")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_engines_see_avx2_and_nothing_newer_in_all_threads(tmp_path):
    pytest.importorskip("llvmlite", reason="llvmlite asks the CPU in its own way; it comes with numba")
    library = tmp_path / "older_cpu.so"
    source = ROOT / "benchmarks" / "older_cpu.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", FEATURES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    avx2 = subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("[True")
    assert done.stdout.strip() == str([avx2, False, avx2, False, False, False])
