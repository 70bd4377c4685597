"""`bebert bench` in a process of its own, for the tests of what it prints."""

import os
import subprocess
import sys


def run(*arguments: object, code: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Call the command on the reference backend, which compiles nothing.

    code : runs before it      more : variables of its environment
    """
    code += "from bebert_infer.cli.main import main; main()"
    environment = os.environ | {"COLUMNS": "200", "BEBERT_BACKEND": "reference"} | more
    command = [sys.executable, "-c", code, "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
