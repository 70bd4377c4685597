"""pyarrow of the extra `parquet`, or the reason why a test is skipped."""

from typing import Any

import pytest


def arrow() -> Any:
    """The package with its `parquet`; skips the test where it is not installed."""
    pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra parquet)")
    import pyarrow

    return pyarrow
