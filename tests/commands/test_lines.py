"""Rows of a pipe are those of a file, however its bytes come, and each is answered before the next one is written."""

import io
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from micro import write_micro

from bebert_infer.bulk.classify import BulkOptions, answer_rows
from bebert_infer.bulk.lines import Lines
from bebert_infer.bulk.readers import open_stream
from bebert_infer.errors import DataError
from bebert_infer.prediction import Prediction
from bebert_infer.text.windows import EncodedText


class Stub:
    """Stands for an ensemble that says the same of every text."""

    def encode_text(self, text, long, name):
        """Two ids."""
        return EncodedText((([1, 2], [0, 0]),))

    def predict_encoded(self, encoded, pool, early_exit=None):
        """One answer a text."""
        return [Prediction("a", 1.0, {"a": 1.0}, np.zeros(1), ["a"], 1, 0) for _ in encoded]


class Blocks(io.RawIOBase):
    """A stream that gives its bytes in the blocks in which they were written."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = [block for block in blocks if block]

    def read1(self, most: int) -> bytes:
        """The next block."""
        return self.blocks.pop(0) if self.blocks else b""


def read(blocks: list[bytes], every_end: bool, pipe: bool, most: int = 100) -> list[tuple[int, bytes | None]]:
    lines = Lines(Blocks(blocks), Path("x"), most, pipe=pipe)
    lines.every_end = every_end
    return [(number, None if line is None else line.strip(b"\r\n")) for number, line in lines]


@pytest.mark.parametrize("every_end", [False, True])
def test_lines_do_not_depend_on_how_bytes_are_cut_into_blocks(every_end):
    chance = random.Random(1)
    for _ in range(3000):
        content = b"".join(chance.choices([b"a", b"bc", b"\r", b"\n", b"\r\n", b"\r\r\n", b"\xef\xbb\xbf"], k=8))
        expected = read([content], every_end, False)
        cuts = sorted(chance.choices(range(len(content) + 1), k=3))
        blocks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        for pipe in (False, True):
            assert read(blocks, every_end, pipe) == expected, (blocks, pipe)
            assert read([bytes([one]) for one in content], every_end, pipe) == expected


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\rc\n", [b"a", b"b\rc"]),  # a CR within a line of a file of LF is part of it
        (b"a\rb\nc\r", [b"a", b"b", b"c"]),
        (b"a\r\r\nb\r\r\n", [b"a", b"b"]),
        (b"a\r\rb\r", [b"a", b"", b"b"]),
        (b"\xef\xbb\xbfa\rb", [b"a", b"b"]),
        (b"a" * 70_000 + b"\rb\r", [b"a" * 70_000, b"b"]),  # the first end lies behind the first block
        (b"", []),
    ],
)
def test_the_end_of_the_first_line_decides(content, lines):
    blocks = [content[start : start + 2**16] for start in range(0, len(content), 2**16)]
    assert [line for _, line in read(blocks, False, False, 2**20)] == lines


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_that_is_too_long_is_passed_over_whatever_ends_it(end):
    content = b"a" * 500 + end + b"b" + end + b"c" * 101 + end + b"d" * 300_000 + end + b"e"
    for size in (1, 7, 101, 1000):
        if size == 1:
            content = content.replace(b"d" * 300_000, b"d" * 3000)
        blocks = [content[start : start + size] for start in range(0, len(content), size)]
        for pipe in (False, True):
            assert read(list(blocks), False, pipe) == [(1, None), (2, b"b"), (3, None), (4, None), (5, b"e")]


FIRST = {"txt": "", "jsonl": "", "csv": "id,text", "tsv": "id\ttext"}
LINE = {"txt": "{}", "jsonl": '{{"text": "{}"}}', "csv": '1,"{}"', "tsv": "1\t{}"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("kind", FIRST)
def test_a_slow_pipe_gets_each_answer_before_the_next_line_is_written(kind, end):
    """Also with blank lines between; who waits longer than ten seconds gets the end of the pipe, and the test fails."""
    out, into = os.pipe()
    watchdog = threading.Timer(10, os.close, (into,))
    watchdog.start()

    def write(text: str) -> None:
        os.write(into, text.encode())

    try:
        if FIRST[kind]:
            write(FIRST[kind] + end)
        else:
            write(LINE[kind].format("first") + end)
        with os.fdopen(out, "rb") as stream:
            file = open_stream(stream, "pipe", wanted=("text",), kind=kind if FIRST[kind] else None)
            batches = answer_rows(Stub(), file, BulkOptions(text_column="text"))
            if not FIRST[kind]:
                assert [record["text"] for record in next(batches)] == ["first"]
            for text in ("one", "two", "three"):
                write(LINE[kind].format(text) + end + end * (text == "two" and kind != "tsv"))
                assert [record["text"] for record in next(batches)] == [text]
            write(LINE[kind].format("last"))
            watchdog.cancel()
            os.close(into)
            assert [record["text"] for batch in batches for record in batch] == ["last"]
    finally:
        watchdog.cancel()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_command_answers_a_slow_pipe_line_by_line(tmp_path, end):
    """Also a pipe that does not block, as some programs leave it: nothing yet is not its end."""
    out, into = os.pipe()
    os.set_blocking(out, False)
    code = "from bebert_infer.cli.main import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "predict", str(write_micro(tmp_path / "model")), "--input", "-", "--json"],
        stdin=out,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BEBERT_BACKEND": "reference"},
    )
    os.close(out)
    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    assert child.stdout is not None
    for text in ("good film", "bad film", "dull"):
        os.write(into, (text + end).encode())
        assert json.loads(child.stdout.readline())["text"] == text
    os.close(into)
    _, said = child.communicate()
    watchdog.cancel()
    assert (child.returncode, said) == (0, "3 rows: 3 answers, 0 errors\n")


def test_a_fast_pipe_is_answered_in_batches():
    file = open_stream(io.BytesIO(b"text\n" * 200), "pipe")
    assert [len(batch) for batch in answer_rows(Stub(), file, BulkOptions())] == [64, 64, 64, 8]


def test_an_open_quote_of_a_pipe_of_csv_does_not_hold_back_the_rows_before():
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stream:
        os.write(into, b'text,n\na,1\n"open\nand ')
        batches = answer_rows(Stub(), open_stream(stream, "pipe", wanted=("text",), kind="csv"), BulkOptions())
        assert [record["text"] for record in next(batches)] == ["a"]
        os.write(into, b'closed",2\n')
        os.close(into)
        assert [record["text"] for batch in batches for record in batch] == ["open\nand closed"]


def rows(content: bytes, kind: str | None = None) -> list[dict]:
    return [row.cells for row in open_stream(io.BytesIO(content), "pipe", 100, wanted=("text",), kind=kind).rows]


def test_no_element_of_an_array_vanishes_however_long_its_line_is():
    """A line over the limit was left out of the array, and where it held whole elements nothing else told of it."""
    content = b'[\n"a",\n"' + b"x" * 300 + b'",\n"b"\n]'
    assert [row["text"] for row in rows(content)] == ["a", "x" * 300, "b"]
    assert [row["text"] for row in rows(content.replace(b"\n", b""))] == ["a", "x" * 300, "b"]


def test_a_pipe_that_begins_with_null_is_asked_for_its_format():
    """`jq .text` writes null for a missing text: taken for plain text, all the others kept their quotes."""
    with pytest.raises(DataError, match='begins with the line "null", .*; pass --input-format jsonl, or txt if every'):
        rows(b'null\n"a good film"\n')
    first, second = open_stream(io.BytesIO(b'null\n"a"\n'), "pipe", kind="jsonl").rows
    assert "is no object" in (first.fault or "") and second.cells == {"text": "a"}
    assert [row["text"] for row in rows(b"null\nvoid", "txt")] == ["null", "void"]


@pytest.mark.parametrize("header", ["text", "id;text", '"text","id"', "id\ttext", "review,label", "idx|review", "id,x"])
def test_a_pipe_that_begins_like_a_table_is_asked_for_its_format(header):
    with pytest.raises(DataError, match="looks like the header of a table; pass --input-format csv or tsv, or txt if"):
        rows(f"{header}\n1\n".encode())


@pytest.mark.parametrize("line", ["a good film, says the label", "good, bad", "my text; your text", "label"])
def test_a_text_with_commas_is_no_header(line):
    assert [row["text"] for row in rows(f"{line}\nb\n".encode())] == [line, "b"]
