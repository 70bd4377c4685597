"""The demo answers as the engine does, alone, without network once it was loaded, asking no other host for anything."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import WIDTHS, hosting, visiting
from tokenizers import Tokenizer

from bebert_infer import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.measure.sample_models import demo_path

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = json.loads((ROOT / "tests" / "data" / "demo_sentences.json").read_text("utf-8"))
# Bits are equal here; on another CPU tanh and exp of the engine may differ in the last ones (docs/numerics.md).
ROUNDING = 2e-5
ALL = """async (texts) => {
  const engine = new Worker("engine.js", { type: "module" });
  const ask = (question) => new Promise((resolve, reject) => {
    engine.onmessage = (event) => resolve(event.data);
    engine.onerror = (event) => reject(new Error(event.message));
    engine.postMessage(question);
  });
  const answers = [await ask({ files: DEMO_FILES })];
  for (const [text, pair] of JSON.parse(texts)) answers.push(await ask({ text, pair }));
  engine.terminate();
  return answers;
}"""

# The page's own way from a text to ids, without the limit of tokens.
ENCODER = """async (texts) => {
  const { encoder } = await import("./tokens.js");
  const { Tokenizer } = await import("./tokenizers.min.mjs");
  const [json, characters] = await Promise.all(
    ["tokenizer.json", "characters.json"].map(async (name) => (await fetch(name)).json()));
  const encode = encoder(Tokenizer, json, characters, Infinity);
  %s
}"""


@pytest.fixture(scope="module")
def engine():
    return Ensemble.from_pretrained(demo_path())


@pytest.fixture(scope="module")
def host(site):
    with hosting(site) as server:
        yield server


@pytest.fixture(scope="module")
def ready(chromium, host):
    """A visit whose page has loaded."""
    with visiting(chromium, host.origin) as visit:
        load(visit)
        yield visit


def load(visit, place="/demo/index.html"):
    """Open the demo and wait until it can answer."""
    visit.page.goto(visit.origin + place)
    wait(visit)


def wait(visit):
    visit.page.locator("#classify:not([disabled]), #error:not([hidden])").first.wait_for()
    assert visit.text("#error") == ""


def answer(engine, sentence):
    """The engine's answer to a text or pair, or the reason why it refuses, as the page says it."""
    try:
        return engine.predict([tuple(sentence) if isinstance(sentence, list) else sentence])[0], None
    except InputError as error:
        return None, str(error).replace("text 0", "the text")


def shown(text):
    """As elements show a text: white space is one space."""
    return " ".join(text.split())


def test_the_list_is_long_and_has_what_is_refused(engine):
    refused = [reason for _, reason in (answer(engine, sentence) for sentence in SENTENCES) if reason]
    assert len(SENTENCES) - len(refused) >= 50
    for kind in ("is empty", "tokens; this model accepts at most 64", "half a character"):
        assert sum(kind in reason for reason in refused) >= 3


@pytest.mark.parametrize("part", range(4))
def test_labels_and_refusals_are_the_engines(engine, ready, part):
    for sentence in SENTENCES[part::4]:
        text, pair = sentence if isinstance(sentence, list) else (sentence, "")
        ready.fill("#text", text)
        ready.fill("#pair", pair)
        ready.classify()
        expected, reason = answer(engine, [text, pair] if pair else text)  # an empty field is no second text
        if reason:
            said = ready.text("#error")
            assert said and shown(reason).startswith(shown(said)), sentence
            assert ready.text("#result") == ""
        else:
            assert ready.text("#error") == "", sentence
            assert ready.text("#label") == expected.label, sentence
            assert ready.text("#score") == f"{100 * expected.score:.1f} %"
            votes = ready.bars("#votes > li")
            for vote in expected.votes:
                assert [bar for bar in votes if bar.startswith(f"{vote}: ")]
    assert ready.text("#milliseconds").endswith(" ms") or reason


def asked(visit, sentences):
    """What a worker of the page's own says of itself, and its answers."""
    pairs = [sentence if isinstance(sentence, list) else [sentence, None] for sentence in sentences]
    about, *answers = visit.page.evaluate(ALL, json.dumps(pairs))
    return about, answers


