"""The last line of `predict --input` says the counts in every ending; closed, full and broken streams lose no work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import bebert
from micro import write_micro

GOOD = [{"text": "the good film"}] * 70
MAIN = "from bebert_infer.cli.main import main; main()"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few kilobytes."""
    return write_micro(tmp_path_factory.mktemp("model") / "model")


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def last(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_counts_are_the_last_line_of_a_whole_run_of_one_that_skips_and_of_none(model, tmp_path):
    file = write(tmp_path / "in.jsonl", [*GOOD, {"text": ""}, {"text": "dull"}, {"text": None}])
    output = ("--output", tmp_path / "out.jsonl")
    for rest in (output, ("--json",), ()):
        done = bebert("predict", model, "--input", file, "--on-error", "skip", *rest)
        assert (done.returncode, last(done)) == (0, "73 rows: 71 answers, 2 errors")
    empty = write(tmp_path / "empty.jsonl", [])
    for rest in (output, ("--json",), ()):
        done = bebert("predict", model, "--input", empty, *rest)
        assert (done.returncode, done.stderr) == (0, "0 rows: 0 answers, 0 errors\n")
    assert (tmp_path / "out.jsonl").read_text() == ""
    one = write(tmp_path / "one.jsonl", GOOD[:1])
    assert last(bebert("predict", model, "--input", one, "--json")) == "1 row: 1 answer, 0 errors"


def test_counts_are_the_last_line_of_a_run_that_stops_and_of_one_that_goes_on(model, tmp_path):
    file = write(tmp_path / "in.jsonl", [*GOOD, {"text": ""}, {"text": "dull"}])
    for rest in (("--output", tmp_path / "out.csv"), ("--json",)):
        done = bebert("predict", model, "--input", file, *rest)
        assert (done.returncode, last(done)) == (1, "71 rows: 70 answers, 1 error")
        assert "error: the" in done.stderr.splitlines()[-2]
    assert len(done.stdout.splitlines()) == 70
    done = bebert("predict", model, "--input", file, "--output", tmp_path / "out.csv", "--on-error", "skip")
    assert (done.returncode, last(done)) == (0, "72 rows: 71 answers, 1 error (70 of an earlier run)")


def test_rows_before_the_place_where_a_file_is_broken_are_answered_and_counted(model, tmp_path):
    import gzip

    raw = gzip.compress(
        "".join(json.dumps({"text": f"film {os.urandom(300).hex()}"[:40]}) + "\n" for _ in range(99)).encode()
    )
    file = tmp_path / "in.jsonl.gz"
    file.write_bytes(raw[:-30])
    done = bebert("predict", model, "--input", file, "--json")
    count = len(done.stdout.splitlines())
    assert done.returncode == 2 and 0 < count < 99
    assert last(done) == f"{count} rows: {count} answers, 0 errors" and "is no whole gzip file" in done.stderr


def test_thousands_are_set_apart():
    from bebert_infer.bulk.classify import Counts

    assert str(Counts(rows=1204, bad=4)) == "1,204 rows: 1,200 answers, 4 errors"


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_output_through_a_link_is_written_where_it_points_and_the_link_stays(model, tmp_path, ending):
    """A dangling one too, and when a run goes on; the link was replaced by a file, and its target left as it was."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = write(tmp_path / "in.jsonl", [*GOOD, {"text": ""}])
    target, link, second = folder / f"real{ending}", tmp_path / f"link{ending}", tmp_path / f"second{ending}"
    link.symlink_to(target)
    second.symlink_to(link)
    done = bebert("predict", model, "--input", file, "--output", second)
    assert done.returncode == 1 and f"70 answers are kept in {target}.part" in done.stderr
    assert link.is_symlink() and not target.exists()
    for _ in range(2):  # the second time over an output that is there
        done = bebert("predict", model, "--input", file, "--output", second, "--on-error", "skip")
        assert done.returncode == 0, done.stderr
        assert link.is_symlink() and second.is_symlink() and not target.is_symlink()
        assert len(target.read_text().splitlines()) == 71 + (ending == ".csv")
    assert sorted(path.name for path in folder.iterdir()) == [target.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["elsewhere", "in.jsonl", link.name, second.name])


def test_an_output_that_is_no_file_is_refused_before_the_work(model, tmp_path):
    file = write(tmp_path / "in.jsonl", GOOD)
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "lost.csv").symlink_to(tmp_path / "nowhere" / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (
        ("loop", "is a link that leads back to itself"),
        ("lost", f'there is no folder "{tmp_path / "nowhere"}"'),
        ("pipe", "is a pipe or a device"),
    ):
        done = bebert("predict", model, "--input", file, "--output", tmp_path / f"{name}.csv")
        assert done.returncode == 2 and said in done.stderr
    assert (tmp_path / "loop.csv").is_symlink() and (tmp_path / "lost.csv").is_symlink()


def shell(line: str, *, flags: tuple[str, ...] = (), **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which $BEBERT is the command and $MODEL the model."""
    words = [sys.executable, *flags, "-c", MAIN]
    return subprocess.run(
        ["bash", "-c", 'bebert() { "$@"; }\n' + line.replace("$BEBERT", ' "$@"'), "bash", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ
        | {"BEBERT_BACKEND": "reference", "BEBERT_QUIET": "1", "COLUMNS": "200"}
        | {name: str(value) for name, value in variables.items()},
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-", "<&- 2>/dev/full"])
def test_streams_that_are_closed_or_cannot_hold_messages_lose_no_answer(model, tmp_path, closed):
    file, output = write(tmp_path / "in.jsonl", [*GOOD, {"text": ""}]), tmp_path / "out.jsonl"
    done = shell(
        f"$BEBERT predict $MODEL --input $FILE --output $OUTPUT {closed}", MODEL=model, FILE=file, OUTPUT=output
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr and not output.exists()
    if "2>" not in closed:
        assert last(done) == "71 rows: 70 answers, 1 error"
    skip = f"$BEBERT predict $MODEL --input $FILE --output $OUTPUT --on-error skip {closed}"
    done = shell(skip, MODEL=model, FILE=file, OUTPUT=output)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    records = [json.loads(line) for line in output.read_text().splitlines()]  # nothing else was written into it
    assert [record["row"] for record in records] == list(range(1, 72)) and "error" in records[-1]
    if ">&-" not in closed.replace("2>&-", ""):
        assert "71 predictions in" in done.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$BEBERT predict $MODEL good 2>&-", 0),
        ("$BEBERT predict $MODEL good >&- 2>&- <&-", 0),
        ("$BEBERT predict $MODEL good >/dev/full", 1),
        ("$BEBERT predict $MODEL good >/dev/full 2>/dev/full", 1),
        ("$BEBERT predict $MODEL --input $FILE --json >/dev/full", 1),
        ("$BEBERT predict $MODEL --input - --json <&-", 2),
        ("$BEBERT predict $MODEL --input - --json </dev/null", 0),
        ("$BEBERT predict nowhere good 2>/dev/full", 2),
        ("$BEBERT predict $MODEL --nothing 2>&-", 2),
        ("$BEBERT inspect $MODEL >&- 2>&-", 0),
        ("$BEBERT inspect $MODEL --json >/dev/full", 1),
        ("$BEBERT predict --help >/dev/full", 1),
        ("$BEBERT inspect $MODEL | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", None),
        ("$BEBERT predict $MODEL --input $FILE --json | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}", None),
        ("$BEBERT predict $MODEL --input $FILE 2>&1 | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", None),
    ],
)
def test_no_stream_ends_a_command_in_a_traceback(model, tmp_path, line, code):
    file = write(tmp_path / "in.jsonl", GOOD * 10)
    done = shell(line, MODEL=model, FILE=file)
    assert done.returncode in ((0, 1) if code is None else (code,)), done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    if line.endswith("--json >/dev/full"):
        assert done.stderr.startswith("error: cannot read or write: No space left on device; check rights and room")


@pytest.mark.parametrize("stream", [">/dev/full", "| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", ">&- 2>&- <&-"])
def test_figures_of_an_evaluation_are_written_though_nobody_reads_the_tables(model, tmp_path, stream):
    pytest.importorskip("torch", reason="evaluating needs the extra [export]")
    rows = "".join(f"a good film {i},positive\na bad film {i},negative\n" for i in range(4))
    (tmp_path / "d.csv").write_text("text,label\n" + rows)
    line = f"$BEBERT eval $MODEL $DATA --resamples 100 --json $OUT {stream}"
    done = shell(line, MODEL=model, DATA=tmp_path / "d.csv", OUT=tmp_path / "o.json")
    assert "Traceback" not in done.stderr and done.returncode in (0, 1)
    assert json.loads((tmp_path / "o.json").read_text())["data"]["rows"] == 8


def test_the_report_of_a_benchmark_is_written_though_nobody_reads_the_tables(model, tmp_path, monkeypatch):
    from bebert_infer.cli import bench as cli

    kept = []
    monkeypatch.setattr(cli, "_measure", lambda *_: {"notes": []})
    monkeypatch.setattr(cli, "_keep", lambda run, *_: kept.append(run))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bebert_infer.bench.tables.print_run", full)
    done = bebert("bench", model, "--no-peers", "--output", tmp_path / "report")
    assert done.returncode == 1 and "No space left on device" in done.stderr and kept


@pytest.mark.parametrize("flags", [("-O",), ("-OO",), ("-I",), ("-W", "error"), ("-W", "ignore"), ("-X", "dev")])
def test_answers_and_help_are_the_same_whatever_python_is_told(model, tmp_path, flags):
    """-OO drops docstrings, of which help was made; -I ignores the environment, so the test says where modules are."""
    places = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; {MAIN}"

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"BEBERT_BACKEND": "reference", "COLUMNS": "120"}
        return subprocess.run(
            [sys.executable, *flags, "-c", places, *map(str, words)], capture_output=True, text=True, env=environment
        )

    done = call("predict", model, "good " * 600, "--truncate", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == bebert("predict", model, "good " * 600, "--truncate", "--json").stdout
    assert "warning: 1 of 1 texts lost their end" in done.stderr
    if flags == ("-OO",):
        assert call("--help").stdout.count("Classify texts.") == 1
        assert 'predict model/ "a gripping, funny film"' in call("predict", "--help").stdout


@pytest.mark.parametrize("text", ["-5 degrees", "--film", "-", "--", "-h"])
def test_a_text_that_begins_with_a_dash_is_answered_behind_two_and_hinted_at_before(model, text):
    done = bebert("predict", model, "--json", "--", text)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["text"] == text
    done = bebert("predict", model, "--json", "--pair", text, "--", "a film")
    assert json.loads(done.stdout)[0]["text_pair"] == text
    if text.strip("-"):
        done = bebert("predict", model, text)
        assert done.returncode == 2 and "No such option" in done.stderr
        assert 'a text that begins with "-" goes behind --, as in: bebert predict MODEL -- "-5 degrees"' in done.stderr
