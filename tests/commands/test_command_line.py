"""A command imports only what it needs, help says all of it whatever Python is told, bad use is three plain lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import bebert

from bebert_infer.cli.commands import COMMANDS
from bebert_infer.cli.main import app
from bebert_infer.measure.sample_models import demo_path

EVERYWHERE = {"commands", "main", "options", "streams", "usage"}


def loaded(*arguments: object, flags: tuple[str, ...] = ()) -> set[str]:
    """Names of all modules that a process of the command has imported when it ends."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
        "from bebert_infer.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, *flags, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"BEBERT_BACKEND": "reference", "BEBERT_QUIET": "1"},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def commands(modules: set[str]) -> set[str]:
    """Files of `bebert_infer/cli/` that are not of every call."""
    found = {name.removeprefix("bebert_infer.cli.") for name in modules if name.startswith("bebert_infer.cli.")}
    return found - EVERYWHERE


def test_the_help_imports_no_command_and_nothing_that_computes_or_draws():
    modules = loaded("--help")
    assert not commands(modules)
    assert not packages(modules) & {"rich", "numpy", "msgspec", "tokenizers", "typer", "pydantic", "bebert_export"}


@pytest.mark.parametrize("command", ["inspect", "demo", "predict", "export", "doctor", "convert", "eval", "bench"])
def test_the_help_of_a_command_imports_that_one_without_numpy_or_rich(command):
    modules = loaded(command, "--help")
    assert commands(modules) == {command}
    assert not packages(modules) & {"rich", "numpy", "tokenizers", "torch"}


