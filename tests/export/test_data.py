"""Reading labelled files, batching, vocabulary trimming, and what a bad file is answered with."""

# ruff: noqa: E402 - the imports below need the extra

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from arrow import arrow

pytest.importorskip("torch", reason="training needs the extra [export]")

from tokenizers import Tokenizer
from toy import LETTERS, NEUTRAL, SPECIAL, tokenizer_json, write_data, write_encoder

from bebert_export.data import batches as data
from bebert_export.data import examples as files
from bebert_export.data import metrics
from bebert_export.data.vocabulary import trim_vocabulary
from bebert_infer.errors import DataError

VOCABULARY = SPECIAL + LETTERS + NEUTRAL + ["good", "rare"]


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_quotes_spaces_and_extra_columns_are_kept_as_written(tmp_path):
    text = 'idx\tsentence1\tlabel\n0\t"so" good \t1\n1\tit \'s " bad\t0\n'
    examples = files.read_examples(write(tmp_path / "a.tsv", text))
    assert examples.texts == ['"so" good ', "it 's \" bad"]
    assert examples.labels == ["1", "0"] and examples.pairs is None and len(examples) == 2


def test_windows_line_ends_byte_order_mark_and_unicode_separators(tmp_path):
    raw = "\ufefftext\ttext_pair\tlabel\r\na\u2028b\tc\tyes\r\nd\te\tno\r\n".encode()
    examples = files.read_examples(write(tmp_path / "a.tsv", raw))
    assert examples.texts == ["a\u2028b", "d"] and examples.pairs == ["c", "e"]
    assert examples.labels == ["yes", "no"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sentence1\tlabel\n", "no example"),
        ("", "no example"),
        ("words\tlabel\ngood\t1\n", "sentence1, sentence, text"),
        ("text\tclass\ngood\t1\n", "label"),
        ("text\tlabel\ngood\t1\n  \t0\n", 'line 3 .* empty "text"'),
        ("text\tlabel\ngood\t\n", 'line 2 .* empty "label"'),
        ("text\tlabel\ngood\t1\nbad\n", "line 3 .* 1 fields, the header has 2"),
        (b"text\tlabel\ngood\t1\n\xff\t0\n", "line 3 .* not UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        files.read_examples(write(tmp_path / "a.tsv", content))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*missing\.tsv.*No such file"):
        files.read_examples(tmp_path / "missing.tsv")


def test_numeric_labels_are_ordered_as_numbers_and_words_by_alphabet(tmp_path):
    numbers = files.read_examples(write(tmp_path / "n.tsv", "text\tlabel\na\t10\nb\t9\nc\t-1\n"))
    assert files.label_names(numbers) == ["-1", "9", "10"]
    assert files.class_ids(numbers, files.label_names(numbers)).tolist() == [2, 1, 0]
    words = files.read_examples(write(tmp_path / "w.tsv", "text\tlabel\na\tpos\nb\tneg\nc\tmixed\n"))
    assert files.label_names(words) == ["mixed", "neg", "pos"]


def test_whole_numbers_are_the_same_class_with_and_without_a_point(tmp_path):
    file = write(
        tmp_path / "n.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": 1}\n{"text": "c", "label": 0}\n'
    )
    assert files.read_examples(file).labels == ["1", "1", "0"]


def test_half_a_character_is_refused_with_its_line(tmp_path):
    file = write(tmp_path / "n.jsonl", '{"text": "a \\ud800", "label": 1}\n')
    with pytest.raises(DataError, match=r'line 1 of .* has in "text" half a character, U\+D800, at place 2'):
        files.read_examples(file)


def test_unfit_labels_are_refused(tmp_path):
    train = files.read_examples(write(tmp_path / "t.tsv", "text\tlabel\na\tyes\nb\tno\n"))
    dev = files.read_examples(write(tmp_path / "d.tsv", "text\tlabel\na\tyes\nb\tmaybe\n"))
    with pytest.raises(DataError, match='line 3 .* label "maybe"; .* knows no, yes'):
        files.class_ids(dev, files.label_names(train))
    with pytest.raises(DataError, match="at least two"):
        files.label_names(files.read_examples(write(tmp_path / "o.tsv", "text\tlabel\na\t1\nb\t1\n")))
    with pytest.raises(DataError, match='labels such as "1.5"; .* use regression'):
        files.label_names(files.read_examples(write(tmp_path / "f.tsv", "text\tlabel\nb\t1\na\t1.5\n")))
    with pytest.raises(DataError, match='line 2 .* label "yes"; regression'):
        files.scores(train)
    with pytest.raises(DataError, match='line 2 .* label "nan"'):
        files.scores(files.read_examples(write(tmp_path / "x.tsv", "text\tlabel\na\tnan\n")))


