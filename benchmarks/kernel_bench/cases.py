"""All cases of the kernel benchmarks; `test_kernel_benchmarks.py` finds kernels that none of them runs."""

from kernel_bench import attention_cases, products, row_cases, stage_cases
from kernel_bench.case import Case, Sizes


def all_cases(sizes: Sizes) -> list[Case]:
    """Products and their peers first."""
    return [case for part in (products, attention_cases, row_cases, stage_cases) for case in part.cases(sizes)]
