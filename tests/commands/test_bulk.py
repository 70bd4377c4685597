"""Files are classified row by row in constant memory, in order; a killed run goes on; no row is lost or doubled."""

import csv
import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from arrow import arrow

from bebert_infer.bulk import classify as bulk
from bebert_infer.bulk.classify import BulkOptions, answer_rows, classify_file, input_facts
from bebert_infer.bulk.readers import open_rows, open_stream
from bebert_infer.bulk.resume_file import ResumeFile
from bebert_infer.bulk.writers import check_output, table_maker
from bebert_infer.errors import DataError, InputError, MissingExtraError, RowError
from bebert_infer.prediction import Prediction
from bebert_infer.text.windows import EncodedText


class Stub:
    """Stands for an ensemble: the answer is the length of the text, and "bad" is refused."""

    def __init__(self, pause=0.0):
        self.pause = pause

    def encode_text(self, text, long, name):
        """Two windows for long texts."""
        joined = text if isinstance(text, str) else "|".join(text)
        if not joined.strip() or joined == "bad":
            raise InputError(f"{name} is {joined!r}")
        return EncodedText((([len(joined)], [0]),) * (1 + (len(joined) > 500)), cut=int(joined.startswith("cut")))

    def predict_encoded(self, encoded, pool, early_exit=None):
        """Scores with many digits."""
        time.sleep(self.pause)
        return [
            Prediction(
                "long",
                (length := one.windows[0][0][0]) / 7,
                {"short": 1 / length, "long": length / 7},
                np.zeros(2),
                ["long", "short"],
                len(one.windows),
                one.cut,
                members_run=2 if early_exit is None else 1,
            )
            for one in encoded
        ]


SKIP = BulkOptions(on_error="skip")


def answers(path, options=SKIP):
    file = open_rows(path, options.texts + options.pairs, plain=True)
    try:
        return [record for batch in answer_rows(Stub(), file, options) for record in batch]
    finally:
        file.close()


def classify(path, output, options=SKIP, restart=False, pause=0.0):
    file = open_rows(path, options.texts + options.pairs, plain=True)
    part = ResumeFile(output, input_facts(path, "model", options), restart)
    try:
        return classify_file(
            Stub(pause), file, part, options, table_maker(output, ["short", "long"], "single_label_classification")
        )
    except BaseException:
        part.leave()
        raise
    finally:
        file.close()


def write(path, content):
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


TEXTS = [f"text {number} " + "é," * (number % 7) for number in range(300)]


