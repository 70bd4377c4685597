"""The page of `bebert serve` in a browser: answer, votes as bars, milliseconds; the token, errors, both widths."""

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from browser import WIDTHS, visiting
from serving import MODEL, ask, serving

from bebert_infer import Ensemble

TOKEN = "not-a-secret"


@pytest.fixture(scope="module")
def server(chromium):
    with serving() as server:
        yield server


def test_an_answer_its_votes_as_bars_and_the_time(chromium, server):
    expected = Ensemble.from_pretrained(MODEL).predict(["The food came cold."])[0]
    with visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        visit.page.locator("#model", has_text="2 members").wait_for()
        visit.fill("#text", "The food came cold.")
        visit.classify()
        assert visit.text("#label") == expected.label
        assert visit.text("#score") == f"{100 * expected.score:.1f} %"
        status, votes = ask(server.port, {"inputs": "The food came cold."}, "/votes")
        assert status == 200
        for index, member in enumerate(votes["members"]):
            shares = sorted(member["probabilities"].items(), key=lambda entry: -entry[1])
            assert visit.bars(f'[data-member="{index}"]') == [f"{name}: {100 * share:.1f} %" for name, share in shares]
            widths = visit.page.locator(f'[data-member="{index}"] rect.share')
            drawn = [float(widths.nth(place).get_attribute("width")) for place in range(len(shares))]
            assert drawn == pytest.approx([100 * share for _, share in shares])
        number, unit = visit.text("#milliseconds").split()
        assert unit == "ms" and 0 < float(number) < 30_000


def test_a_pair_is_read_as_a_pair(chromium, server):
    pair = ("what a film", "it was dull")
    expected = Ensemble.from_pretrained(MODEL).predict([pair])[0]
    with visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        visit.page.get_by_label("Text", exact=True).fill(pair[0])
        visit.page.get_by_text("Second text of a pair").click()
        visit.page.get_by_label("Second text", exact=True).fill(pair[1])
        visit.page.get_by_label("Second text", exact=True).press("Control+Enter")
        visit.page.locator("#result:not([hidden])").wait_for()
        assert (visit.text("#label"), visit.text("#score")) == (expected.label, f"{100 * expected.score:.1f} %")


def test_the_token_is_asked_for_and_used(chromium):
    with serving(BEBERT_TOKEN=TOKEN) as server, visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        visit.page.get_by_label("Token of this server").wait_for()
        visit.classify()
        assert visit.text("#error") and visit.text("#result") == ""
        visit.page.get_by_label("Token of this server").fill("another")
        visit.classify()
        assert visit.text("#error") and visit.text("#result") == ""
        visit.page.get_by_label("Token of this server").fill(TOKEN)
        visit.classify()
        assert visit.text("#label") == "positive" and visit.text("#error") == ""
        assert not [url for url in visit.asked if TOKEN in url]


def test_what_is_wrong_is_said(chromium):
    with serving() as server, visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        for text in ("good " * 100, " ", "x" * 20_001):
            visit.fill("#text", text)
            visit.classify()
            status, body = ask(server.port, {"inputs": text}, "/votes")
            assert status >= 400
            assert visit.text("#error") == body["error"] and visit.text("#result") == ""
        assert server.end() == 0
        visit.fill("#text", "good")
        visit.classify()
        assert visit.text("#error").startswith("The server did not answer")


def test_what_a_text_holds_is_shown_as_text(chromium, server):
    with visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        visit.fill("#text", "<img src=x onerror=document.title='gone'><script>document.title='gone'</script>")
        visit.classify()
        assert visit.text("#label") and visit.page.title() == "bebert"


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_at_every_width(chromium, server, width):
    with visiting(chromium, server.url, width=width) as visit:
        visit.page.goto(server.url)
        visit.page.locator("#model", has_text="2 members").wait_for()
        visit.page.locator("summary").click()
        for text in ("a gripping, funny film", "good " * 500, "x" * 5000):
            visit.fill("#text", text)
            visit.classify()
            assert visit.overhang() == 0
        for scheme, paper in (("dark", "rgb(20, 22, 26)"), ("light", "rgb(255, 255, 255)")):
            visit.page.emulate_media(color_scheme=scheme)
            assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper


def test_a_burst_of_clicks_asks_once_at_a_time(chromium, server):
    with visiting(chromium, server.url) as visit:
        visit.page.goto(server.url)
        visit.page.locator("#model", has_text="2 members").wait_for()
        asked = visit.page.evaluate(
            """async () => {
              const before = performance.getEntriesByName(new URL("votes", location).href).length;
              for (let count = 0; count < 5; count += 1) document.getElementById("classify").click();
              while (document.getElementById("classify").getAttribute("aria-busy") === "true") {
                await new Promise((resolve) => setTimeout(resolve, 20));
              }
              return performance.getEntriesByName(new URL("votes", location).href).length - before;
            }"""
        )
        assert asked == 1
