"""Shared fixtures: where the golden data of the published implementations lie, and where not to leave files."""

import os
from pathlib import Path

import pytest

GOLDEN = Path(os.environ.get("BEBERT_GOLDEN", Path(__file__).resolve().parents[2] / "shared" / "golden"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of golden values from the published implementations, or a skip that says what is missing."""
    if not GOLDEN.is_dir():
        pytest.skip(f"golden data not found at {GOLDEN}; set BEBERT_GOLDEN to the folder that holds them")
    return GOLDEN


@pytest.fixture(scope="session")
def data() -> Path:
    """Small files that travel with the tests."""
    return Path(__file__).parent / "data"
