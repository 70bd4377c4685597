"""The page to try the model, and its style and scripts: files of this package, which ask no other host for anything."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# Nothing but what this server sends, no form to elsewhere, no frame around it: the browser holds it to that.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/answer.js": ("answer.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """The page at / and what belongs to it. It needs no token: it holds nothing, and asks for one."""
    return [_route(path, *what) for path, what in FILES.items()]


def _route(path: str, name: str, kind: str) -> Route:
    body = files("bebert_infer.server").joinpath(name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(body, headers=HEADERS | {"Content-Type": kind})

    return Route(path, answer, methods=["GET"])
