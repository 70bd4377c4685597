"""However a folder describes its BERT tokenizer, ids and segment types are those of transformers, or it is refused."""

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer
from toy_checkpoints import ODD, make_checkpoint

from bebert_export.convert import convert
from bebert_export.data.batches import check_rows, load_tokenizer, read_tokenizer, save_tokenizer
from bebert_export.data.examples import read_examples
from bebert_export.data.vocabulary import trim_vocabulary
from bebert_infer import Ensemble
from bebert_infer.artifact.tokenizer_check import check_tokenizer
from bebert_infer.errors import BebertError, BebertWarning, DataError, ModelFormatError
from bebert_infer.text.tokenizer import TextEncoder
from bebert_infer.text.windows import LongTexts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*"abcdet", *(f"##{letter}" for letter in "abcdet"), *"ABE", "é", "É", "中", "##中", "[", "]", "#"]
PIECES = [*SPECIAL, *LETTERS, "the", "The", "cafe", "café", "##fé", "new", "[unused0]", "[unused1]"]
ROWS = 64
TEXTS = [
    "The café, the CAFÉ. THE\tcafe\u0301 e\u0301",
    "the[E1]a [E1] b [e1] [E1]s new newb New new",
    "[CLS] a [SEP] b [MASK][PAD][UNK] [unused0][unused1] ##b a b ab",
    "中a中 É é \x00 ab\u200bcd 漢字 " + "a" * 120,
    " [E2] , [E2]t",
]
PAIRS = [(first, second) for first in TEXTS[:3] for second in TEXTS[1:4]]


def added(content, **flags):
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": content, **plain, "special": True, **flags}


def tokenizer_json(words=None, tokens=(), **parts):
    """A cased tokenizer, as the library writes it, with some parts exchanged."""
    words = PIECES if words is None else words
    ids = {word: index for index, word in enumerate(words)}
    pieces = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")}
    single = [pieces["[CLS]"], {"Sequence": {"id": "A", "type_id": 0}}, pieces["[SEP]"]]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            *({"id": ids[word]} | added(word) for word in SPECIAL if word in ids),
            *({"id": len(words) + place} | token for place, token in enumerate(tokens)),
        ],
        "normalizer": normalizer(),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": {name: {"id": name, "ids": [ids.get(name, 0)], "tokens": [name]} for name in pieces},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
        **parts,
    }


def normalizer(lower=False, accents=None, chinese=True):
    options = {"lowercase": lower, "strip_accents": accents, "handle_chinese_chars": chinese, "clean_text": True}
    return {"type": "BertNormalizer", **options}


def write(folder, files):
    """Files by name: bytes and texts as they are, all else as JSON."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def ours(folder):
    """The encoder of a model that `bebert convert` makes with this tokenizer."""
    tokenizer = load_tokenizer(folder)
    check_rows(tokenizer, folder, ROWS)
    text = tokenizer.to_str()
    check_tokenizer(text.encode(), folder / "tokenizer.json", ROWS, 2)
    return TextEncoder(text, 10**6, ROWS)


def theirs(folder):
    """What a user of transformers gets; without a kind of model, which AutoTokenizer needs, that of a BERT."""
    file = folder / "config.json"
    known = file.is_file() and "model_type" in json.loads(file.read_text())
    rest = {} if known else {"config": transformers.BertConfig()}
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **rest)


def ids_and_types(encoder, text):
    """(ids, types) of a text or pair, from either side; BERT takes types that are not given for 0."""
    if isinstance(encoder, TextEncoder):
        ids, types = encoder.encode(text, LongTexts(), "it").windows[0]
        return list(ids), list(types)
    found = encoder(*(text if isinstance(text, tuple) else (text,)))
    return found["input_ids"], found.get("token_type_ids", [0] * len(found["input_ids"]))


def refusal(folder):
    """Return the one sentence with which a folder is refused, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BebertWarning)
        try:
            ours(folder)
        except BebertError as error:
            assert "\n" not in str(error)
            return str(error)
    return None


