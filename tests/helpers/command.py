"""The command `bebert` with its output and exit code, in this process: starting Python anew takes longer than it.

What only a process of its own can show (start-up, encodings, pipes, signals) is tested with one.
"""

import io
import os
import subprocess
import sys
from unittest.mock import patch

from bebert_infer.cli.main import main


def bebert(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the command, wide enough that no line is folded, on the reference, which compiles nothing."""
    words = ["bebert", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    settings = {"COLUMNS": "200", "BEBERT_BACKEND": "reference"} | environment
    with (
        patch.dict(os.environ, settings),
        patch.object(sys, "argv", words),
        patch.object(sys, "stdout", out),
        patch.object(sys, "stderr", err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    out.seek(0)
    err.seek(0)
    return subprocess.CompletedProcess(words, code, out.read(), err.read())