def test_a_text_of_the_command_line_imports_no_reader_of_files_and_json_no_tables():
    modules = loaded("predict", demo_path(), "a gripping, funny film", "--json")
    assert commands(modules) == {"predict"}
    assert {name for name in modules if name.startswith("bebert_infer.bulk.")} == {
        "bebert_infer.bulk.record",
        "bebert_infer.bulk.row",
    }
    assert not {name for name in modules if name.startswith(("bebert_infer.bench", "bebert_export"))}
    assert not packages(modules) & {"rich", "typer", "pydantic", "pyarrow"}
    assert commands(loaded("predict", demo_path(), "a gripping, funny film")) == {"predict", "predict_view"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_one_line_of_a_command_is_the_first_sentence_of_its_help(name):
    with click.Context(app) as context:
        command = app.get_command(context, name)
    assert command is not None and command.name == name and command.help is not None
    first = re.match(r".*?\.(?=\s|$)", command.help, re.DOTALL)
    assert first and first[0] == COMMANDS[name].help


@pytest.mark.parametrize("flags", [(), ("-O",), ("-OO",)])
def test_all_help_is_there_without_docstrings(flags):
    """-OO drops docstrings, of which help is made."""
    code = "from bebert_infer.cli.main import app; app(['{}', '--help'], prog_name='bebert')"
    for name in COMMANDS:
        done = subprocess.run(
            [sys.executable, *flags, "-c", code.format(name)],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"COLUMNS": "120"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == bebert(name, "--help", COLUMNS="120").stdout
        assert COMMANDS[name].help in done.stdout


def sections(text: str) -> dict[str, list[str]]:
    """Heading -> the names of its options and arguments, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = []
        elif found and (name := re.match(r"  (\S+)", line)):
            list(found.values())[-1].append(name[1])
    return found


def test_options_stand_under_their_headings():
    assert sections(bebert("predict", "--help").stdout) == {
        "Arguments": ["MODEL", "[TEXTS]..."],
        "Options": ["--pair", "--early-exit", "--threads", "--json", "--help"],
        "Files": [
            "--input",
            "--output",
            "--text-column",
            "--pair-column",
            "--input-format",
            "--on-error",
            "--restart",
        ],
        "Long texts and limits": [
            "--long",
            "--truncate",
            "--overlap",
            "--pool",
            "--max-characters",
            "--max-tokens",
        ],
        "On a cluster": ["--engine", "--address", "--workers", "--part-rows"],
    }
    assert sections(bebert("train", "--help").stdout)["Options"][:3] == ["--init", "--out", "--recipe"]  # must be given
    assert sections(bebert("--help").stdout)["Commands"] == list(COMMANDS)


def test_help_shows_defaults_accepted_values_and_environment_variables():
    text = " ".join(bebert("predict", "--help").stdout.split())
    for part in (
        "--on-error [stop|skip]",
        "Default: stop, with --engine skip.",
        "[default: mean]",
        "[tsv|csv|jsonl|json|txt]",
        "[default: 1000000; x>=1]",
        "MODEL Folder of a packed model, or its name on the hub: owner/name or owner/name@revision. [required]",
    ):
        assert part in text
    assert "[default: peers]" in bebert("bench", "--help").stdout
    assert "[default: no-truncate]" in bebert("eval", "--help").stdout
    convert = " ".join(bebert("convert", "--help").stdout.split())
    assert "[env var: BEBERT_PICKLE_MEMORY; x>=1]" in convert
    assert "[env var: BEBERT_PICKLE_SECONDS; default: 120; x>=1]" in convert


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("80", 80), ("100", 100), ("120", 120), ("400", 120)])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_examples_are_not_folded(name, columns, width):
    lines = bebert(name, "--help", COLUMNS=columns, NO_COLOR="1").stdout.splitlines()
    examples = [line for line in lines if re.match(r"  (\w+=\w+ |cat .*\| )?(bebert|accelerate|torchrun) ", line)]
    assert not [line for line in lines if len(line) > width and line not in examples]
    assert max(map(len, lines)) <= 120
    with click.Context(app) as context:
        command = app.get_command(context, name)
    for paragraph in (command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            assert "".join(f"  {line}\n" for line in paragraph.splitlines()[1:]) in "\n".join([*lines, ""])


def test_bad_use_is_three_plain_lines():
    done = bebert("predict", "model", "text", "--overlap", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Usage: bebert predict [OPTIONS] MODEL [TEXTS]...\n"
        "Try 'bebert predict --help' for help.\n"
        "error: Invalid value for '--overlap': -1 is not in the range x>=0.\n"
    )
    done = bebert("predict", "model", "--long")
    assert done.stderr.splitlines()[1:] == [
        "Try 'bebert predict --help' for help.",
        "error: Option '--long' requires an argument.",
    ]
    done = bebert("fly")
    assert done.stderr.splitlines()[1] == "Try 'bebert --help' for help."
    assert f'error: No such command "fly"; accepted are {", ".join(COMMANDS)}\n' in done.stderr


def test_without_arguments_it_is_bad_use_and_the_help():
    done = bebert()
    assert (done.returncode, done.stderr) == (2, "") and done.stdout == bebert("--help").stdout


@pytest.mark.parametrize(
    "word", ["\x1b[31mred\x07", "[bold red]x[/]", "[/]", "\udcff\ud800", "two\nlines\r\x85", "\u202eabc", "%s {0} $x"]
)
@pytest.mark.parametrize("place", [(), ("predict", "--long"), ("predict", "model", "--x="), ("predict", "-")])
def test_hostile_words_in_an_error_steer_no_terminal(word, place):
    words = [*place, word] if place in ((), ("predict", "--long")) else [*place[:-1], place[-1] + word]
    if place == ("predict", "--long"):
        words += ["model", "text"]
    done = bebert(*words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr.removesuffix("\n").split("\n")
    assert len(said) == (3 if done.stderr.startswith("Usage") else 1)
    assert all(line.isprintable() for line in said)


def test_python_dash_m_is_the_command():
    command = [sys.executable, "-m", "bebert_infer", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "200"})
    assert (done.returncode, done.stdout) == (0, bebert("--help").stdout)


def test_environment_variables_are_read_and_checked_like_options(tmp_path):
    arguments = ("convert", tmp_path / "nowhere", "--out", tmp_path / "out")
    done = bebert(*arguments, BEBERT_PICKLE_SECONDS="0")
    assert done.returncode == 2 and "'--time-limit'" in done.stderr and "0 is not in the range x>=1" in done.stderr
    assert "there is no checkpoint" in bebert(*arguments, BEBERT_PICKLE_SECONDS="").stderr


def test_no_file_of_a_command_imports_rich_at_its_top():
    """It would be imported for every help; `predict_view` is imported for a table."""
    for file in (Path(__file__).parents[2] / "bebert_infer" / "cli").glob("*.py"):
        if file.name != "predict_view.py":
            assert not re.search(r"^(from|import) rich", file.read_text("utf-8"), re.MULTILINE), file.name