def compare(engine, sentences, answers):
    """Ids and refusals equal the engine's, logits and probabilities to rounding; the largest differences."""
    gaps = [0.0, 0.0]
    for sentence, found in zip(sentences, answers, strict=True):
        expected, reason = answer(engine, sentence)
        if reason:
            assert reason.startswith(found["error"]), sentence
            continue
        assert "error" not in found, (sentence, found["error"])
        encoded = engine.encode([tuple(sentence) if isinstance(sentence, list) else sentence])
        assert found["ids"] == encoded.input_ids[0].tolist(), sentence
        assert found["label"] == expected.label
        logits = np.array([member["logits"] for member in found["members"]])
        gaps[0] = max(gaps[0], np.abs(logits - engine.member_logits(*encoded.arrays)[:, 0]).max())
        shares = {label: np.float32(share) for label, share in expected.probabilities.items()}
        gaps[1] = max(gaps[1], *(abs(float(shares[label]) - share) for label, share in found["probabilities"].items()))
    assert max(gaps) <= ROUNDING
    return gaps


def test_ids_and_logits_are_the_engines(engine, ready):
    about, answers = asked(ready, SENTENCES)
    assert about["threads"] == 1 and about["sha"] == engine.config.tensors_sha256
    gaps = compare(engine, SENTENCES, answers)
    print(f"largest difference: {gaps[0]:g} of a logit, {gaps[1]:g} of a probability")


def test_threads_of_an_isolated_page_give_the_same(chromium, engine, site):
    headers = {"Cross_Origin_Opener_Policy": "same-origin", "Cross_Origin_Embedder_Policy": "require-corp"}
    with hosting(site, **headers) as host, visiting(chromium, host.origin) as visit:
        load(visit)
        about, answers = asked(visit, SENTENCES[::4])
        assert visit.page.evaluate("crossOriginIsolated")
        assert about["threads"] == min(4, visit.page.evaluate("navigator.hardwareConcurrency"))
        compare(engine, SENTENCES[::4], answers)


def test_every_character_becomes_the_engines_tokens(engine, ready):
    """In words and beside others, whatever this browser's Unicode says of it."""
    random = np.random.default_rng(0)
    # All that Unicode has given a meaning to; of the rest, private and empty, the edges.
    places = [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200)]
    codes = np.array([*places, *(plane * 0x10000 + 0xFFFF for plane in range(4, 17))])
    words = ["".join(f"a{chr(code)}b " for code in part) for part in np.array_split(codes, 2000)]
    mixed = random.choice(codes[codes < 0x3200], (5000, 8))
    texts = [*words, *("film" + "".join(map(chr, row)) for row in mixed)]
    texts = [text for text in texts if text.strip()]
    ask = """return JSON.parse(texts).map((text) => encode(text, null).ids.join(" "));"""
    found = ready.page.evaluate(ENCODER % ask, json.dumps(texts))
    tokenizer = Tokenizer.from_str(engine.tokenizer_json)
    wrong = [
        text
        for text, ids, row in zip(texts, found, tokenizer.encode_batch(texts), strict=True)
        if ids != " ".join(map(str, row.ids))
    ]
    assert wrong == []


def test_blank_texts_are_those_of_the_engine(ready):
    ask = """
      const refused = [];
      for (let code = 0; code < 0x10000; code += 1) {
        if (code >= 0xD800 && code < 0xE000) continue;
        try { encode(String.fromCharCode(code), null); } catch { refused.push(code); }
      }
      return refused;"""
    blank = ready.page.evaluate(ENCODER % ask)
    assert len(blank) > 20 and blank == [
        code for code in range(0x10000) if not 0xD800 <= code < 0xE000 and not chr(code).strip()
    ]


def test_it_works_without_network_once_loaded(chromium, site):
    with hosting(site) as host, visiting(chromium, host.origin) as visit:
        load(visit)
        assert "works without network" in visit.text("#status")
        visit.context.set_offline(True)
        host.server_close()  # so that nobody is there either for the browser's own look for a new version
        visit.page.reload()
        wait(visit)
        visit.fill("#text", "Absolutely wonderful acting from beginning to end.")
        visit.classify()
        assert visit.text("#label") == "positive" and len(visit.bars("#votes")) == 4
        assert "works without network" in visit.text("#status")
        visit.page.goto(f"{host.origin}/demo/")  # the other name of the page
        assert visit.text("h1") == "bebert"


def test_each_large_file_is_fetched_once_and_nothing_from_elsewhere(chromium, site):
    with hosting(site) as host, visiting(chromium, host.origin) as visit:
        load(visit)
        visit.classify()
        large = [path for path in host.asked if path.endswith((".onnx", ".wasm", ".json", ".mjs"))]
        assert sorted(large) == sorted(set(large)) and len(large) == 7
        assert {path for path in host.asked if not path.startswith("/demo/")} <= {"/favicon.ico"}
        assert visit.elsewhere() == []  # also those of the worker: it asked for the model
        assert f"{host.origin}/demo/model.onnx" in visit.asked
        total = sum(file["bytes"] for file in visit.page.evaluate("DEMO_FILES").values())
        assert f"{total / 1e6:.1f} MB" in visit.text("#status")


