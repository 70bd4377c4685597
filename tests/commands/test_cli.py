"""The command line does what its help says, and every mistake is one sentence with the right exit code."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from arrow import arrow
from command import bebert
from msgspec.structs import replace
from tokenizers.implementations import BertWordPieceTokenizer

from bebert_infer.artifact.config import TokenizerConfig
from bebert_infer.artifact.folder import write_artifact
from bebert_infer.measure.sample_models import random_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "##s"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model with a ten-word vocabulary and random weights."""
    root = tmp_path_factory.mktemp("cli")
    vocabulary = root / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True).to_str()
    random = random_model("tiny", "1-1-1", 3, vocab_size=len(WORDS))
    config = replace(random.config, tokenizer=TokenizerConfig(12))
    write_artifact(root / "model", config, random.tensors, tokenizer, "card")
    return root / "model"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the installed command in a process of its own, wide enough that no line is folded."""
    import os

    code = "from bebert_infer.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "200", "BEBERT_BACKEND": "reference"} | environment,
    )


def test_predict_prints_label_score_and_votes(model):
    done = run("predict", model, "a good film", "bad films")
    assert done.returncode == 0, done.stderr
    assert "a good film" in done.stdout and ("positive" in done.stdout or "negative" in done.stdout)


def test_predict_json_is_for_machines(model):
    done = bebert("predict", model, "a good film", "--json")
    (record,) = json.loads(done.stdout)
    assert record["text"] == "a good film" and len(record["votes"]) == 3
    assert sum(record["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("early_exit", ["exact", "0.6"])
def test_early_exit_says_how_many_members_ran(model, tmp_path, early_exit):
    texts = ["a good film", "bad films", "a", "good good good"]
    plain, early = (
        json.loads(bebert("predict", model, *texts, "--json", *more).stdout)
        for more in ((), ("--early-exit", early_exit))
    )
    assert all("members_run" not in record for record in plain)
    assert all(1 <= record["members_run"] == len(record["votes"]) <= 3 for record in early)
    if early_exit == "exact":
        assert [record["label"] for record in early] == [record["label"] for record in plain]
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("\n".join(texts))
    done = bebert("predict", model, "--input", source, "--output", target, "--early-exit", early_exit)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(target.open()))
    assert [int(row["members_run"]) for row in rows] == [record["members_run"] for record in early]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_files_in_and_jsonl_out_keep_the_order(model, tmp_path, suffix):
    texts = [("a good film", "bad"), ('a "good", bad\\film', "good"), ("films", "a")] * 30
    source, target = tmp_path / f"in{suffix}", tmp_path / "out.jsonl"
    if suffix == ".jsonl":
        source.write_text("\n".join(json.dumps({"text": a, "text_pair": b}) for a, b in texts))
    elif suffix == ".csv":
        quoted = [(a.replace('"', '""'), b) for a, b in texts]
        source.write_text("text,text_pair\n" + "\n".join(f'"{a}",{b}' for a, b in quoted))
    elif suffix == ".tsv":  # GLUE: a quote is part of the text
        source.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(f"{a}\t{b}\t0" for a, b in texts))
    else:
        columns = {"text": [a for a, _ in texts], "text_pair": [b for _, b in texts]}
        pa = arrow()
        pa.parquet.write_table(pa.table(columns), source)
    done = bebert("predict", model, "--input", source, "--output", target)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(r["text"], r["text_pair"]) for r in records] == texts
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([source.name, "out.jsonl"])


def test_a_failure_in_the_middle_leaves_the_old_output(model, tmp_path):
    """Row 81 is too long: the answers of an earlier run stay as they are, and those of the 80 rows before are kept."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"text": "good"}] * 80 + [{"text": "good " * 50}]
    source.write_text("\n".join(map(json.dumps, rows)))
    target.write_text("earlier answers\n")
    done = bebert("predict", model, "--input", source, "--output", target)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f'the "text" in line 81 of {source} has 52 tokens; this model accepts at most 12' in done.stderr
    assert "mend row 81, or pass --on-error skip" in done.stderr
    assert f"80 answers are kept in {target}.part" in done.stderr
    assert target.read_text() == "earlier answers\n"
    other = bebert("predict", model, "--input", source, "--output", target, "--truncate")
    assert other.returncode == 2 and "a run with another options; pass --restart to drop them" in other.stderr
    again = bebert("predict", model, "--input", source, "--output", target, "--on-error", "skip")
    assert again.returncode == 0 and "going on after 80 answers" in again.stderr
    assert "81 predictions in" in again.stdout and "(80 of an earlier run, 1 rows with errors)" in again.stdout
    assert len(list(tmp_path.iterdir())) == 2
    cut = bebert("predict", model, "--input", source, "--output", target, "--truncate")
    assert cut.returncode == 0 and "(1 texts cut at their end)" in cut.stdout


