"""Every kernel under pytest-benchmark on one thread; each is compared with NumPy before it is timed.

make bench-kernels                                        (ONLY="popcount or NumKong" chooses, RECORD=1 keeps)
python -m pytest benchmarks/kernel_bench/test_kernels.py --benchmark-enable --benchmark-quiet -k attend
"""

from importlib.util import find_spec

import pytest
from kernel_bench.case import SIZES, check
from kernel_bench.cases import all_cases
from kernel_bench.table import MEASURED, Measured


def pytest_generate_tests(metafunc):
    cases = all_cases(SIZES[metafunc.config.getoption("--kernel-sizes")])
    metafunc.parametrize("case", cases, ids=lambda case: case.id)


def test_kernel(case, benchmark, request):
    if case.needs and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed: pip install {case.needs}")
    work = case.prepare()
    check(case, work)
    benchmark(work.call)
    if benchmark.stats is not None:  # None where benchmarks are switched off
        stats = benchmark.stats.stats
        request.config.stash[MEASURED].append(Measured(case, stats.median, stats.min, stats.rounds, **work.amounts))
