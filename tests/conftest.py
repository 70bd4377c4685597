"""Shared fixtures: the golden data of the published implementations, and a kernel cache that stays in the checkout."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
# All cases lie beside the checkout where it was built; a few small ones travel with the tests.
GOLDEN = (Path(os.environ.get("BEBERT_GOLDEN", ROOT.parent / "shared" / "golden")), ROOT / "tests" / "data" / "golden")

# Before any kernel is imported, for this process and those that tests start: leave the user's own cache alone.
_CACHE = ROOT / ".pytest_cache" / "kernels"
_CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
os.environ.setdefault("BEBERT_CACHE_DIR", str(_CACHE))

# What decides whether a change lands tries the same examples every time; these draw new ones, to be run now and then:
# pytest -m hypothesis --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("gate")


class Golden:
    """Folder of golden values: `golden / "case"` is its path, or skips the test and says what is missing."""

    def __truediv__(self, name: str) -> Path:
        for folder in GOLDEN:
            if (folder / name).exists():
                return folder / name
        pytest.skip(f'golden case "{name}" is not in {GOLDEN[0]}; set BEBERT_GOLDEN to the folder that holds it')


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Golden values of the published implementations."""
    return Golden()


@pytest.fixture
def quick_backend(monkeypatch):
    """With the JIT off the compiled kernels are plain Python loops; the NumPy reference answers the same, sooner."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        monkeypatch.setenv("BEBERT_BACKEND", "reference")
