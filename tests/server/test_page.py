"""The page is of this package alone: no other host, nothing inline, a label for every field, ids for what is shown."""

import re
from html.parser import HTMLParser

import pytest

for package in ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")

from serving import exchange, request, serving

NAMES = ("/page.css", "/page.js", "/answer.js")


class Elements(HTMLParser):
    """All elements with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Called for each."""
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def files():
    with serving() as server:
        found = {path: exchange(server.port, request(path, method="GET")) for path in ("/", *NAMES)}
        head = exchange(server.port, request("/page.css", method="GET"))
        assert head[0] == 200
    return found


def test_the_browser_is_told_to_ask_nobody_else(files):
    for status, headers, _ in files.values():
        assert status == 200
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
    for script in ("/page.js", "/answer.js"):  # a module of another type would not be run
        assert files[script][1]["content-type"].startswith("text/javascript")


def test_nothing_names_another_host_or_needs_what_the_policy_forbids(files):
    for path, (_, _, body) in files.items():
        text = body.decode().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE), path
        assert "innerHTML" not in text and "eval(" not in text
    for tag, attributes in Elements(files["/"][2].decode()).found:
        assert "style" not in attributes and tag != "style"
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "script" or attributes["src"] == "page.js"


def test_fields_have_labels_and_results_are_announced(files):
    elements = Elements(files["/"][2].decode()).found
    named = {attributes["for"] for tag, attributes in elements if tag == "label"}
    fields = {attributes["id"] for tag, attributes in elements if tag in ("textarea", "input")}
    assert fields == named == {"text", "pair", "token"}
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    scripts = files["/page.js"][2].decode() + files["/answer.js"][2].decode()
    used = set(re.findall(r'find\("(\w+)"\)', scripts))
    assert used <= set(ids), "the script finds what it asks for"
    by_id = {attributes["id"]: attributes for _, attributes in elements if "id" in attributes}
    assert by_id["result"]["aria-live"] == "polite" and by_id["error"]["role"] == "alert"
    assert any(tag == "html" and attributes.get("lang") == "en" for tag, attributes in elements)
    assert any(attributes.get("name") == "viewport" for _, attributes in elements)
    assert "prefers-color-scheme: dark" in files["/page.css"][2].decode()
