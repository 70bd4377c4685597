"""How to start another process of the Python that runs this one, and never anything else.

An application that embeds Python names itself in sys.executable, or nothing, or a Python that it found: started with
-c, it would begin anew and start itself again and again, or import other versions of everything.
"""

import os
import re
import sys
from pathlib import Path

OTHER_PYTHON = 97  # exit code of a child that is another Python than its parent
PYTHON = re.compile(r"(python|pypy)[0-9.]*[a-z]?(-dbg|-intel64)?(\.exe)?")
# The parent's places to import from, whatever the current folder and the environment are; nothing is imported before.
_BEGIN = (
    "import sys; sys.hexversion == {version} or sys.exit({other}); end = 2 + int(sys.argv[1]); "
    "sys.path[:] = sys.argv[end:]; sys.argv[:] = ['-c', *sys.argv[2:end]]; "
)


class NoPythonError(OSError):
    """There is no Python that could be started; the text says so of sys.executable."""


def runs_python(executable: str | None) -> bool:
    """Whether a process was started by a Python, going by the name, which would run what -c says."""
    return bool(PYTHON.fullmatch(Path(executable or "").name.lower())) and not getattr(sys, "frozen", False)


def python_command(code: str, *arguments: str) -> list[str]:
    """A command that runs `code`, which finds `arguments` in sys.argv[1:], with this process's modules and isolation.

    What -W, -X and -i say is not handed on: the child has nobody to tell. Raises NoPythonError.
    """
    executable = sys.executable
    if not runs_python(executable):
        raise NoPythonError(f"sys.executable is {executable!r:.200}, which is no Python that could be started")
    flags = ["-I"] if sys.flags.isolated else ["-E"] * sys.flags.ignore_environment + ["-s"] * sys.flags.no_user_site
    flags += ["-O"] * sys.flags.optimize  # numba keeps what it compiled by its bytecode, which is another with -O
    begin = _BEGIN.format(version=sys.hexversion, other=OTHER_PYTHON)
    places = [place for place in sys.path if isinstance(place, str)]
    return [executable, *flags, "-P", "-c", begin + code, str(len(arguments)), *arguments, *places]


def child_environment(**changes: str) -> dict[str, str]:
    """The environment with `changes`, without what makes warnings errors and waits for somebody at a keyboard."""
    unwanted = ("PYTHONWARNINGS", "PYTHONINSPECT")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | changes