def test_tokenizer_json_and_vocab_txt_agree(tmp_path):
    folder = write_encoder(tmp_path / "encoder")
    examples = files.read_examples(write_data(tmp_path / "a.tsv", 20, 0))
    from_json = data.encode(data.load_tokenizer(folder), examples, 12)
    (folder / "tokenizer.json").unlink()
    from_text = data.encode(data.load_tokenizer(folder), examples, 12)
    assert all(a.tolist() == b.tolist() for a, b in zip(from_json.ids, from_text.ids, strict=True))
    (folder / "vocab.txt").unlink()
    with pytest.raises(DataError, match="neither tokenizer.json nor vocab.txt"):
        data.load_tokenizer(folder)


def test_pairs_are_cut_at_the_longer_side_and_carry_segments(tmp_path):
    tokenizer = Tokenizer.from_str(tokenizer_json(VOCABULARY))
    text = "text\ttext_pair\tlabel\nthe film is good\tthe plot\t1\n"
    encoded = data.encode(tokenizer, files.read_examples(write(tmp_path / "a.tsv", text)), 7)
    tokens = [tokenizer.id_to_token(i) for i in encoded.ids[0]]
    assert tokens == ["[CLS]", "the", "film", "[SEP]", "the", "plot", "[SEP]"]
    assert encoded.types[0].tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 31, 32, 1000])
def test_an_epoch_holds_every_example_once_and_batches_have_similar_lengths(count):
    lengths = np.random.default_rng(0).integers(3, 60, count)
    for batches in (
        data.shuffled_batches(lengths, 32, np.random.default_rng(1)),
        list(data.sorted_batches(lengths, 32)),
    ):
        assert sorted(np.concatenate(batches).tolist()) == list(range(count))
        padded = sum(lengths[batch].max() * len(batch) for batch in batches)
        assert count < 1000 or padded <= 1.1 * lengths.sum()


def test_batches_depend_on_the_seed_only():
    lengths = np.random.default_rng(0).integers(3, 60, 500)

    def order(seed):
        return np.concatenate(data.shuffled_batches(lengths, 16, np.random.default_rng(seed))).tolist()

    assert order(1) == order(1) != order(2)


def test_collate_pads_with_masked_zeros():
    encoded = data.EncodedExamples(
        ids=[np.array([5, 6]), np.array([7, 8, 9])], types=[np.zeros(2, int), np.ones(3, int)]
    )
    batch = data.collate(encoded, np.array([1, 0]))
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 6, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_trimming_keeps_specials_letters_and_frequent_words_in_their_old_order(tmp_path):
    tokenizer = Tokenizer.from_str(tokenizer_json(VOCABULARY))
    rows = "the good film\t1\n" * 3 + "the rare plot\t0\nthe good scene\t1\n"
    train = files.read_examples(write(tmp_path / "a.tsv", "text\tlabel\n" + rows))
    required = len(SPECIAL) - 1 + len(LETTERS)
    trimmed = trim_vocabulary(tokenizer, train, required + 3)
    old = tokenizer.get_vocab()
    new = trimmed.tokenizer.get_vocab()
    assert set(new) == set(SPECIAL) - {"[unused0]"} | set(LETTERS) | {"the", "good", "film"}
    assert all(trimmed.kept[new[piece]] == old[piece] for piece in new)
    assert np.all(np.diff(trimmed.kept) > 0) and trimmed.coverage == pytest.approx(12 / 15)
    encoding = trimmed.tokenizer.encode("The rare film")
    assert encoding.tokens == ["[CLS]", "the", "r", "##a", "##r", "##e", "film", "[SEP]"]


def test_trimming_never_keeps_pieces_that_do_not_occur_and_refuses_too_few(tmp_path):
    tokenizer = Tokenizer.from_str(tokenizer_json(VOCABULARY))
    train = files.read_examples(write(tmp_path / "a.tsv", "text\tlabel\nthe film\t1\n"))
    assert "rare" not in trim_vocabulary(tokenizer, train, 10_000).tokenizer.get_vocab()
    with pytest.raises(DataError, match="vocabulary_size is 10; .* alone are"):
        trim_vocabulary(tokenizer, train, 10)


def test_metrics_are_those_of_the_whole_split():
    truth = np.array([0, 0, 1, 1, 1, 0])
    outputs = np.eye(2)[[0, 1, 1, 1, 0, 0]]
    found = metrics.evaluate(truth, outputs)
    assert found["accuracy"] == pytest.approx(4 / 6) and found["f1"] == pytest.approx(2 / 3)
    assert found["matthews"] == pytest.approx(1 / 3)
    values = np.array([1.0, 2.0, 3.0])
    assert metrics.evaluate(values, 2 * values[:, None])["pearson"] == pytest.approx(1)
    assert metrics.evaluate(values, np.ones((3, 1)))["spearman"] == 0


