"""The command line, `bebert`: each command is a few lines around a function of the library.

Exit codes: 0 done, 1 a failure (damaged model, failed parity, bad row of an input file), 2 bad use (wrong option,
missing file, missing extra).
"""

import codecs
import io
import sys
import warnings
from typing import TextIO

import click

from bebert_infer.cli.commands import Commands
from bebert_infer.cli.streams import drop_output, prepare_streams
from bebert_infer.console import one_line, plain, stderr_console
from bebert_infer.errors import BebertError, BebertWarning

app = Commands(
    "bebert",
    help="Train, convert and run binary ensemble BERT (BEBERT) on a CPU, on packed bits.",
    context_settings={"max_content_width": 120, "show_default": True},
)


def main() -> None:
    """Entry point of the command `bebert`: one sentence and an exit code instead of a traceback.

    Notes of an error (`add_note`) are lines behind its sentence.
    """
    prepare_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may be no UTF-8, and the output another encoding
        codecs.register_error("bebert", _spelled_out)
        sys.stdout.reconfigure(errors="bebert")
    warnings.simplefilter("always", BebertWarning)  # before what -W and PYTHONWARNINGS say
    warnings.showwarning = _show_warning
    _said.clear()
    try:
        try:
            code = _run(sys.argv[1:])
        finally:
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.flush()  # a full disk shows here, not while Python ends
    except BebertError as error:
        _print_error(error, str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `bebert inspect model | head`
        drop_output()
        sys.exit(1)
    except OSError as error:
        drop_output()
        place = f' "{error.filename}"' if error.filename else ""
        _print_error(
            error, f"cannot read or write{place}: {error.strerror or error}; check rights and room, and run it again"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        _say("interrupted; what was not finished was not put in its place")
        sys.exit(130)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of a call; bad use is told here, and what else a command raises is left to `main`.

    Not `app()`, which would answer broken pipes and Control-C in its own way.
    """
    try:
        with app.make_context("bebert", arguments) as context:
            app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _print_bad_use(error)
        return error.exit_code
    return 0


def _print_bad_use(error: click.UsageError) -> None:
    """How the command is called, where its help is, and what is wrong."""
    if error.ctx is not None:
        _say(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.")
    _say(f"error: {one_line(error.format_message())}")


def _say(text: str) -> None:
    """Say it without Rich, which would take a while."""
    if sys.stderr is not None:  # closed by whoever started us
        sys.stderr.write(f"{text}\n")


_said: set[str] = set()  # warnings of this call


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A promised warning as a message of ours, once; others, of libraries, as Python writes them."""
    if issubclass(category, BebertWarning):
        if str(message) in _said:
            return
        _said.add(str(message))
        stderr_console().print(f"[bold yellow]warning:[/] {plain(str(message))}", soft_wrap=True, highlight=False)
    elif sys.stderr is not None:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _print_error(error: Exception, text: str) -> None:
    stderr_console().print(f"[bold red]error:[/] {plain(text)}", soft_wrap=True, highlight=False)
    for note in getattr(error, "__notes__", ()):
        stderr_console().print(plain(note), soft_wrap=True, highlight=False)


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    r"""Characters that an encoding lacks as \u and four digits, which JSON reads as these characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)), error.end
