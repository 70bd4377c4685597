"""Debian's Chromium for tests, and a server of files for it to visit."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = os.environ.get("BEBERT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = (1280, 390)  # a laptop's window, and a phone
# Whatever a page asks, only this machine can be reached.
OPTIONS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


class Visit:
    """A page in a context of its own, which remembers each address that it, its workers and its scripts asked for."""

    def __init__(self, browser, origin: str, *, width: int = 1280):
        self.origin = origin
        self.context = browser.new_context(viewport={"width": width, "height": 844})
        self.context.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.on("weberror", lambda fault: self.faults.append(str(fault.error)))
        self.page = self.context.new_page()

    def elsewhere(self) -> list[str]:
        """Addresses asked for that are not of the origin."""
        return [url for url in self.asked if not url.startswith((self.origin, "data:"))]

    def overhang(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def fill(self, field: str, text: str) -> None:
        """Put a text into a field as it is: half characters and control characters, too."""
        self.page.locator(field).evaluate(
            "(field, text) => { field.value = String.fromCharCode(...text); }", _units(text)
        )

    def classify(self) -> None:
        """Press the button and wait for the answer or the error."""
        self.page.locator("#classify").click()
        self.page.locator('#classify:not([aria-busy="true"])').wait_for()
        self.page.locator("#result:not([hidden]), #error:not([hidden])").first.wait_for()

    def text(self, place: str) -> str:
        """What is shown in a place; empty where it is hidden."""
        found = self.page.locator(place)
        return found.inner_text() if found.is_visible() else ""

    def bars(self, place: str) -> list[str]:
        """What the bars in a place say to those who do not see them."""
        bars = self.page.locator(f"{place} svg")
        return [bars.nth(index).get_attribute("aria-label") for index in range(bars.count())]


def _units(text: str) -> list[int]:
    raw = text.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(raw[place : place + 2], "little") for place in range(0, len(raw), 2)]


@contextmanager
def visiting(browser, origin: str, **options) -> Iterator[Visit]:
    """A visit after which nothing was asked of another host, and no script failed."""
    visit = Visit(browser, origin, **options)
    try:
        yield visit
        assert visit.asked and visit.elsewhere() == []
        assert visit.faults == []
    finally:
        visit.context.close()


class Files(SimpleHTTPRequestHandler):
    """Files of a folder, with headers that the server was given."""

    def end_headers(self) -> None:
        """Called for each answer."""
        for name, value in self.server.extra.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        """Called for each request."""
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hosting(folder: Path, **extra: str) -> Iterator[ThreadingHTTPServer]:
    """A server of a folder with `origin`, and `asked`, the paths; names of headers with _ for -."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))
    server.extra = {name.replace("_", "-"): value for name, value in extra.items()}
    server.asked = []
    server.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