def test_long_texts_may_be_read_in_windows(model):
    done = bebert("predict", model, "good " * 50, "--long", "windows", "--overlap", "2", "--json")
    (record,) = json.loads(done.stdout)
    assert record["windows"] == 6 and sum(record["probabilities"].values()) == pytest.approx(1)
    cut = bebert("predict", model, "good " * 50, "--long", "truncate", "--json")
    assert json.loads(cut.stdout)[0]["cut"] == 40 and "warning: 1 of 1 texts lost their end" in cut.stderr


def test_a_pipe_is_answered_line_by_line(model, tmp_path):
    import os

    code = "from bebert_infer.cli.main import main; main()"
    for lines in ('good\n\nbad "film"\n', '{"text": "good"}\n{"text": "bad \\"film\\""}\n'):
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", str(model), "--input", "-", "--json"],
            input=lines,
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"BEBERT_BACKEND": "reference"},
        )
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(record["row"], record["text"]) for record in records] == [(1, "good"), (2, 'bad "film"')]


def test_names_of_files_are_no_markup_and_texts_do_not_steer_the_terminal(model, tmp_path):
    """Square brackets in a path are printed as they are; an escape sequence in a text becomes a question mark."""
    source, folder = tmp_path / "in[red].jsonl", tmp_path / "a["
    source.write_text(json.dumps({"text": "good \x1b]a\x07\x9b\n[b][/]"}) + "\n")
    folder.mkdir()
    for target in (tmp_path / "o[red].jsonl", folder / "b].jsonl", folder / "[" / "x].jsonl"):
        target.parent.mkdir(exist_ok=True)
        done = run("predict", model, "--input", source, "--output", target)
        assert done.returncode == 0 and done.stdout == f"1 predictions in {target}\n", done.stderr
    shown = run("predict", model, "--input", source).stdout
    assert "good ?]a?? [b][/]" in shown and "\x1b" not in shown and "\x9b" not in shown


def test_any_limit_of_characters_is_taken_and_a_closed_standard_input_is_one_sentence(model, tmp_path):
    """The limit is turned into one of bytes, which must not leave what C counts with."""
    source = tmp_path / "in.csv"
    source.write_text("text\ngood film\n")
    done = run("predict", model, "--input", source, "--json", "--max-characters", 10**18)
    assert json.loads(done.stdout)["text"] == "good film", done.stderr
    command = f"{sys.executable} -c 'from bebert_infer.cli.main import main; main()' predict {model} --input - <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "standard input is closed; open it, or pass a file" in done.stderr


