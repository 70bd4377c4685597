"""A labelled file says the same as TSV, CSV, JSONL and Parquet, packed or not, and a fault is named with its place."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from bebert_export.data.examples import named_class_ids, read_examples
from bebert_infer.errors import DataError

ROWS = [('a "good" film, really', "so", "1"), ("ein Stück\u2028mehr ", "déjà", "0"), ("NA", "null", "1")]


def write(path, content):
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def content(ending):
    if ending == ".tsv":
        return "idx\tsentence1\tsentence2\tlabel\n" + "".join("7\t" + "\t".join(row) + "\n" for row in ROWS)
    if ending == ".csv":
        rows = "".join(",".join(["7", *map(quoted, row)]) + "\r\n" for row in ROWS)
        return "\ufeffidx,sentence1,sentence2,label\r\n" + rows
    keys = ("sentence1", "sentence2", "label")
    return "".join(json.dumps({"idx": 7} | dict(zip(keys, row, strict=True))) + "\n" for row in ROWS)


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".tsv.gz", ".csv.gz", ".jsonl.gz", ".parquet"])
def test_all_kinds_of_files_say_the_same(tmp_path, ending):
    file = tmp_path / f"data{ending}"
    if ending == ".parquet":
        first, second, labels = map(list, zip(*ROWS, strict=True))
        columns = {"idx": [7] * 3, "sentence1": first, "sentence2": second, "label": [int(label) for label in labels]}
        pyarrow.parquet.write_table(pa.table(columns), file)
    else:
        write(file, content(ending.removesuffix(".gz")))
    examples = read_examples(file)
    assert list(zip(examples.texts, examples.pairs, examples.labels, strict=True)) == ROWS


def test_a_packed_file_counts_by_its_content(tmp_path):
    plain, packed = write(tmp_path / "a.tsv", content(".tsv")), write(tmp_path / "b.tsv.gz", content(".tsv"))
    assert read_examples(plain).sha256 == read_examples(packed).sha256


def test_csv_texts_may_hold_line_breaks_and_lines_are_still_counted(tmp_path):
    file = write(tmp_path / "a.csv", 'text,label\n"two\nlines",1\n\nlast,0\n')
    examples = read_examples(file)
    assert examples.texts == ["two\nlines", "last"]
    assert examples.place(1) == f"line 5 of {file}"


def test_labels_of_json_may_be_numbers_and_truth_values(tmp_path):
    rows = "".join(f'{{"text": "a", "label": {label}}}\n' for label in ("1", "3.8", "true", '" yes "'))
    assert read_examples(write(tmp_path / "a.jsonl", rows)).labels == ["1", "3.8", "true", "yes"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "text\tlabel\n", r'ends in ".txt"; accepted are .tsv, .csv, .jsonl and .json'),
        ("a.parquet.gz", "", r'ends in ".parquet.gz"; accepted'),
        ("a.csv", "text,label\n", "no example"),
        ("a.csv", "text,class\na,1\n", r"has the columns text, class; one of label, labels is missing"),
        ("a.csv", 'text,label\n"a\nb",1\n" ",0\n', r'line 4 of .* empty "text"'),
        ("a.csv", 'text,label\n"a\nb",1\na,b,0\n', r"line 4 of .* has 3 fields, the header has 2"),
        ("a.csv", 'text,label\na,1\n"a"b,0\n', r"line 3 of .* is not CSV"),
        ("a.csv", 'text,label\na,1\n"a,0\nb,1\n', r"line 3 of .* is not CSV: unexpected end"),
        ("a.csv", b"text,label\na,1\n\xff,0\n", r"line 3 of .* not UTF-8"),
        ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n', r'line 3 of .* empty "label"; .* drop the line'),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n', r'line 2 of .* the "text" 5; texts must'),
        ("a.jsonl", '{"text": "a", "label": [1]}\n', r"line 1 of .* the label \[1\]; accepted"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"line 2 of .* is not JSON"),
        ("a.jsonl", "[1]\n", r"line 1 of .* is no object"),
        ("a.jsonl", "\n", "no example"),
        ("a.parquet", "text,label\n", "no readable Parquet"),
        ("missing.csv", None, "cannot read .*missing.csv.*No such file"),
    ],
)
def test_a_bad_file_is_named_with_its_place(tmp_path, name, content, said):
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=said):
        read_examples(tmp_path / name)


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    pyarrow.parquet.write_table(pa.table({"text": ["a", None], "label": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r'row 2 of .* empty "text"; fill it or drop the row'):
        read_examples(tmp_path / "a.parquet")


def test_half_a_packed_file_is_one_sentence(tmp_path):
    file = tmp_path / "a.tsv.gz"
    file.write_bytes(gzip.compress(content(".tsv").encode())[:-9])
    with pytest.raises(DataError, match="is no whole gzip file"):
        read_examples(file)


def test_a_file_may_name_known_classes_or_number_them_but_not_both(tmp_path):
    def ids(labels):
        rows = "".join(f"a\t{label}\n" for label in labels)
        return named_class_ids(read_examples(write(tmp_path / "a.tsv", "text\tlabel\n" + rows)), ["no", "yes"]).tolist()

    assert ids(["yes", "no"]) == [1, 0] and ids(["1", "0"]) == [1, 0] and ids(["yes"]) == [1]
    with pytest.raises(DataError, match=r'line 3 of .* label "1"; .* the names no, yes, or in their place 0, 1'):
        ids(["yes", "1"])