def test_a_new_version_comes_whole_when_no_page_of_the_old_one_is_open(chromium, site, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(site / "demo", folder)
    with hosting(folder) as host, visiting(chromium, host.origin) as visit:
        load(visit, "/")
        html = (folder / "index.html").read_bytes().replace(b"<h1>bebert</h1>", b"<h1>newer</h1>")
        (folder / "index.html").write_bytes(html)
        renew(folder)
        visit.page.reload()
        assert visit.text("h1") == "bebert"
        visit.page.evaluate(
            """async () => {
              const registration = await navigator.serviceWorker.getRegistration();
              await registration.update();
              for (let tries = 0; registration.waiting === null && tries < 300; tries += 1) {
                await new Promise((resolve) => setTimeout(resolve, 100));
              }
              if (registration.waiting === null) throw new Error("no new version");
            }"""
        )
        visit.page.goto("about:blank")
        visit.page.wait_for_timeout(1000)  # until the browser has let the old one go
        load(visit, "/")
        assert visit.text("h1") == "newer"
        assert len(visit.page.evaluate("caches.keys()")) == 1


def renew(folder):
    """List the files again, as the build does."""
    spec = importlib.util.spec_from_file_location("demo_build", ROOT / "docs" / "demo" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    (folder / "files.js").unlink()
    build.list_files(folder)


def test_it_is_readable_at_every_width(ready):
    ready.page.locator("summary").click()
    for width in WIDTHS:
        ready.page.set_viewport_size({"width": width, "height": 844})
        for text in ("a gripping, funny film", "x" * 5000, "good " * 500):
            ready.fill("#text", text)
            ready.fill("#pair", "")
            ready.classify()
            assert ready.overhang() == 0
        for scheme, paper in (("dark", "rgb(20, 22, 26)"), ("light", "rgb(255, 255, 255)")):
            ready.page.emulate_media(color_scheme=scheme)
            assert ready.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper


def test_it_is_used_by_keyboard_and_heard(ready):
    page = ready.page
    page.get_by_label("Text", exact=True).fill("dull")
    ready.fill("#pair", "")
    page.get_by_label("Text", exact=True).press("Control+Enter")
    page.get_by_text("Member 2: ").wait_for()
    page.locator('#label:text-is("negative")').wait_for()
    fields = []
    while "classify" not in fields and len(fields) < 4:  # the second text is between where it is shown
        page.keyboard.press("Tab")
        fields.append(page.evaluate("document.activeElement.id"))
    assert fields[-1] == "classify"
    page.keyboard.press("Enter")
    page.locator('#classify:not([aria-busy="true"])').wait_for()
    assert page.evaluate("document.activeElement.id") == "classify"
    assert page.locator("#result").get_attribute("aria-live") == "polite"
    assert page.locator("#status").get_attribute("role") == "status"
    assert page.locator("#error").get_attribute("role") == "alert"


def test_a_browser_without_webassembly_is_told(chromium, host):
    with visiting(chromium, host.origin) as visit:
        visit.context.add_init_script("delete self.WebAssembly")
        visit.page.goto(f"{host.origin}/demo/index.html")
        visit.page.locator("#error:not([hidden])").wait_for()
        assert "no WebAssembly" in visit.text("#error") and visit.text("#status") == "This page cannot answer."
        assert visit.page.locator("#classify").is_disabled()


@pytest.mark.parametrize("name", ["model.onnx", "ort-wasm-simd-threaded.wasm", "tokenizers.min.mjs", "characters.json"])
def test_a_missing_file_is_named(chromium, site, tmp_path, name):
    shutil.copytree(site / "demo", tmp_path / "demo")
    (tmp_path / "demo" / name).unlink()
    with hosting(tmp_path) as host, visiting(chromium, host.origin) as visit:
        visit.page.goto(f"{host.origin}/demo/index.html")
        visit.page.locator("#error:not([hidden])").wait_for()
        assert visit.text("#error") == f"{name} cannot be loaded: the server answers 404 File not found"


def test_a_damaged_file_answers_nothing(chromium, site, tmp_path):
    shutil.copytree(site / "demo", tmp_path / "demo")
    with (tmp_path / "demo" / "model.onnx").open("r+b") as stream:
        stream.seek(4_000_000)
        stream.write(b"other")
    with hosting(tmp_path) as host, visiting(chromium, host.origin) as visit:
        visit.page.goto(f"{host.origin}/demo/index.html")
        visit.page.locator("#error:not([hidden])").wait_for()
        assert "model.onnx cannot be loaded" in visit.text("#error")