NO_VALUE = ["-nan", "NAN", "inf", "-Infinity", "<NA>", "NA", "N/A", "#N/A", "null", "NULL", "None", "NaT"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["0", "1", "nan"], 'line 4 of .* has the label "nan"; write its class, or drop the line'),
        (["pos", "neg", "NaN"], 'line 4 of .* has the label "NaN"'),
        (["0", "1", "inf"], 'line 4 of .* has the label "inf"'),
        (["0", "1", "0.0"], 'has the label "0.0", others have "0": write equal numbers alike'),
        (["1", "01", "2"], 'has the label "1", others have "01": write equal numbers alike'),
        (["0", "1", "1e0"], 'has the label "1e0", others have "1": write equal numbers alike'),
        (["0", "1", "+1"], 'has the label "1", others have "\\+1": write equal numbers alike'),
        (["other", "1", "1.0"], 'has the label "1.0", others have "1": write equal numbers alike'),
        (["True", "true", "false"], 'has the label "true", others have "True": write equal labels alike'),
        (["0", "1", "true"], 'has the label "true", others have "1": write equal labels alike'),
        (["Positive", "positive", "x"], 'has the label "positive", others have "Positive": write equal labels'),
        (["caf\u00e9", "cafe\u0301", "x"], "write equal labels alike"),
        *((["0", "1", word], f'line 4 of .* has the label "{word}"; write its class') for word in NO_VALUE),
        *((["pos", "neg", word], f'line 4 of .* has the label "{word}"; write its class') for word in NO_VALUE),
    ],
)
def test_missing_labels_and_equal_numbers_are_no_classes_of_their_own(tmp_path, labels, said):
    lines = "".join(f"text {i},{label}\n" for i, label in enumerate(labels))
    with pytest.raises(DataError, match=said):
        files.label_names(files.read_examples(write(tmp_path / "a.csv", "text,label\n" + lines)))


def test_a_label_that_is_no_number_in_json_is_refused(tmp_path):
    with pytest.raises(DataError, match="line 1 of .* has the label nan; write its class or score, or drop the line"):
        files.read_examples(write(tmp_path / "a.jsonl", '{"text": "a", "label": NaN}\n{"text": "b", "label": 1}\n'))


def test_labels_that_only_look_alike_are_classes():
    """Blanks around a label are none of it; "none" and "NONE" are classes of stance and emotion data."""
    labels = ["9007199254740993", "9007199254740992", "1"]
    names = files.label_names(_examples(labels))
    assert names == ["1", "9007199254740992", "9007199254740993"]
    assert files.label_names(_examples(["NONE", "FAVOR", "AGAINST"])) == ["AGAINST", "FAVOR", "NONE"]
    assert files.label_names(_examples(["false", "true"])) == ["false", "true"]


def _examples(labels):
    texts, numbers = ["a"] * len(labels), list(range(len(labels)))
    return files.Examples(texts, None, labels, Path("x"), "", "line", numbers, numbers)


def label_files(value, text):
    """Files of every kind whose second row has the label `value`, written as `text` where cells have no types."""
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": value}, {"text": "c", "label": 0}]
    for ending, mark in ((".csv", ","), (".tsv", "\t")):
        lines = [f"a{mark}1", f"b{mark}{text}", f"c{mark}0", ""]
        yield ending, "\n".join([f"text{mark}label", *lines])
    yield ".jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    yield ".json", json.dumps(rows)
    column = [str(row["label"]) for row in rows] if isinstance(value, str) else [row["label"] for row in rows]
    pa = arrow()
    kind = pa.string() if isinstance(value, str) else pa.float64()
    yield ".parquet", pa.table({"text": ["a", "b", "c"], "label": pa.array(column, kind)})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (float("nan"), "nan"), ("", ""), (" ", " "), ("NaN", "NaN"), ("null", "null"), (float("inf"), "inf")],
)
def test_a_missing_label_is_an_error_in_every_kind_of_file(tmp_path, value, text):
    for ending, content in label_files(value, text):
        for packed in ("", ".gz") if ending != ".parquet" else ("",):
            path = tmp_path / f"a{ending}{packed}"
            if ending == ".parquet":
                arrow().parquet.write_table(content, path)
            else:
                raw = content.encode()
                path.write_bytes(gzip.compress(raw) if packed else raw)
            place = "row 2 of" if ending == ".parquet" else "2 of" if ending == ".json" else "line [23] of"
            with pytest.raises(DataError, match=f"{place}.* has (an empty|the) .?label"):
                files.label_names(files.read_examples(path))


@pytest.mark.parametrize(("value", "text"), [(" 1 ", " 1 "), (1.0, "1"), ("1", "1")])
def test_a_label_of_one_value_is_one_class_in_every_kind_of_file(tmp_path, value, text):
    for ending, content in label_files(value, text):
        path = tmp_path / f"a{ending}"
        if ending == ".parquet":
            arrow().parquet.write_table(content, path)
        else:
            path.write_text(content)
        assert files.label_names(files.read_examples(path)) == ["0", "1"]