def example(folder, kind):
    path = folder / f"in{kind}"
    if kind == ".parquet":
        pa = arrow()
        pa.parquet.write_table(pa.table({"id": range(300), "text": TEXTS}), path, row_group_size=70)
        return path
    plain = kind.removesuffix(".gz")
    if plain == ".jsonl":
        return write(path, "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS))
    if plain == ".txt":
        return write(path, "\n".join(TEXTS))
    if plain == ".tsv":
        return write(path, "id\ttext\n" + "".join(f"1\t{text}\n" for text in TEXTS))
    return write(path, "\ufeffid,text\r\n" + "".join(f'1,"{text}"\r\n' for text in TEXTS))


KINDS = [".jsonl", ".csv", ".tsv", ".txt", ".jsonl.gz", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_order_and_numbers(tmp_path, kind):
    records = answers(example(tmp_path, kind), BulkOptions())
    assert [record["row"] for record in records] == list(range(1, 301))
    assert [record["text"] for record in records] == TEXTS
    assert [record["score"] for record in records] == [len(text) / 7 for text in TEXTS]


def test_columns_are_found_or_named(tmp_path):
    file = write(tmp_path / "a.csv", "title,text,text_pair,body\nt,a,b,c\n")
    assert answers(file)[0]["text_pair"] == "b"
    (named,) = answers(file, BulkOptions(text_column="body"))
    assert named["text"] == "c" and "text_pair" not in named
    (both,) = answers(file, BulkOptions(text_column="body", pair_column="title"))
    assert (both["text"], both["text_pair"]) == ("c", "t")
    with pytest.raises(InputError, match="has the columns title, text, text_pair, body; review is missing: name the"):
        answers(file, BulkOptions(text_column="review"))
    with pytest.raises(InputError, match="has the columns a, b; sentence1 or sentence or text or text1 is missing"):
        answers(write(tmp_path / "b.csv", "a,b\n1,2\n"))
    with pytest.raises(InputError, match="has the columns no columns"):
        answers(write(tmp_path / "c.csv", ""))


def test_columns_are_chosen_once_for_a_file_never_for_a_row(tmp_path):
    """A row whose text stands elsewhere would be answered for something else, in silence."""
    lines = '{"text": "a", "text_pair": "b"}\n{"sentence": "c"}\n{"label": 1}\n{"text": "d"}\n'
    first, second, third, fourth = answers(write(tmp_path / "d.jsonl", lines))
    assert first["text_pair"] == "b"
    assert "line 2 of" in second["error"] and 'has its text in "sentence", the rows before in "text"' in second["error"]
    assert "line 3 of" in third["error"] and "no text in label; expected in sentence1 or" in third["error"]
    assert 'has its text in "text", the rows before in "text" and "text_pair"' in fourth["error"]


def missing_cells(column):
    """Files of every kind, of a row with the text "a" and one whose `column` (text or text_pair) has no value."""

    def rows(value):
        return [{"text": "a", "text_pair": "b"}, {"text": "c", "text_pair": "d"} | {column: value}]

    for ending, mark in ((".csv", ","), (".tsv", "\t")):
        for empty in ("", '""') if ending == ".csv" else ("",):
            lines = [mark.join(row.values()) for row in rows(empty)]
            yield ending, "\n".join([f"text{mark}text_pair", *lines, ""])
    for value in (None, float("nan"), ""):
        yield ".jsonl", "".join(json.dumps(row) + "\n" for row in rows(value))
        yield ".json", json.dumps(rows(value))
    pa = arrow()
    yield ".parquet", pa.table({name: [row[name] for row in rows(None)] for name in ("text", "text_pair")})
    yield ".parquet", pa.table({name: [row[name] for row in rows("")] for name in ("text", "text_pair")})
    floats = {name: ["a", "b"] if name != column else pa.array([float("nan")] * 2) for name in ("text", "text_pair")}
    yield ".parquet", pa.table(floats)


@pytest.mark.parametrize("column", ["text", "text_pair"])
def test_a_missing_text_means_the_same_in_every_kind_of_file(tmp_path, column):
    for number, (ending, content) in enumerate(missing_cells(column)):
        for packed in ("", ".gz") if ending != ".parquet" else ("",):
            path = tmp_path / f"{number}{ending}{packed}"
            if ending == ".parquet":
                arrow().parquet.write_table(content, path)
            else:
                write(path, content)
            missing = answers(path)[1]
            assert f'the "{column}" in' in missing["error"] and "is missing; write a text" in missing["error"], path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.txt", ["a gripping film", "dull"]),
        ("a.csv", ["text,n", "a gripping film,1", "dull,2"]),
        ("a.tsv", ["text\tn", "a gripping film\t1", "dull\t2"]),
        ("a.jsonl", ['{"text": "a gripping film"}', '{"text": "dull"}']),
    ],
)
@pytest.mark.parametrize("last", [0, 1, 2])
def test_lines_end_as_files_of_any_system_end_them(tmp_path, name, lines, end, last):
    """With or without an end of the last line, and with a blank one behind it: no row more, no row less."""
    path = write(tmp_path / name, end.join(lines) + last * end)
    with closing(open_rows(path, ("text",), plain=True)) as file:
        assert [row.cells.get("text") for row in file.rows if not row.fault] == ["a gripping film", "dull"]


