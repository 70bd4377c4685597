"""Whatever the text, ids, types and mask are those of Hugging Face's BertTokenizerFast, or one sentence refuses it."""

import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bebert_infer.errors import InputError
from bebert_infer.limits import InputLimits
from bebert_infer.text.tokenizer import TextEncoder, as_texts, collate
from bebert_infer.text.windows import LongTexts

transformers = pytest.importorskip("transformers")
from bebert_export.data.batches import load_tokenizer

VARIANTS = {
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "uncased, accents kept": {"do_lower_case": True, "strip_accents": False},
    "cased, accents lost": {"do_lower_case": False, "strip_accents": True},
    "cased, Chinese words": {"do_lower_case": False, "tokenize_chinese_chars": False},
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LENGTH = 24
ODD = [
    "a\x00b \x01\x02 \x7f\x80\x9f c\ufffdd\ufeff",  # NUL, control characters, replacement character, BOM
    "tab\tnew\nline\rfeed\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029 nbsp\xa0 thin\u2009 mongol\u180e zero\u200bwidth\u2060",
    "\u202eright to left\u202c שלום עולם مرحبا بالعالم\u200f",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ❤️",  # joined, coloured, variation selectors, flags
    "e\u0301\u0327 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349 ÅŞß ﬁ İi̇ Σς",
    "中文字符 and 漢字カタカナ한국어 \U00020000\U0002f800",
    "\u0378\u0530\U000e0fff\U0010ffff \ue000 \ufdd0",  # unassigned, private use, no characters
    "[CLS] [SEP] [MASK] [PAD] [UNK] [cls][SEP]##a ##",  # words that look like the tokenizer's own
    "... --- $5.00 it's a/b\\c «x» “y” ‽ 。、",
    " ",
]


def write_folder(folder, config):
    """vocab.txt with a piece for every letter up to U+2FFF, for common ideographs and emoji, and a few words."""
    folder.mkdir()
    letters = [chr(code) for code in (*range(0x21, 0x3000), *range(0x4E00, 0x4F00), *range(0x1F300, 0x1F700))]
    letters = [letter for letter in letters if not letter.isspace()]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "good", "Good", "##ly", "don", "film"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


class Both:
    """Our encoder, made as `bebert convert` makes it, and Hugging Face's tokenizer, of the same folder."""

    def __init__(self, folder):
        text = load_tokenizer(folder).to_str()
        self.ours = TextEncoder(text, LENGTH, 10**6)
        self.whole = TextEncoder(text, 10**7, 10**6)
        self.theirs = transformers.BertTokenizerFast.from_pretrained(folder)

    def compare(self, texts, cuts=(True, False)):
        """Assert that both say the same of these texts or pairs, cut to LENGTH tokens and whole."""
        for cut in cuts:
            encoder, long = (self.ours, LongTexts("truncate")) if cut else (self.whole, LongTexts())
            rows = [encoder.encode(text, long, "it").windows[0] for text in texts]
            found = collate(rows)
            firsts = [text if isinstance(text, str) else text[0] for text in texts]
            seconds = None if isinstance(texts[0], str) else [text[1] for text in texts]
            expected = self.theirs(
                firsts, seconds, truncation=cut, max_length=LENGTH if cut else None, padding=True, return_tensors="np"
            )
            np.testing.assert_array_equal(found.input_ids, expected["input_ids"])
            np.testing.assert_array_equal(found.attention_mask, expected["attention_mask"])
            np.testing.assert_array_equal(found.token_type_ids, expected["token_type_ids"])


@pytest.fixture(scope="module", params=VARIANTS)
def both(request, tmp_path_factory):
    return Both(write_folder(tmp_path_factory.mktemp("text") / "model", VARIANTS[request.param]))


@pytest.fixture(scope="module")
def uncased(tmp_path_factory):
    return Both(write_folder(tmp_path_factory.mktemp("text") / "model", VARIANTS["uncased"]))


def test_odd_texts_alone_and_in_pairs(both):
    texts = [text for text in ODD if text.strip()]
    both.compare(texts)
    both.compare([(first, second) for first in texts for second in texts])


def test_code_points_of_all_blocks_alone_and_inside_a_word(both):
    """All of U+0000 to U+33FF and 4,096 of the others, assigned or not, 64 in a text among letters."""
    others = [code for code in range(0x3400, 0x110000) if not 0xD800 <= code < 0xE000]
    points = [*range(0x3400), *sorted(np.random.default_rng(0).choice(others, 2**12, replace=False).tolist())]
    letters = [chr(code) for code in points]
    parts = [letters[start : start + 64] for start in range(0, len(letters), 64)]
    texts = ["x " + " ".join(part) for part in parts] + ["x " + "".join(f"a{c}b " for c in part) for part in parts]
    both.compare(texts, [False])
    both.compare(list(zip(texts[::8], texts[1::8], strict=True)))


characters = st.characters(exclude_categories=["Cs"])
text = st.text(st.one_of(characters, st.sampled_from("ab #[]'.-\u0301中\u200d\x00")), min_size=1, max_size=60)
text = text.filter(str.strip)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(text, st.tuples(text, text)))
def test_any_text(uncased, some):
    uncased.compare([some])


@pytest.mark.parametrize("unit", ["a", "中", "\u0301", "👍🏽\u200d", "\x00[SEP]"])
def test_long_runs_without_a_space(uncased, unit):
    """One megabyte: answered within seconds, like Hugging Face's."""
    some = unit * (10**6 // len(unit.encode()))
    started = time.process_time()
    row = uncased.ours.encode(some, LongTexts("truncate"), "it").windows[0][0]
    assert time.process_time() - started < 20
    assert row == uncased.theirs(some, truncation=True, max_length=LENGTH)["input_ids"]


def test_half_a_character_is_refused_with_its_place(uncased):
    """Hugging Face's raises TypeError, which does not say why."""
    for some in ("\ud800", "ab\udfffc", ("good", "b\udcff")):
        with pytest.raises(InputError, match=r"has half a character, U\+D[8CF]..?.?, at place \d; decode it again"):
            uncased.ours.encode(some, LongTexts(), "it")
    with pytest.raises(InputError, match=r"keys \['\\udc00'\]"):  # errors can be printed
        as_texts({"\udc00": "a"}, InputLimits())
    mended = "ab\udfffc".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert mended == "ab\ufffdc" and uncased.ours.encode(mended, LongTexts(), "it")


def test_100_million_characters_are_refused_before_they_are_tokenized(uncased):
    import tracemalloc

    some = "good " * 20_000_000
    tracemalloc.start()
    started = time.perf_counter()
    for one in (some, ("good", some)):
        with pytest.raises(InputError, match="has 100,000,000 characters; at most 1,000,000 are accepted"):
            uncased.ours.encode(one, LongTexts("windows"), "it")
    assert time.perf_counter() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