def test_control_c_keeps_the_answers_so_far(model, tmp_path):
    """Exit code 130, no half output, and the next run gives what a run without a break gives."""
    import os
    import signal
    import time

    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"good film {number}\n" for number in range(1200)))
    code = "from bebert_infer.cli.main import main; main()"
    arguments = [sys.executable, "-c", code, "predict", str(model), "--input", str(source), "--output", str(target)]
    environment = os.environ | {"BEBERT_BACKEND": "reference", "COLUMNS": "200"}

    def heed() -> None:  # a shell has its jobs in the background ignore the signal, and they hand that on
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    child = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed)
    part, deadline = tmp_path / "out.jsonl.part", time.monotonic() + 120
    sizes: set[int] = {0}  # grown twice: the first answers are counted as well as written
    while len(sizes) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
        sizes |= {part.stat().st_size} if part.exists() else set()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said, said
    assert "answers are kept in" in said and "interrupted; what was not finished" in said and not target.exists()
    kept = part.read_bytes().count(b"\n")
    assert 0 < kept < 1200
    with source.open("a"):  # neither size nor time changes
        pass
    assert bebert("predict", model, "--input", source, "--output", target).returncode == 0
    rows = [json.loads(line)["row"] for line in target.read_text().splitlines()]
    assert rows == list(range(1, 1201)) and not part.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "MODEL"], 2, "pass either texts or --input FILE"),
        (["predict", "MODEL", ""], 2, "text 0 is empty"),
        (["predict", "MODEL", "good " * 20], 2, "text 0 has 22 tokens; this model accepts at most 12"),
        (["predict", "nowhere", "good"], 2, 'there is no model folder "nowhere"'),
        (["predict", "MODEL", "good", "--threads", "0"], 2, 'threads is "0"'),
        (["predict", "MODEL", "--input", "nowhere.csv"], 2, 'there is no input file "nowhere.csv"'),
        (["predict", "MODEL", "good", "--output", "out.xlsx"], 2, 'ends in ".xlsx"; accepted are .jsonl, .csv, .tsv'),
        (["predict", "MODEL", "good", "--output", "nowhere/out.csv"], 2, 'there is no folder "nowhere" for the output'),
        (["predict", "MODEL", "--input", "x.xlsx"], 2, 'there is no input file "x.xlsx"'),
        (["predict", "MODEL", "good", "--max-characters", "3"], 2, "text 0 has 4 characters; at most 3 are accepted"),
        (
            ["predict", "MODEL", "good a bad", "--max-tokens", "4"],
            2,
            "text 0 has 5 tokens; this model accepts at most 4",
        ),
        (["predict", "MODEL", "good", "--overlap", "3"], 2, 'accepted are 0 and more with long="windows"'),
        (["predict", "MODEL", "good", "--long", "windows", "--overlap", "6"], 2, "overlap is 6; windows hold 10"),
        (["predict", "MODEL", "good", "--long", "cut"], 2, "'cut' is not one of 'error', 'truncate', 'windows'"),
        (["predict", "MODEL", "good", "bad", "--pair", "a"], 2, "--pair belongs to exactly one text"),
        (["predict", "MODEL", "good", "--pair", ""], 2, "the second text of text 0 is empty"),
        (["predict", "MODEL", "good", "--text-column", "x"], 2, "of the command line has no use for --text-column"),
        (["predict", "MODEL", "good", "--on-error", "skip"], 2, "a run without --output has no use for --on-error"),
        (["predict", "MODEL", "--input", "-", "--restart"], 2, "a run without --output has no use for --restart"),
        (["predict", "MODEL", "good", "--pool", "max"], 2, "a run without --long windows has no use for --pool"),
        (["predict", "MODEL", "good", "--output", "x.csv", "--json"], 2, "takes all answers, has no use for --json"),
        (["predict", "MODEL", "good", "--early-exit", "often"], 2, "early_exit is 'often'; accepted are \"exact\", or"),
        (["predict", "MODEL", "good", "--early-exit", "1.5"], 2, 'early_exit is 1.5; accepted are "exact", or a'),
        (["predict", "MODEL", "--input", "/proc"], 2, '"/proc" is no file; pass one (.gz is read as it is)'),
        (["predict"], 2, "Missing argument"),
        (["fly"], 2, "No such command"),
        (["convert", "nowhere", "--out", "x"], 2, 'there is no checkpoint "nowhere"'),
        (["convert", "nowhere", "--out", "x", "--alphas", "a,b"], 2, '--alphas is "a,b"'),
    ],
)
def test_bad_use_is_one_sentence_and_exit_code_2(model, arguments, code, message):
    pytest.importorskip("torch")
    done = bebert(*[str(model) if a == "MODEL" else a for a in arguments])
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_model_is_a_failure_with_exit_code_1(model, tmp_path):
    import shutil

    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"short")
    done = bebert("predict", broken, "good")
    assert done.returncode == 1 and "incomplete copy" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_extra_names_the_pip_command(tmp_path):
    """Without torch, `bebert convert` says what to install; here torch is made impossible to import."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = run("convert", "x", "--out", "y", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert 'pip install "bebert-infer[export]"' in done.stderr and "Traceback" not in done.stderr


def test_inspect_itemises_every_byte(model):
    facts = json.loads(bebert("inspect", model, "--json").stdout)
    header = (model / "model.safetensors").read_bytes()[:8]
    tensors = (model / "model.safetensors").stat().st_size - 8 - int.from_bytes(header, "little")
    assert sum(facts["bytes"].values()) == tensors
    assert bebert("inspect", model).returncode == 0


def test_inspect_cuts_nothing_where_there_is_no_terminal_or_a_narrow_one(model):
    """A pipe got 80 columns, with half a number and half a family in them."""
    for environment in ({"COLUMNS": ""}, {"COLUMNS": "80", "FORCE_COLOR": "1"}):
        done = run("inspect", model, **environment)
        assert done.returncode == 0 and "…" not in done.stdout
        assert environment["COLUMNS"] or ("393,216 × 1 bit" in done.stdout and "bibert" in done.stdout)


@pytest.mark.parametrize("arguments", [["inspect", "MODEL"], ["predict", "MODEL", "good", "--json"]])
def test_an_output_that_is_full_is_one_sentence(model, arguments):
    import os

    code = "from bebert_infer.cli.main import main; main()"
    given = [str(model) if argument == "MODEL" else argument for argument in arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *given],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            env=os.environ | {"BEBERT_BACKEND": "reference"},
        )
    said = "error: cannot read or write: No space left on device; check rights and room, and run it again\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_an_output_of_another_encoding_gets_tables_and_json_that_mean_the_same(model):
    done = run("inspect", model, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "393,216 \\u00d7 1 bit" in done.stdout
    done = run("predict", model, "good ✓ 😀", "--json", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0 and done.stdout.isascii() and json.loads(done.stdout)[0]["text"] == "good ✓ 😀"


def test_a_path_is_printed_as_it_is_whatever_it_holds(model, monkeypatch, capsys):
    """Brackets are no markup: a conversion ended in a traceback after its model was written."""
    from types import SimpleNamespace

    from rich.console import Console

    pytest.importorskip("torch")
    from bebert_export.pack.parity import Parity
    from bebert_infer.artifact.folder import read_config
    from bebert_infer.cli import convert as cli

    config = read_config(model)
    parity = Parity(codes=1, tokens=1)
    members = [SimpleNamespace(ignored=[]) for _ in config.members]
    converted = SimpleNamespace(written=SimpleNamespace(config=config, parity=parity, zeros=0), checkpoints=members)
    monkeypatch.setattr(cli, "stdout_console", lambda: Console(width=40))
    long = "cv[/x]/" + "very/" * 20 + "\udcff"
    cli._print_conversion(converted, Path(long), 1.0)
    assert f"bytes in {long[:-1]}\\udcff, combined by" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "inspect", "demo", "convert", "train", "augment"])
def test_every_command_explains_itself(command):
    done = bebert(command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_standard_output_may_be_closed(model, tmp_path):
    """Daemons and some runners start commands so: the work was done, and then there was a traceback."""
    (tmp_path / "in.jsonl").write_text('{"text": "dull"}\n')
    command = f'exec "$@" --input {tmp_path / "in.jsonl"} --output {tmp_path / "out.jsonl"} >&-'
    program = [sys.executable, "-c", "from bebert_infer.cli.main import main; main()", "predict", str(model)]
    environment = os.environ | {"BEBERT_QUIET": "1"}  # compiling may be said
    done = subprocess.run(
        ["sh", "-c", command, "sh", *program], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr == "1 row: 1 answer, 0 errors\n"
        and json.loads((tmp_path / "out.jsonl").read_text())["text"] == "dull"
    )


@pytest.mark.parametrize("setting", ["error", "ignore", "default"])
def test_a_promised_warning_is_said_whatever_python_is_told(model, setting):
    """With -W error it was a traceback, with -W ignore nothing."""
    done = run("predict", model, "good " * 60, "--long", "truncate", "--json", PYTHONWARNINGS=setting)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 1 texts lost their end" in done.stderr and json.loads(done.stdout)[0]["cut"]
