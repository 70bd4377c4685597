"""Options of the kernel benchmarks, and what they print at the end."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so

from kernel_bench.case import SIZES
from kernel_bench.table import MEASURED, numbers, table
from record import RESULTS, OtherLoad, write_record

LOAD = pytest.StashKey[OtherLoad]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add two options to pytest, for this folder only."""
    group = parser.getgroup("kernel benchmarks")
    group.addoption("--kernel-sizes", choices=tuple(SIZES), default="bert", help="shapes of BERT-base, or small ones")
    group.addoption(
        "--record", nargs="?", const=RESULTS, type=Path, metavar="FOLDER",
        help="append one JSON line to FOLDER/kernels.jsonl (without FOLDER: benchmarks/results)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing measured."""
    config.stash[MEASURED], config.stash[LOAD] = [], OtherLoad()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one table of all kernels; append a record where one is asked for."""
    measured = config.stash[MEASURED]
    missing = {case.longrepr[2].removeprefix("Skipped: ") for case in terminalreporter.stats.get("skipped", [])}
    for line in sorted(missing):
        terminalreporter.write_line(line)
    if not measured:
        return
    found = numbers(measured) | {"cores_of_others": config.stash[LOAD].cores()}
    terminalreporter.section("kernels, one thread")
    for line in table(found):
        terminalreporter.write_line(line)
    if (folder := config.getoption("--record")) is not None:
        terminalreporter.write_line(f"record appended to {write_record('kernels', found, folder)}")
