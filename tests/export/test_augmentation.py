"""Augmented data: TinyBERT's procedure to the letter, the same file whatever is killed, one sentence for bad input."""

# ruff: noqa: E402 - the imports below need the extra

import json
import shutil
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="augmentation needs the extra [export]")
pytest.importorskip("transformers", reason="augmentation needs the extra [export]")

from click.testing import CliRunner
from rich.console import Console
from toy import LETTERS, NEGATIVE, NEUTRAL, POSITIVE, SPECIAL, tokenizer_json, write_data, write_encoder
from transformers import BertConfig, BertForMaskedLM

from bebert_export import augment as run
from bebert_export.augment import AugmentOptions, augment_file
from bebert_export.augmentation.masked_lm import MaskedLanguageModel
from bebert_export.augmentation.replacement import STOP_WORDS, Sampling, Words, augment, augment_example, may_change
from bebert_export.augmentation.word_vectors import read_word_vectors
from bebert_export.data.examples import read_examples
from bebert_export.pipeline.data import read_data
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.settings import data_settings
from bebert_infer.cli.main import app
from bebert_infer.errors import DataError, InputError

QUIET = Console(quiet=True)
VOCABULARY = SPECIAL + LETTERS + NEUTRAL + POSITIVE + NEGATIVE
VECTORS = [
    "gripping 1 0 0",
    "thrilling 3 0.3 0",
    "tense 2 1 0",
    "dull -1 0 0",
    "film 0 0 1",
    "gripping 0 1 0",
    "nil 0 0 0",
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Folder with a random masked language model, word vectors, train.tsv and a file of pairs."""
    folder = tmp_path_factory.mktemp("toy")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertForMaskedLM(config).save_pretrained(folder / "lm")
    (folder / "lm" / "tokenizer.json").write_text(tokenizer_json(VOCABULARY), encoding="utf-8")
    (folder / "glove.txt").write_text("\n".join(VECTORS) + "\n", encoding="utf-8")
    write_data(folder / "train.tsv", 30, 1)
    pairs = [
        "id\tsentence1\tsentence2\tlabel",
        "0\tA gripping film\tthe plot is good\tyes",
        "1\tbad, bad music\twas 7\tno",
    ]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return folder


def options(toy, out, **changes):
    files = {"data": toy / "train.tsv", "masked_lm": str(toy / "lm"), "out": out, "word_vectors": toy / "glove.txt"}
    return AugmentOptions(**(files | {"threads": 1, "copies": 5} | changes))


# --- the procedure ------------------------------------------------------------------------------------------------


def test_only_alphabetic_words_that_are_no_stop_words_may_change():
    assert all(may_change(word) for word in ("film", "Film", "FILM"))
    assert not any(may_change(word) for word in ("the", "The", "7", "film7", "café", "don't", "-", ""))
    assert "film" not in STOP_WORDS


def test_the_text_comes_first_and_no_version_twice():
    found = Words(("a", "good", "film", "!"), {1: ["great", "good"], 2: ["movie"]})
    for seed in range(20):
        versions = augment("a good  film!", found, Sampling(30, 0.5), np.random.default_rng(seed))
        assert versions[0] == "a good  film!" and len(set(versions)) == len(versions)
        assert set(versions[1:]) <= {
            "a great film !",
            "a good movie !",
            "a great movie !",
        }  # "a good film !" is no news


@pytest.mark.parametrize(("copies", "probability"), [(20, 0.0), (0, 1.0)])
def test_probability_0_and_no_copies_give_the_text_alone(copies, probability):
    found = Words(("good",), {0: ["great"]})
    assert augment("Good", found, Sampling(copies, probability), np.random.default_rng(0)) == ["Good"]


def test_words_are_replaced_independently_with_the_probability_and_uniformly():
    candidates = [f"w{i}" for i in range(4)]
    found = Words(("x",) * 40, dict.fromkeys(range(40), candidates))
    versions = augment("x", found, Sampling(500, 0.4), np.random.default_rng(3))[1:]
    counts = Counter(word for version in versions for word in version.split())
    drawn = 40 * len(versions)
    assert len(versions) == 500
    # Five standard errors of a binomial share on 20,000 draws.
    assert abs(counts["x"] / drawn - 0.6) < 5 * (0.24 / drawn) ** 0.5
    for word in candidates:
        assert abs(counts[word] / drawn - 0.1) < 5 * (0.09 / drawn) ** 0.5


def test_of_a_pair_the_second_text_is_augmented_beside_the_last_version_of_the_first():
    found = [Words(("a",), {0: ["b"]}), Words(("c",), {0: ["d"]})]
    rows = list(augment_example(["a", "c"], found, Sampling(3, 1.0), np.random.default_rng(0)))
    assert rows == [("a", "c"), ("b", "c"), ("b", "c"), ("b", "d")]


@pytest.mark.parametrize("values", [{"probability": 1.1}, {"probability": float("nan")}, {"copies": -1}, {"seed": -1}])
def test_values_out_of_range_are_named(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Sampling(**values).check()


# --- word vectors -------------------------------------------------------------------------------------------------


def test_neighbours_are_the_nearest_by_cosine_without_the_word_itself(toy):
    vectors = read_word_vectors(toy / "glove.txt")
    assert vectors.words == ["gripping", "thrilling", "tense", "dull", "film"]  # no second "gripping", no zeros
    assert vectors.units.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.units, axis=1), 1, rtol=1e-6)
    assert vectors.nearest("gripping", 2) == ["thrilling", "tense"]
    assert vectors.nearest("Gripping", 2) == ["Thrilling", "Tense"]
    assert vectors.nearest("gripping", 9) == ["thrilling", "tense", "film", "dull"]
    assert vectors.nearest("unheard", 2) == [] and vectors.nearest("film", 0) == []


def test_neighbours_equal_a_plain_sort_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("bebert_export.augmentation.word_vectors.BLOCK", 7)
    table = np.random.default_rng(0).integers(-2, 3, (50, 3))  # small whole numbers: many equal cosines
    table[:, 0] = 1
    lines = [f"w{i} " + " ".join(map(str, row)) for i, row in enumerate(table)]
    (tmp_path / "v.txt").write_text("50 3\n" + "\n".join(lines))  # the header of word2vec files is skipped
    vectors = read_word_vectors(tmp_path / "v.txt")
    for i in range(50):
        cosines = vectors.units @ vectors.units[i]
        order = [j for j in np.argsort(-np.round(cosines, 5), kind="stable") if j != i][:9]
        got = [int(word[1:]) for word in vectors.nearest(f"w{i}", 9)]
        np.testing.assert_allclose(cosines[got], cosines[order], atol=1e-6)  # rounding may swap equal cosines
        assert len(set(got)) == 9 and i not in got


def test_only_the_first_vectors_are_read(toy):
    assert read_word_vectors(toy / "glove.txt", limit=2).words == ["gripping", "thrilling"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no word vector"),
        (b"a 0 0\n", "has no word vector"),
        (b"a 1 2\nb 1\n", "line 2 of .* has 1 numbers, the first line has 2"),
        (b"a 1 2\n\nb 1 2\n", "line 2 of .* has 0 numbers"),
        (b"a 1 2\nb 1 x\n", 'line 2 of .* has "x" where a number should be'),
        (b"a 1 2\nb 1 inf\n", "line 2 of .* not finite"),
        (b"a\n", 'line 1 of .* is "a"'),
        (b"a\t1\t2\n", "line 1"),
        (b"a 1 2\n\xff 1 2\n", "line 2 of .* is not UTF-8"),
    ],
)
def test_a_bad_line_of_vectors_is_named(tmp_path, content, message):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_word_vectors(tmp_path / "v.txt")


def test_huge_numbers_and_words_with_blanks_do_no_harm(tmp_path):
    (tmp_path / "v.txt").write_text("a 1e200 0\n. . 1 1\nb 1e-200 1e-200\n")
    vectors = read_word_vectors(tmp_path / "v.txt")
    assert vectors.words == ["a", "b"]
    np.testing.assert_allclose(vectors.units, [[1, 0], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


# --- candidates ---------------------------------------------------------------------------------------------------


def test_candidates_are_the_top_pieces_at_the_mask_beside_the_text_itself(toy):
    source = MaskedLanguageModel(str(toy / "lm"), None, count=15)
    found = source.candidates("The good film, gripping")
    assert found.words == ("the", "good", "film", ",", "gripping")
    assert set(found.candidates) <= {1, 2}  # a stop word, a comma, and a word of several pieces stay
    ids = {piece: i for i, piece in enumerate(VOCABULARY)}
    pieces = [ids[p] for p in ["the", "good", "film", ",", "g", *("##" + letter for letter in "ripping")]]
    masked = [ids["[CLS]"], pieces[0], ids["[MASK]"], *pieces[2:], ids["[SEP]"]]
    tokens = torch.tensor([[*masked, *pieces, ids["[SEP]"]]])
    types = torch.tensor([[0] * len(masked) + [1] * (len(pieces) + 1)])
    model = BertForMaskedLM.from_pretrained(toy / "lm").eval()
    with torch.inference_mode():
        best = model(tokens, token_type_ids=types).logits[0, 2].topk(15).indices
    expected = [VOCABULARY[i] for i in best]
    assert found.candidates[1] == [p for p in expected if not p.startswith(("##", "[")) and p not in SPECIAL]


def test_words_of_several_pieces_take_their_neighbours(toy):
    source = MaskedLanguageModel(str(toy / "lm"), read_word_vectors(toy / "glove.txt"), count=2)
    assert source.candidates("gripping unheard").candidates == {0: ["thrilling", "tense"]}


def test_a_long_text_is_read_through_a_window(toy):
    source = MaskedLanguageModel(str(toy / "lm"), None, max_length=21)  # 9 pieces a segment
    found = source.candidates(" ".join(["film", "plot", "scene"] * 20))
    assert len(found.words) == 60 and len(found.candidates) > 0
    # Away from the ends, equal surroundings give equal candidates.
    assert found.candidates.get(12) == found.candidates.get(15) == found.candidates.get(42)


@pytest.mark.parametrize("text", ["", " ", "\x00", "[SEP] [MASK]", "1 2 , .", "世界", "x" * 300])
def test_odd_texts_have_few_candidates_and_do_no_harm(toy, text):
    source = MaskedLanguageModel(str(toy / "lm"), read_word_vectors(toy / "glove.txt"))
    for candidates in source.candidates(text).candidates.values():
        assert all(word.split() == [word] for word in candidates)


def test_a_tokenizer_of_another_model_is_refused(toy, tmp_path):
    shutil.copytree(toy / "lm", tmp_path / "lm")
    (tmp_path / "lm" / "tokenizer.json").write_text(tokenizer_json([*VOCABULARY, "more"]), encoding="utf-8")
    with pytest.raises(DataError, match=f"has {len(VOCABULARY) + 1} pieces, its model {len(VOCABULARY)}"):
        MaskedLanguageModel(str(tmp_path / "lm"), None)


def test_an_encoder_without_its_head_is_refused(tmp_path):
    with pytest.raises(DataError, match="lacks weights: cls.predictions"):
        MaskedLanguageModel(str(write_encoder(tmp_path / "encoder")), None)


# --- whole runs ---------------------------------------------------------------------------------------------------


def test_originals_come_first_each_with_its_versions_and_labels_stay(toy, tmp_path):
    before = read_examples(toy / "train.tsv")
    rows = "".join(f"{text}\tlabel {i}\n" for i, text in enumerate(before.texts))
    (tmp_path / "numbered.tsv").write_text("sentence1\tlabel\n" + rows)
    done = augment_file(options(toy, tmp_path / "out.tsv", data=tmp_path / "numbered.tsv"), QUIET)
    after = read_examples(tmp_path / "out.tsv")
    assert done.examples == 30 and done.rows == len(after) > 60
    groups: dict[str, list[str]] = {}
    for text, label in zip(after.texts, after.labels, strict=True):
        groups.setdefault(label, []).append(text)
    assert [after.labels[i] for i in after.origins] == after.labels
    assert [i for i, origin in enumerate(after.origins) if i == origin] == sorted(set(after.origins))
    assert list(groups) == [f"label {i}" for i in range(30)]
    for text, versions in zip(before.texts, groups.values(), strict=True):
        assert versions[0] == text and 1 <= len(versions) == len(set(versions)) <= 6
        assert {len(version.split()) for version in versions} == {len(text.split())}


def test_pairs_keep_their_label_and_their_two_columns(toy, tmp_path):
    augment_file(options(toy, tmp_path / "out.tsv", data=toy / "pairs.tsv"), QUIET)
    out = read_examples(tmp_path / "out.tsv")
    assert (
        (tmp_path / "out.tsv")
        .read_text()
        .startswith("sentence1\tsentence2\tlabel\taugmented_from\nA gripping film\tthe plot is good\t")
    )
    assert out.pairs is not None and set(out.labels) == {"yes", "no"} and out.labels == sorted(out.labels, reverse=True)
    no = out.labels.index("no")
    assert (out.texts[no], out.pairs[no]) == ("bad, bad music", "was 7")
    assert set(out.pairs[no:]) == {"was 7"}


def test_a_file_that_is_augmented_again_still_says_where_its_examples_come_from(toy, tmp_path):
    once = augment_file(options(toy, tmp_path / "once.tsv"), QUIET)
    augment_file(options(toy, tmp_path / "twice.tsv", data=tmp_path / "once.tsv"), QUIET)
    first, second = read_examples(tmp_path / "once.tsv"), read_examples(tmp_path / "twice.tsv")
    assert len(second) > len(first) == once.rows
    assert len(set(second.origins)) == len(set(first.origins)) == once.examples
    assert [second.labels[i] for i in second.origins] == second.labels


def test_a_held_out_example_is_an_original_and_none_of_its_versions_is_trained_on(toy, tmp_path):
    """Found by reading: a random tenth of an augmented file was held out, whose other versions were trained on."""
    augment_file(options(toy, tmp_path / "out.tsv"), QUIET)
    common = {"init": "", "out": tmp_path / "run", "train": tmp_path / "out.tsv", "dev": tmp_path / "dev.tsv"}
    shutil.copy(toy / "train.tsv", tmp_path / "dev.tsv")
    with (tmp_path / "dev.tsv").open("a") as file:
        file.write("one more\t1\n")
    data = read_data(data_settings(TrainOptions(**common, hold_out=0.3)))
    origins = np.array(data.train.origins)
    assert len(data.held) == 9 and (origins[data.held] == data.held).all()
    assert not set(origins[data.trained]) & set(data.held)
    assert set(origins[data.trained]) | set(data.held) == set(origins)
    assert len(data.trained) + np.isin(origins, data.held).sum() == len(origins)
    with pytest.raises(DataError, match="leaves no example to train on"):
        read_data(data_settings(TrainOptions(**common, hold_out=0.99)))


def test_probability_0_gives_the_same_examples(toy, tmp_path):
    augment_file(options(toy, tmp_path / "out.tsv", probability=0.0), QUIET)
    before, after = read_examples(toy / "train.tsv"), read_examples(tmp_path / "out.tsv")
    assert (after.texts, after.labels) == (before.texts, before.labels)


def test_breaks_inside_a_text_become_blanks_in_the_output(toy, tmp_path):
    (tmp_path / "in.csv").write_text('text,label\n"a gripping\nfilm\tis good",x\n')
    augment_file(options(toy, tmp_path / "out.tsv", data=tmp_path / "in.csv"), QUIET)
    out = read_examples(tmp_path / "out.tsv")
    assert out.texts[0] == "a gripping film is good" and set(out.labels) == {"x"}


def test_the_same_seed_gives_the_same_bytes_whatever_the_batch_and_another_seed_others(toy, tmp_path, monkeypatch):
    augment_file(options(toy, tmp_path / "a" / "out.tsv"), QUIET)
    monkeypatch.setattr("bebert_export.augmentation.masked_lm.BATCH", 2)
    augment_file(options(toy, tmp_path / "b" / "out.tsv"), QUIET)
    augment_file(options(toy, tmp_path / "c" / "out.tsv", seed=43), QUIET)
    a, b, c = ((tmp_path / name / "out.tsv").read_bytes() for name in "abc")
    assert a == b != c


def test_an_example_is_augmented_the_same_whatever_follows_it(toy, tmp_path):
    lines = (toy / "train.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "short.tsv").write_text("".join(lines[:6]))
    augment_file(options(toy, tmp_path / "all.tsv"), QUIET)
    augment_file(options(toy, tmp_path / "few.tsv", data=tmp_path / "short.tsv"), QUIET)
    assert (tmp_path / "all.tsv").read_bytes().startswith((tmp_path / "few.tsv").read_bytes())


@pytest.mark.parametrize("tail", [b"", b'[[["half', b"\x00\x00\n"])
def test_a_killed_run_goes_on_and_ends_in_the_same_file(toy, tmp_path, monkeypatch, tail):
    whole = options(toy, tmp_path / "whole.tsv")
    augment_file(whole, QUIET)
    killed = options(toy, tmp_path / "killed" / "out.tsv")
    real, asked = MaskedLanguageModel.candidates, []

    def until(self, text):
        if len(asked) == 11:
            raise KeyboardInterrupt
        asked.append(text)
        return real(self, text)

    monkeypatch.setattr(MaskedLanguageModel, "candidates", until)
    with pytest.raises(KeyboardInterrupt):
        augment_file(killed, QUIET)
    (cache,) = killed.out.parent.iterdir()  # no output, no temporary file
    with cache.open("ab") as stream:
        stream.write(tail)
    monkeypatch.setattr(MaskedLanguageModel, "candidates", lambda self, text: asked.append(text) or real(self, text))
    done = augment_file(killed, QUIET)
    assert done.found == 11 and len(asked) == 30  # every text once
    assert killed.out.read_bytes() == whole.out.read_bytes()
    assert len(cache.read_bytes().splitlines()) == 30


def test_another_seed_asks_no_model_again_and_other_data_or_models_do(toy, tmp_path):
    first = augment_file(options(toy, tmp_path / "out.tsv"), QUIET)
    again = augment_file(options(toy, tmp_path / "out.tsv", seed=7, copies=2, probability=1.0), QUIET)
    assert (first.found, again.found, again.cache) == (0, 30, first.cache)
    for changes in ({"word_vectors": None}, {"candidates": 3}, {"max_length": 9}, {"data": toy / "pairs.tsv"}):
        other = augment_file(options(toy, tmp_path / "out.tsv", **changes), QUIET)
        assert other.found == 0 and other.cache != first.cache


def test_two_processes_do_not_write_the_same_candidates(toy, tmp_path):
    done = augment_file(options(toy, tmp_path / "out.tsv"), QUIET)
    with run._locked(done.cache), pytest.raises(InputError, match="another process"):
        augment_file(options(toy, tmp_path / "out.tsv"), QUIET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": -0.1}, "probability is -0.1"),
        ({"candidates": 0}, "candidates is 0"),
        ({"max_length": 4}, "max_length is 4"),
        ({"masked_lm": "nowhere"}, 'masked_lm is ".*nowhere", which is no folder'),
        ({"data": "missing.tsv"}, 'cannot read ".*missing.tsv"'),
        ({"data": "empty.tsv"}, "has no example"),
        ({"word_vectors": "missing.txt"}, 'cannot read ".*missing.txt"'),
        ({"word_vectors": "empty.tsv"}, "has no word vector"),
        ({"out": "empty.tsv", "data": "empty.tsv"}, "is read too"),
        ({"out": "."}, "is a folder"),
        ({"out": "out.csv"}, "accepted is a file ending in .tsv"),
    ],
)
def test_bad_use_is_one_sentence_and_writes_nothing(toy, tmp_path, changes, message):
    (tmp_path / "empty.tsv").write_text("")
    changes = {name: tmp_path / value if isinstance(value, str) else value for name, value in changes.items()}
    if "masked_lm" in changes:
        changes["masked_lm"] = str(changes["masked_lm"])
    with pytest.raises(InputError, match=message):
        augment_file(options(toy, **({"out": tmp_path / "out" / "out.tsv"} | changes)), QUIET)
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty.tsv"]


def test_the_command_writes_the_file_and_says_where(toy, tmp_path):
    out = tmp_path / "out.tsv"
    arguments = ["--data", toy / "train.tsv", "--masked-lm", toy / "lm", "--out", out, "--copies", 3, "--threads", 1]
    done = CliRunner().invoke(app, ["augment", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert f"{len(read_examples(out)):,} rows from 30" in done.output
    (cache,) = tmp_path.glob("out.*.candidates.jsonl")
    assert all(json.loads(line) for line in cache.read_text().splitlines())