def test_a_carriage_return_inside_a_text_is_part_of_it(tmp_path):
    path = write(tmp_path / "a.csv", 'text,n\n"a\rb",1\n')
    with closing(open_rows(path, ("text",))) as file:
        assert [row.cells["text"] for row in file.rows] == ["a\rb"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match='has 2 columns "text"; give each a name of its own'):
        open_rows(write(tmp_path / "a.csv", "text,text\na,b\n"), ("text",))


def test_two_columns_of_one_name_are_refused_in_parquet(tmp_path):
    """In a column that is used; pyarrow's first one was read in silence."""
    pa = arrow()
    names, columns = ["text", "text", "n", "n"], [pa.array(["a"]), pa.array(["b"]), pa.array([1]), pa.array([2])]
    pa.parquet.write_table(pa.table(columns, names=names), tmp_path / "a.parquet")
    with pytest.raises(DataError, match='a.parquet has 2 columns "text"; give each a name of its own'):
        open_rows(tmp_path / "a.parquet", ("text",))
    with closing(open_rows(tmp_path / "a.parquet", ("id",))) as file:
        assert len(list(file.rows)) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_an_object_has_twice_is_a_fault_of_its_row(tmp_path, name):
    """Python takes the last one; other readers the first. Keys that are not used, and inner objects, do not matter."""
    rows = ['{"text": "a", "text": "b"}', '{"te\u0078t": "a", "n": 1, "n": 2, "text": "b"}']
    rows += ['{"text": "c", "n": 1, "n": 2}', '{"meta": {"text": 1, "text": 2}, "text": "d"}']
    content = "\n".join(rows) if name == "a.jsonl" else "[" + ",".join(rows) + "]"
    first, second, third, fourth = answers(write(tmp_path / name, content))
    for record in (first, second):
        assert 'has 2 keys "text"; give each a name of its own' in record["error"]
    assert third["text"] == "c" and fourth["text"] == "d"


FIELDS = "has 3 fields, the header has 2"
BAD = [
    ("a.csv", "text,n\ngood,1\nx,y,z\nfine,2\n", {2: f"line 3 of .*a.csv {FIELDS}"}, 3),
    ("a.csv", 'text,n\n"a\nb",1\nbad,2\nc,3\n', {2: "the \"text\" in line 4 of .*a.csv is 'bad'"}, 3),
    ("a.csv", 'text,n\n"broken"x,1\nfine,2\n', {1: "line 2 of .* is not CSV: ',' expected"}, 2),
    # An open quote spoils its own line, not the lines that it swallows.
    ("a.csv", 'text,n\n"open,1\nb,2\n"c\nd",3\n', {1: "line 2 of .* is not CSV"}, 3),
    ("a.csv", 'text,n\nb,2\n"open,1\nc,2\nd,3\n', {2: "line 3 of .* is not CSV: unexpected end of data"}, 4),
    ("a.csv", b"text,n\n\xff,1\nb,2\n", {1: "line 2 of .* is not UTF-8"}, 2),
    ("a.csv", b'text,n\n"a\n\xff",1\nb,2\n', {1: "line 2 of .* has a line 3 that is not UTF-8"}, 2),
    ("a.tsv", "text\tn\na\tb\tc\n\nd\t1\n", {1: FIELDS, 2: "has 1 fields"}, 3),
    ("a.tsv", b"text\tn\n\xff\t1\nd\t1\n", {1: "line 2 of .* is not UTF-8"}, 2),
    ("a.jsonl", '{"text": "a"}\n\n{"text"\n[1]\n{"text": "b"}\n', {2: "line 3 .* is not JSON", 3: "is no object"}, 4),
    (
        "a.jsonl",
        '{"text": 5}\n{"text": null}\n{"text": "b"}\n',
        {1: 'the "text" in line 1 .* is 5; texts', 2: "is missing; write a text"},
        3,
    ),
    ("a.jsonl", b'{"text": "\xff"}\n{"text": "b"}\n', {1: "line 1 of .* is not UTF-8"}, 2),
    ("a.jsonl", "[" * 100_000 + '\n{"text": "b"}\n', {1: "is not JSON"}, 2),
    ("a.jsonl", "9" * 5000 + '\n{"text": "b"}\n', {1: "is not JSON"}, 2),
    ("a.jsonl", '{"\\ud800": 1}\n{"text": "b"}\n', {1: r"no text in \\ud800"}, 2),
    ("a.txt", b"a\n\xff\nb\n", {2: "line 2 of .* is not UTF-8"}, 3),
]