def compare(folder):
    """Assert that both sides read all texts alike, or that ours refuses for a reason written down here, and say which.

    True: read alike.
    """
    if said := refusal(folder):
        reasons = (
            "truncation_side",
            "split_special_tokens",
            "model.unk_token",
            "the checkpoint",
            "cannot keep",
            "the same when",
        )
        try:
            theirs(folder)("a")
        except Exception:  # the library raises what it likes
            return False
        assert any(reason in said for reason in reasons), said
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        us, them = ours(folder), theirs(folder)
    for text in (*TEXTS, *PAIRS):
        assert ids_and_types(us, text) == ids_and_types(them, text), text
    return True


# --- folders at random ---

contents = st.sampled_from(
    ["[E1]", "[E2]", "new", "the", "The", "café", "É", "##b", "中", "a b", "[unused1]", "[MASK]", " a"]
)
tokens = st.builds(
    lambda content, flags: added(content, **flags),
    contents,
    st.fixed_dictionaries({}, optional=dict.fromkeys(["single_word", "lstrip", "rstrip", "special"], st.booleans()))
    | st.fixed_dictionaries({"normalized": st.booleans(), "special": st.booleans()}),
)
unique_tokens = st.lists(tokens, max_size=3, unique_by=lambda token: token["content"])
names = st.sampled_from([*SPECIAL, "[unused0]", "[E1]", "<s>", "the"])
named = names | st.none() | names.map(lambda name: {"__type": "AddedToken"} | added(name))
special_names = dict.fromkeys(["cls_token", "sep_token", "mask_token", "pad_token", "unk_token"], named)
words = st.sampled_from(
    [
        PIECES,
        PIECES[::-1],
        PIECES[:4] + PIECES[5:],  # without [MASK]
        ["[CLS]", *PIECES[:2], *PIECES[3:]],
        PIECES[:2] + PIECES[3:],  # without [CLS]
        PIECES[:1] + PIECES[2:],  # without [UNK]
        [*PIECES, *(f"w{i}" for i in range(ROWS))],
    ]
)
vocab_txt = st.builds(
    lambda lines, end, start, last: (start + end.join(lines) + last).encode(),
    words | words.map(lambda some: [*some, "the", "new"]) | words.map(lambda some: [*some[:9], "", " ", *some[9:]]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "", "\ufeff"]),
    st.sampled_from(["\n", "", "\n\n"]),
)
json_parts = st.fixed_dictionaries(
    {},
    optional={
        "normalizer": st.builds(normalizer, st.booleans(), st.none() | st.booleans(), st.booleans())
        | st.sampled_from([None, {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}]),
        "pre_tokenizer": st.sampled_from([{"type": "Whitespace"}, {"type": "BertPreTokenizer"}]),
        "post_processor": st.sampled_from([None, {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}]),
        "truncation": st.sampled_from(
            [
                {"direction": side, "max_length": 3, "strategy": "LongestFirst", "stride": 0}
                for side in ("Right", "Left")
            ]
        ),
        "padding": st.just(
            {
                "strategy": {"Fixed": 9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        ),
    },
)
tokenizer_files = st.builds(
    lambda some, more, parts: tokenizer_json(some, more, **parts), words, unique_tokens, json_parts
)
ids = st.integers(0, len(PIECES) + 6)
configs = st.fixed_dictionaries(
    {},
    optional={
        "do_lower_case": st.booleans(),
        "strip_accents": st.none() | st.booleans(),
        "tokenize_chinese_chars": st.booleans(),
        "additional_special_tokens": st.lists(contents, max_size=2, unique=True),
        "extra_special_tokens": st.lists(contents, max_size=2, unique=True),
        "added_tokens_decoder": st.dictionaries(ids.map(str), tokens, max_size=4),
        "tokenizer_class": st.sampled_from(
            ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "PreTrainedTokenizerFast", "OtherTokenizer"]
        ),
        **special_names,
    },
)
rare = st.fixed_dictionaries(
    {},
    optional={
        "model_input_names": st.sampled_from([["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]]),
        "split_special_tokens": st.booleans(),
        "truncation_side": st.sampled_from(["left", "right"]),
        "padding_side": st.just("left"),
        "model_max_length": st.just(3),
        "never_split": st.just(["[E1]"]),
        "do_basic_tokenize": st.just(False),
        "clean_up_tokenization_spaces": st.just(True),
        "add_bos_token": st.just(True),
        "auto_map": st.just({"AutoTokenizer": ["tokenization.Mine", None]}),
    },
)
folders = st.fixed_dictionaries(
    {"config.json": st.sampled_from([{"model_type": "bert"}] * 3 + [{}, {"model_type": "distilbert"}])},
    optional={
        "vocab.txt": vocab_txt,
        "tokenizer.json": tokenizer_files,
        "tokenizer_config.json": configs | st.builds(lambda some, more: some | more, configs, rare),
        "special_tokens_map.json": st.fixed_dictionaries({}, optional=special_names)
        .map(lambda some: {name: token for name, token in some.items() if isinstance(token, str)})
        .flatmap(
            lambda some: st.lists(contents, max_size=2, unique=True).map(
                lambda more: some | {"additional_special_tokens": more}
            )
        ),
        "added_tokens.json": st.dictionaries(contents, ids, max_size=3),
    },
).filter(lambda files: "vocab.txt" in files or "tokenizer.json" in files)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_any_folder_is_read_as_transformers_reads_it_or_refused(count):
    compared = []

    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(folders)
    def one(files):
        folder = Path(tempfile.mkdtemp())
        try:
            compared.append(compare(write(folder, files)))
        finally:
            shutil.rmtree(folder)

    one()
    assert sum(compared) > count / 3  # not all are refused


# --- folders one by one, with the ids that transformers 5.23 gives ---

VOCAB = {"vocab.txt": "\n".join(PIECES) + "\n"}
E1, NEW, THE, THE_UPPER = len(PIECES), PIECES.index("new"), PIECES.index("the"), PIECES.index("The")
UNUSED = PIECES.index("[unused0]")
FOLDERS = {
    "vocab.txt is uncased": (VOCAB, "The new", [2, THE, NEW, 3]),
    "vocab.txt, cased": (VOCAB | {"tokenizer_config.json": {"do_lower_case": False}}, "The", [2, THE_UPPER, 3]),
    "settings count beside tokenizer.json": (
        {"tokenizer.json": tokenizer_json(normalizer=normalizer(lower=True))}
        | {"tokenizer_config.json": {"do_lower_case": False}},
        "The",
        [2, THE_UPPER, 3],
    ),
    "accents stay": (
        {"tokenizer.json": tokenizer_json()} | {"tokenizer_config.json": {"strip_accents": False}},
        "É é",
        [2, PIECES.index("é"), PIECES.index("é"), 3],
    ),
    "Chinese letters are no words": (
        {"tokenizer.json": tokenizer_json()} | {"tokenizer_config.json": {"tokenize_chinese_chars": False}},
        "中中",
        [2, PIECES.index("中"), PIECES.index("##中"), 3],
    ),
    "no post-processor": ({"tokenizer.json": tokenizer_json(post_processor=None)}, "new", [2, NEW, 3]),
    "tokenizer.json counts, not vocab.txt": (
        {"tokenizer.json": tokenizer_json(), "vocab.txt": "\n".join(PIECES[::-1])},
        "new",
        [2, NEW, 3],
    ),
    "tokenizer.json as it is": (
        {"tokenizer.json": tokenizer_json()}
        | {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
        "The",
        [2, THE_UPPER, 3],
    ),
    "added_tokens.json": (
        VOCAB | {"added_tokens.json": {"[E1]": E1, "[E2]": E1 + 1}},
        "[E2]a[E1]",
        [2, E1 + 1, 5, E1, 3],
    ),
    "added_tokens_decoder; its numbers are not read": (
        VOCAB | {"tokenizer_config.json": {"added_tokens_decoder": {str(E1 + 9): added("[E1]")}}},
        "[E1]a",
        [2, E1, 5, 3],
    ),
    "additional_special_tokens": (
        VOCAB | {"tokenizer_config.json": {"additional_special_tokens": ["[E1]"]}},
        "a [E1]",
        [2, 5, E1, 3],
    ),
    "a word that stands alone": (
        VOCAB | {"tokenizer_config.json": {"added_tokens_decoder": {"50": added("[E1]", single_word=True)}}},
        "[E1] a[E1]",
        [2, E1, 5, PIECES.index("["), 1, PIECES.index("]"), 3],
    ),
    "tokens of the json": ({"tokenizer.json": tokenizer_json(tokens=[added("[E1]")])}, "a[E1]", [2, 5, E1, 3]),
    "special tokens of other names": (
        VOCAB | {"tokenizer_config.json": {"cls_token": "[unused0]", "sep_token": "the"}},
        "a",
        [UNUSED, 5, THE],
    ),
    "special_tokens_map.json": (VOCAB | {"special_tokens_map.json": {"cls_token": "[unused0]"}}, "a", [UNUSED, 5, 3]),
    "a line twice: the last counts": ({"vocab.txt": "\n".join([*PIECES, "new", "b"])}, "new", [2, E1, 3]),
    "CR LF": ({"vocab.txt": "\r\n".join(PIECES)}, "new", [2, NEW, 3]),
    "blank lines count": ({"vocab.txt": "\n".join([*PIECES[:5], "", "", *PIECES[5:]])}, "new", [2, NEW + 2, 3]),
    "without [CLS]: it is added": ({"vocab.txt": "\n".join(PIECES[:2] + PIECES[3:])}, "a", [E1 - 1, 4, 2]),
    "a kind of model that nobody knows": (VOCAB | {"config.json": {"model_type": "tinybert"}}, "new", [2, NEW, 3]),
    "no config.json": (VOCAB, "new", [2, NEW, 3]),
    "code that is not run": (
        VOCAB
        | {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}, "mine.py": "1 / 0"}
        | {"config.json": {"model_type": "bert", "auto_map": {"AutoConfig": "mine.Mine"}}},
        "new",
        [2, NEW, 3],
    ),
    "a table of a fixed length": (
        {
            "tokenizer.json": tokenizer_json(
                truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst"} | {"stride": 0}
            )
        },
        "a b a b",
        [2, 5, 6, 5, 6, 3],
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.filterwarnings("ignore::bebert_infer.errors.BebertWarning")
def test_ids_of_every_way_to_describe_a_tokenizer(tmp_path, name):
    files, text, expected = FOLDERS[name]
    config = {} if name == "no config.json" else {"config.json": {"model_type": "bert"}}
    assert ids_and_types(ours(write(tmp_path / "model", config | files)), text)[0] == expected


SETTINGS = "tokenizer_config.json"
REFUSED = {
    "right to left": (VOCAB | {SETTINGS: {"truncation_side": "left"}}, "has truncation_side 'left'; accepted is right"),
    "split": (VOCAB | {SETTINGS: {"split_special_tokens": True}}, "has split_special_tokens True; accepted is false"),
    "a model": (VOCAB | {SETTINGS: {"tokenizer_class": "AutoModel"}}, "tokenizer_class 'AutoModel'; accepted is a tok"),
    "slow": (VOCAB | {SETTINGS: {"tokenizer_class": "BertJapaneseTokenizer"}}, "BertJapaneseTokenizer"),
    "words elsewhere": (VOCAB | {SETTINGS: {"vocab": "/etc/passwd"}}, "has vocab '/etc/passwd'; accepted is none"),
    "words elsewhere, by the map": (VOCAB | {"special_tokens_map.json": {"vocab": "/x"}}, "has vocab '/x'; accepted"),
    "gguf": (VOCAB | {SETTINGS: {"gguf_file": "a.gguf"}}, "has gguf_file 'a.gguf'; accepted is none"),
    "another folder": (VOCAB | {SETTINGS: {"fast_tokenizer_files": ["../tokenizer.5.json"]}}, "fast_tokenizer_files"),
    "no JSON": (VOCAB | {SETTINGS: "{"}, "tokenizer_config.json is not JSON"),
    "no object": (VOCAB | {SETTINGS: []}, "tokenizer_config.json is no JSON object"),
    "odd value": (VOCAB | {SETTINGS: {"do_lower_case": "no"}}, "cannot be read: 'str' object is not an instance of"),
    "flag that is a method": (VOCAB | {SETTINGS: {"add_special_tokens": False}}, "add_special_tokens conflicts with"),
    "Latin-1": ({"vocab.txt": "\n".join(PIECES).encode("latin-1", "replace")}, "did not contain valid UTF-8"),
    "no [UNK]": ({"vocab.txt": "\n".join(PIECES[:1] + PIECES[2:])}, "model.unk_token [UNK]; accepted is a token of"),
    "BOM": ({"vocab.txt": "\ufeff[UNK]\n" + "\n".join(PIECES[2:])}, "model.unk_token [UNK]; accepted is a token of"),
    "no words": ({"vocab.txt": ""}, "model.vocab"),
    "too many words": ({"vocab.txt": "\n".join([*PIECES, *map(str, range(ROWS))])}, "tokens, the checkpoint only 64"),
    "an added token too many": (
        {"vocab.txt": "\n".join([*PIECES, *map(str, range(ROWS - len(PIECES)))])} | {"added_tokens.json": {"[E1]": 7}},
        r"gives '\[E1\]' the id 64, the checkpoint has rows for 0 to 63",
    ),
    "one word when normalized": (
        VOCAB | {"added_tokens.json": {"the": 27, "The": 28}},  # transformers takes now one, now the other
        "added tokens 'the' and 'The', which are the same when normalized; accepted is one of them",
    ),
    "a hole": (
        {
            "tokenizer.json": tokenizer_json()
            | {"model": tokenizer_json()["model"] | {"vocab": dict(zip(PIECES, range(30, 30 + ROWS), strict=False))}}
        },
        "gives .* the id .*, the checkpoint has rows for 0 to 63",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::bebert_infer.errors.BebertWarning")
def test_what_cannot_be_read_alike_is_refused_in_one_sentence(tmp_path, name):
    files, sentence = REFUSED[name]
    with pytest.raises(BebertError, match=sentence.replace("[UNK]", r"\[UNK\]")):
        ours(write(tmp_path / "model", {"config.json": {"model_type": "bert"}} | files))
    assert "\n" not in refusal(tmp_path / "model")


def test_where_transformers_gives_no_types_the_second_text_has_type_0(tmp_path):
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    processor = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    files = {"tokenizer.json": tokenizer_json(post_processor=processor), "config.json": {"model_type": "bert"}}
    folder = write(tmp_path / "model", files | {SETTINGS: settings})
    with pytest.warns(BebertWarning, match="gives no segment types .*; if the model was trained with 0 and 1, add tok"):
        assert ids_and_types(ours(folder), ("a", "b")) == ([2, 5, 3, 6, 3], [0, 0, 0, 0, 0])
    compare(folder)
    write(folder, {SETTINGS: settings | {"model_input_names": ["input_ids", "token_type_ids"]}})
    assert ids_and_types(ours(folder), ("a", "b")) == ([2, 5, 3, 6, 3], [0, 0, 0, 1, 1])


def test_a_cased_tokenizer_json_that_transformers_makes_uncased_is_told(tmp_path):
    folder = write(tmp_path / "m", {"tokenizer.json": tokenizer_json(), "config.json": {"model_type": "bert"}})
    with pytest.warns(BebertWarning, match="has lowercase False, but transformers reads texts with lowercase True"):
        assert ids_and_types(ours(folder), "The")[0] == [2, THE, 3]


def test_convert_brings_added_tokens_and_checks_every_id(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", ODD)  # 61 rows
    write(checkpoint, VOCAB | {SETTINGS: {"additional_special_tokens": ["[E1]"], "do_lower_case": False}})
    convert([checkpoint], tmp_path / "model")
    assert Ensemble.from_pretrained(tmp_path / "model").encode("The[E1]").input_ids.tolist() == [[2, THE_UPPER, E1, 3]]
    convert([checkpoint], tmp_path / "again", tokenizer=tmp_path / "model")  # a packed model's tokenizer, as it is
    assert (tmp_path / "again" / "tokenizer.json").read_text() == (tmp_path / "model" / "tokenizer.json").read_text()
    write(checkpoint, {"vocab.txt": "\n".join([*PIECES, *map(str, range(61 - len(PIECES)))])})
    with pytest.raises(DataError, match=r"gives '\[E1\]' the id 61, the checkpoint has rows for 0 to 60"):
        convert([checkpoint], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_tokenizer_of_a_packed_model_is_read_without_transformers(tmp_path, monkeypatch):
    files = {"tokenizer.json": tokenizer_json(), "config.json": {"format": "bebert-infer"}}
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert load_tokenizer(write(tmp_path / "model", files)).encode("The").ids == [2, THE_UPPER, 3]


def test_what_a_run_saves_is_read_as_it_was_by_both_libraries(tmp_path):
    """A cased encoder without settings beside it would be read as an uncased one."""
    template = tokenizer_json(tokens=[added("[E1]", lstrip=True), added("new", special=False, normalized=True)])
    folder = write(tmp_path / "run", {"config.json": {"model_type": "bert"}})
    tokenizer = Tokenizer.from_str(json.dumps(template))
    save_tokenizer(tokenizer, folder)
    assert read_tokenizer(folder).to_str() == tokenizer.to_str()
    compare(folder)
    for text in (*TEXTS, *PAIRS):
        encoding = tokenizer.encode(*(text if isinstance(text, tuple) else (text,)))
        assert ids_and_types(ours(folder), text) == (encoding.ids, encoding.type_ids)
    direct = transformers.BertTokenizerFast.from_pretrained(folder)
    assert [ids_and_types(direct, text) for text in TEXTS] == [ids_and_types(ours(folder), text) for text in TEXTS]


def test_a_trimmed_vocabulary_keeps_added_tokens_and_their_rows(tmp_path):
    settings = {"additional_special_tokens": ["[E1]", "[E2]"], "cls_token": "[unused1]"}
    folder = write(tmp_path / "m", VOCAB | {"config.json": {"model_type": "bert"}, SETTINGS: settings})
    train = write(tmp_path, {"train.tsv": "sentence\tlabel\nnew new a [E2]\t1\n"}) / "train.tsv"
    whole = load_tokenizer(folder)
    small = trim_vocabulary(whole, read_examples(train), len(PIECES) - 2)
    assert len(small.kept) == small.tokenizer.get_vocab_size() < len(PIECES)
    for text in ("new [E1] a", "[E2]b[E1] new"):
        old, new = whole.encode(text), small.tokenizer.encode(text)
        assert small.kept[new.ids].tolist() == old.ids and new.tokens == old.tokens


def test_an_added_token_beyond_the_word_table_is_found_though_there_are_few_tokens():
    description = tokenizer_json()
    description["model"]["vocab"]["[MASK]"] = description["added_tokens"][4]["id"] = ROWS
    with pytest.raises(ModelFormatError, match="tokenizer.json has ids up to 64, the model only 0 to 63"):
        TextEncoder(json.dumps(description), 10, ROWS)


def test_a_cased_vocabulary_that_nothing_calls_cased_is_told(tmp_path):
    """Only a vocab.txt: transformers makes texts lower case, and the words with capitals are never met."""
    words = "\n".join([*SPECIAL, *"abcABC", "The", "the", "##e"]) + "\n"
    cased = write(tmp_path / "cased", {"vocab.txt": words})
    with pytest.warns(
        BebertWarning, match=r"4 of 14 words .* have capitals, but texts .*; if the model is a cased one"
    ):
        load_tokenizer(cased)
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    uncased = write(tmp_path / "uncased", {"vocab.txt": words.lower()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_tokenizer(cased)
        load_tokenizer(uncased)