@pytest.mark.parametrize(("name", "content", "faults", "count"), BAD)
def test_a_bad_row_is_named_and_skipped_or_stops_the_run(tmp_path, name, content, faults, count):
    path, output = write(tmp_path / name, content), tmp_path / "out.jsonl"
    records = answers(path)
    assert [record["row"] for record in records] == list(range(1, count + 1))
    assert {record["row"] for record in records if "error" in record} == set(faults)
    for record in records:
        if record["row"] in faults:
            import re

            assert set(record) == {"row", "error"} and re.search(faults[record["row"]], record["error"])
    first = min(faults)
    with pytest.raises(RowError, match=f"mend row {first}, or pass --on-error skip") as error:
        classify(path, output, BulkOptions())
    assert error.value.exit_code == 1 and not output.exists()
    kept = [record for record in records if record["row"] < first]
    part = output.with_name("out.jsonl.part")
    assert part.exists() == bool(kept)  # what came before is kept, and nothing else
    counts = classify(path, output)  # and a run that skips goes on with it
    assert (counts.rows, counts.earlier, counts.bad) == (count, len(kept), len(faults))
    assert [json.loads(line) for line in output.read_text().split("\n")[:-1]] == records
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, "out.jsonl"])


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    """Before the first row is classified, not when the last answer is to be written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = r'a.parquet" is Parquet, which needs the package "pyarrow": pip install "bebert-infer\[parquet\]", or'
    with pytest.raises(MissingExtraError, match=said):
        open_rows(tmp_path / "a.parquet", ("text",))
    with pytest.raises(MissingExtraError, match=said):
        check_output(tmp_path / "a.parquet")
    for kind in (".csv", ".tsv", ".jsonl.gz", ".txt"):
        assert len(answers(example(tmp_path, kind))) == len(TEXTS)


def test_bad_cells_of_parquet_spoil_their_row_only(tmp_path):
    pa = arrow()
    raw = pa.array([b"a", b"\xff", None, b"d"], pa.binary()).cast(pa.large_binary()).view(pa.large_string())
    pa.parquet.write_table(pa.table({"text": raw}), tmp_path / "a.parquet")
    records = answers(tmp_path / "a.parquet")
    assert [record.get("text") for record in records] == ["a", None, None, "d"]
    assert "row 2 of" in records[1]["error"] and 'a "text" that is not UTF-8' in records[1]["error"]
    assert "row 3 of" in records[2]["error"]
    pa.parquet.write_table(pa.table({"text": [1, 2]}), tmp_path / "b.parquet")
    assert 'the "text" in row 1 of' in answers(tmp_path / "b.parquet")[0]["error"]


def test_a_row_of_any_size_costs_no_more_than_the_limit(tmp_path):
    """Lines of 10 MB, whole or as one quoted record, are faults of their row; the rows behind them are answered."""
    import tracemalloc

    long = "x " * 5_000_000
    files = [
        write(tmp_path / "a.tsv", f"text\n{long}\nb\n"),
        write(tmp_path / "a.csv", f'text\n"{long}"\nb\n'),
        write(tmp_path / "b.csv.gz", 'text\n"' + "x\n" * 200_000 + '"\nb\n'),
        write(tmp_path / "a.jsonl", '{"text": "' + long + '"}\n{"text": "b"}\n'),
    ]
    del long
    for file in (files[0], files[1], files[3]):
        tracemalloc.start()
        rows = open_rows(file, ("text",), max_bytes=2**20)
        first, second = (row for row in rows.rows)
        rows.close()
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        tracemalloc.stop()
        assert "more than 1,048,576 bytes" in first.fault and second.cells == {"text": "b"}
    rows = open_rows(files[2], ("text",), max_bytes=2**18)
    faults = [row for row in rows.rows if row.fault]
    rows.close()
    assert faults[0].number == 2 and "more than 262,144 bytes" in faults[0].fault


def test_half_a_packed_file_ends_the_run_and_keeps_what_was_answered(tmp_path):
    lines = "".join(json.dumps({"text": os.urandom(300).hex()}) + "\n" for _ in range(1000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-20])
    with pytest.raises(DataError, match="is no whole gzip file: .*; pack it again"):
        classify(path, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.part").read_text().count("\n") > 900 and not (tmp_path / "out.jsonl").exists()


def test_a_damaged_parquet_page_is_one_sentence(tmp_path):
    path = example(tmp_path, ".parquet")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="is no readable Parquet file"):
        classify(path, tmp_path / "out.jsonl")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_outputs_of_all_kinds_say_the_same(tmp_path, ending):
    """Commas, quotes and line breaks survive (in TSV as blanks); errors, windows and cuts have columns."""
    texts = ['a, "b"', "two\nlines", "bad", "cut\tit", "x" * 600]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    classify(path, tmp_path / "out.jsonl")
    counts = classify(path, tmp_path / f"out{ending}")
    assert (counts.bad, counts.cut) == (1, 1)
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    if ending == ".parquet":
        found = arrow().parquet.read_table(tmp_path / "out.parquet").to_pylist()
        assert found[0]["votes"] == ["long", "short"] and found[2]["score"] is None
    else:
        rows = open_rows(
            tmp_path / f"out{ending}",
            ("row", "text", "score", "probability_short", "probability_long", "votes", "windows", "cut", "error"),
        )
        found = [{name: cell or None for name, cell in row.cells.items()} for row in rows.rows]
        rows.close()
        assert found[0]["votes"] == '["long", "short"]'
    for row, record in zip(found, expected, strict=True):
        text = record.get("text")
        assert row["text"] == (text if ending != ".tsv" or text is None else text.replace("\n", " ").replace("\t", " "))
        assert row["error"] == record.get("error")
        for name in ("row", "score", "windows", "cut"):
            assert (None if row[name] is None else float(row[name])) == record.get(name)
        if "label" in record:
            assert float(row["probability_short"]) == record["probabilities"]["short"]
    assert len(list(tmp_path.iterdir())) == 3


BREAKING = ["good\rbad film", "a\r\nb", "\rgood", "a\nb", 'say "hi"', "a,b", "a\tb", " a ", "a\x85b\u2028c"]


def test_any_text_comes_back_from_csv(tmp_path):
    """Python 3.11 writes a lone carriage return without quotes, and readers took one row for two."""
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in BREAKING))
    classify(path, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == BREAKING
    assert [record["text"] for record in answers(tmp_path / "out.csv")] == BREAKING
    assert (tmp_path / "out.csv").read_bytes().startswith(b"row,text,label,score,probability_short,")


@pytest.mark.parametrize("pair", [{}, {"text_pair": "so it is"}])
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_answers_are_an_input_for_another_run(tmp_path, ending, pair):
    """Of single texts the column of second texts was there and empty, and every row was refused for it."""
    lines = [json.dumps({"text": text} | pair) + "\n" for text in ("a good film", 'not "text_pair": , "text_pair": ')]
    classify(write(tmp_path / "in.jsonl", "".join(lines)), tmp_path / f"one{ending}")
    assert classify(tmp_path / f"one{ending}", tmp_path / "two.jsonl").bad == 0
    classify(tmp_path / "in.jsonl", tmp_path / "direct.jsonl")
    assert (tmp_path / "two.jsonl").read_text() == (tmp_path / "direct.jsonl").read_text()


def test_tsv_has_one_line_a_row_and_all_columns_whatever_texts_and_labels_hold(tmp_path):
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in BREAKING))
    classify(path, tmp_path / "out.jsonl")
    table_maker(tmp_path / "out.tsv", ["so\tso", "long"], "single_label_classification")(
        tmp_path / "out.jsonl", tmp_path / "out.tsv"
    )
    lines = (tmp_path / "out.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    assert "\r" not in "".join(lines) and {line.count("\t") for line in lines} == {9}
    assert len(lines) == 1 + len(BREAKING) and "\tprobability_so so\t" in lines[0]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_errors_of_a_file_with_a_name_that_is_no_utf8_can_be_written(tmp_path, ending):
    path = write(tmp_path / os.fsdecode(b"in\xff.jsonl"), '{"text": "good"}\n{"text": ""}\n')
    output = tmp_path / f"out{ending}"
    assert classify(path, output).bad == 1
    if ending == ".parquet":
        error = arrow().parquet.read_table(output)["error"][1].as_py()
    else:
        lines = output.read_text("utf-8").splitlines()
        error = json.loads(lines[1])["error"] if ending == ".jsonl" else lines[2]
    assert "in\\udcff.jsonl" in error and error.encode()


# For a process that imports this file.
OWN_PATH = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]


def child(path, output, pause):
    code = f"import sys; sys.path[:0] = {OWN_PATH}\n" + (
        "from pathlib import Path; import test_bulk\n"
        "bulk = test_bulk.bulk; bulk.BATCH_ROWS = 4\n"
        f"test_bulk.classify(Path({str(path)!r}), Path({str(output)!r}), pause={pause})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


@pytest.mark.parametrize(("kind", "ending"), [(".csv.gz", ".jsonl"), (".parquet", ".csv"), (".jsonl", ".jsonl")])
def test_killed_runs_go_on_without_losing_or_doubling_a_row(tmp_path, kind, ending):
    """SIGKILL at random moments, the last line torn too: the output is that of a run without a break, byte for byte."""
    path, output = example(tmp_path, kind), tmp_path / f"out{ending}"
    classify(path, tmp_path / f"whole{ending}")
    part, chance = output.with_name(output.name + ".part"), random.Random(kind + ending)
    rows = []
    for _ in range(3):
        run = child(path, output, 0.02)
        before = part.stat().st_size if part.exists() else 0
        while run.poll() is None and (part.stat().st_size if part.exists() else 0) <= before:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stderr.close()
        if output.exists():  # a slow moment: it was done already
            break
        rows.append(part.read_bytes().count(b"\n"))
        if chance.random() < 0.7:
            with part.open("ab") as stream:
                stream.write(b'{"row": %d, "text": "torn' % (rows[-1] + 1))
        elif rows[-1]:
            with part.open("rb+") as stream:
                stream.truncate(part.stat().st_size - 1)
    counts = None if output.exists() else classify(path, output)
    assert rows == sorted(rows) and rows[0] > 0
    assert counts is None or (counts.rows == 300 and counts.earlier > 0)
    assert output.read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, output.name, f"whole{ending}"])


def stopped(tmp_path, content="text\na\nbad\nb\n"):
    """A run that ended at row 2, with one answer in its part."""
    path, output = write(tmp_path / "a.csv", content), tmp_path / "out.jsonl"
    with pytest.raises(RowError):
        classify(path, output, BulkOptions())
    return path, output


def test_answers_of_another_run_are_never_continued(tmp_path):
    path, output = stopped(tmp_path)
    options = BulkOptions(text_column="text", on_error="skip")
    with pytest.raises(InputError, match='out.jsonl.part" holds answers of a run with another options; pass --restart'):
        classify(path, output, options)
    write(path, "text\nA\nbad\nb\n")
    with pytest.raises(InputError, match="a run with another input; pass --restart to drop them, or another --output"):
        classify(path, output)
    with pytest.raises(InputError, match="a run that cannot be continued"):
        ResumeFile(output, None)
    (tmp_path / "out.jsonl.part.json").unlink()
    with pytest.raises(InputError, match="a run that cannot be continued"):
        classify(path, output)
    assert (tmp_path / "out.jsonl.part").read_text().count("\n") == 1
    assert classify(path, output, restart=True).earlier == 0
    assert '"text": "A"' in output.read_text()


def test_a_run_that_skipped_rows_is_not_continued_by_one_that_stops(tmp_path, monkeypatch):
    path, output = write(tmp_path / "a.csv", "text\na\nbad\nb\nc\n"), tmp_path / "out.jsonl"
    monkeypatch.setattr(bulk, "BATCH_ROWS", 2)

    def interrupted(counts):
        raise KeyboardInterrupt

    part = ResumeFile(output, input_facts(path, "model", SKIP))
    with pytest.raises(KeyboardInterrupt):
        classify_file(Stub(), open_rows(path, ("text",)), part, SKIP, report=interrupted)
    assert part.leave() and part.rows == 2
    with pytest.raises(InputError, match="holds 1 rows with errors; pass --on-error skip, or --restart"):
        classify(path, output, BulkOptions())
    assert classify(path, output).bad == 1


def test_two_runs_never_write_one_output(tmp_path):
    path, output = write(tmp_path / "a.csv", "text\na\n"), tmp_path / "out.jsonl"
    first = ResumeFile(output, {})
    with pytest.raises(InputError, match='another run is writing ".*out.jsonl.part"; wait for it'):
        classify(path, output)
    assert not first.leave()
    assert classify(path, output).rows == 1


def test_a_full_disk_is_one_sentence(tmp_path):
    part = ResumeFile(tmp_path / "out.jsonl", {})
    part._stream.close()
    part._stream = Path("/dev/full").open("wb")
    with pytest.raises(DataError, match=r"cannot write .*out.jsonl.part: No space left on device; make room and run"):
        part.append([{"row": 1, "text": "a"}])
    part.rows = 1
    assert part.leave()  # tries to write the rest again, and must not fail by it: the sentence would be lost
    with pytest.raises(InputError, match='cannot write ".*No such file or directory; choose another --output'):
        ResumeFile(tmp_path / "nowhere" / "out.jsonl", {})


@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left on device"), OSError("no room, says pyarrow")])
def test_a_disk_that_is_full_at_the_end_keeps_the_answers_and_leaves_no_half_table(tmp_path, reason):
    def full(part, target):
        target.write_text("half a tab")
        raise reason

    part = ResumeFile(tmp_path / "out.csv", {})
    part.append([{"row": 1, "text": "a"}])
    with pytest.raises(DataError, match=r"cannot write .*out.csv: [Nn]o (space|room).*; make room and run it again"):
        part.finish(full)
    assert part.leave()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.csv.part", "out.csv.part.json"]


def test_a_disk_that_is_full_at_the_start_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*out.csv.part.json: No space left on device; make room"):
        ResumeFile(tmp_path / "out.csv", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [".csv", ".jsonl.gz", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    """The peak of a process is the same for 2 and 40 MB of texts (in Parquet one row group, of many pages)."""
    peaks = []
    for megabytes in (2, 40):
        rows = megabytes * 111
        path, output = tmp_path / f"in{megabytes}{kind}", tmp_path / f"out{megabytes}.jsonl"
        line = "".join(random.Random(1).choice("abcdefgh ") for _ in range(9000))
        if kind == ".parquet":
            pa = arrow()
            column = pa.array([f"{number} {line}" for number in range(rows)])
            options = {"row_group_size": rows, "use_dictionary": False, "write_batch_size": 64}  # pages of 0.6 MB
            pa.parquet.write_table(pa.table({"text": column}), path, **options)
            del column
        elif kind == ".csv":
            path.write_text("text\n" + "".join(f"{number} {line}\n" for number in range(rows)))
        else:
            lines = "".join(f'{{"text": "{number} {line}"}}\n' for number in range(rows)).encode()
            path.write_bytes(gzip.compress(lines, 1))
        code = f"import sys; sys.path[:0] = {OWN_PATH}\n" + (
            "from pathlib import Path; import test_bulk\n"
            f"test_bulk.classify(Path({str(path)!r}), Path({str(output)!r}))\n"
            # Not ru_maxrss, which includes what the process had before exec: the memory of this one.
            "status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())\n"
            "print(status['VmHWM'].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        peaks.append(int(done.stdout) / 1024)
        assert output.stat().st_size > megabytes * 10**6
    assert peaks[1] - peaks[0] < 12, peaks  # MiB; the difference of the files is 38 MB


def test_a_pipe_is_json_or_plain_lines():
    import io

    def read(raw):
        return [(row.number, row.cells, row.fault) for row in open_stream(io.BytesIO(raw), "pipe").rows]

    assert read(b'\n{"text": "a"}\n{"text": "b"}') == [(2, {"text": "a"}, None), (3, {"text": "b"}, None)]
    assert read(b"good\n\n{not json\n") == [(1, {"text": "good"}, None), (3, {"text": "{not json"}, None)]
    assert read(b'"quoted", he said\n5') == [(1, {"text": '"quoted", he said'}, None), (2, {"text": "5"}, None)]
    assert read(b'"a"\n"b"\n') == [(1, {"text": "a"}, None), (2, {"text": "b"}, None)]
    assert read(b'[\n {"text": "a"},\n "b"\n]\n') == [(1, {"text": "a"}, None), (2, {"text": "b"}, None)]
    assert read(b"[laughs] good\nb") == [(1, {"text": "[laughs] good"}, None), (2, {"text": "b"}, None)]
    assert read(b"") == [] and read(b"\n\n") == []
    assert read(b"\xff\na")[0][2].startswith("is not UTF-8")


def test_a_bad_first_line_does_not_make_a_pipe_of_json_a_pipe_of_plain_text():
    """Half an object, a byte that is not UTF-8, and a line over the limit are faults of their line only."""
    import io

    for first in (b'{"text": "a"', b' {"text": "\xff"}', b'{"text": "' + b"a" * 300 + b'"}'):
        stream = io.BytesIO(first + b'\n{"text": "b"}\n')
        bad, good = open_stream(stream, "pipe", max_bytes=200).rows
        assert bad.number == 1 and bad.fault and not bad.cells
        assert (good.number, good.cells, good.fault) == (2, {"text": "b"}, None)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_members_run_are_written_with_early_exit_only(tmp_path, ending):
    path = write(tmp_path / "in.jsonl", '{"text": "a \\", \\"members_run\\": 7"}\n{"text": "b"}\n')
    for early_exit, wanted in ((None, [None, None]), ("exact", [1, 1])):
        output = tmp_path / f"{early_exit}{ending}"
        classify(path, output, BulkOptions(early_exit=early_exit))
        if ending == ".parquet":
            rows = arrow().parquet.read_table(output).to_pylist()
        elif ending == ".jsonl":
            rows = [json.loads(line) for line in output.read_text().splitlines()]
        else:
            rows = list(csv.DictReader(output.open(), delimiter="," if ending == ".csv" else "\t"))
        assert [row.get("members_run") and int(row["members_run"]) for row in rows] == wanted
        assert ("members_run" in rows[0]) == (early_exit is not None)
