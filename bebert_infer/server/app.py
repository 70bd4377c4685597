"""Paths, and what each does with a request: an ASGI application."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.server.batching import Batcher
from bebert_infer.server.bearer import Bearer
from bebert_infer.server.body import BodyReader, Disconnected
from bebert_infer.server.facts import server_facts
from bebert_infer.server.linger import Lingering, Message, Receive, Scope, Send
from bebert_infer.server.metrics import CONTENT_TYPE, Metrics
from bebert_infer.server.openapi import description
from bebert_infer.server.page import page_routes
from bebert_infer.server.refusal import Refusal, error_body
from bebert_infer.server.reply import answer_body, votes_body
from bebert_infer.server.request import Dialect, Request, parse
from bebert_infer.server.settings import Settings
from bebert_infer.text.tokenizer import Text
from bebert_infer.text.windows import EncodedText, LongTexts

INLINE = 8192  # bytes of a body whose texts become token ids on the event loop: a millisecond; longer ones elsewhere


class Service:
    """One model, and everything that answers for it."""

    def __init__(self, ensemble: Ensemble, settings: Settings):
        ensemble.check_texts(settings.long)
        self.ensemble, self.settings = ensemble, settings
        self.metrics = Metrics()
        self.batcher = Batcher(ensemble, settings, self.metrics)
        self.bodies, self.bearer = BodyReader(settings), Bearer(settings.token)
        self.facts = server_facts(ensemble, settings)
        self.metrics.about({"model": self.facts["model_id"], "sha": self.facts["model_sha"]})
        self.stopping = False
        self._info = msgspec.json.encode(self.facts)
        self._openapi = msgspec.json.encode(description(self.facts))

    async def ask(self, scope: Scope, receive: Receive, dialect: Dialect) -> tuple[Request, list[EncodedText]]:
        """What a request asks, with its token ids. Raises Refusal, Disconnected."""
        body = await self.bodies.read(scope, receive)
        if len(body) <= INLINE:
            return self._understood(body, dialect)
        return await asyncio.to_thread(self._understood, body, dialect)

    def _understood(self, body: bytes, dialect: Dialect) -> tuple[Request, list[EncodedText]]:
        request = parse(body, dialect, self.settings, self.ensemble.config)
        names = ["inputs"] if request.single else [f"inputs[{index}]" for index in range(len(request.texts))]
        return request, [
            self._encoded(text, request.long, name) for text, name in zip(request.texts, names, strict=True)
        ]

    def _encoded(self, text: Text, long: LongTexts, name: str) -> EncodedText:
        try:
            # A text that is too long is cut first, to know by how much; the error then speaks of requests.
            found = self.ensemble.encode_text(text, long if long.policy == "windows" else LongTexts("truncate"), name)
        except InputError as error:
            raise Refusal(422, str(error)) from None
        if found.cut and long.policy == "error":
            most = len(found.windows[0][0])
            raise Refusal(
                422,
                f"{name} has {most + found.cut} tokens; this model accepts at most {most}: shorten it, or send "
                '"truncate": true to cut its end off',
            )
        return found

    async def classify(self, scope: Scope, receive: Receive, dialect: Dialect) -> bytes:
        """The answer to `POST /` and `POST /predict`. Raises Refusal, Disconnected."""
        request, encoded = await self.ask(scope, receive, dialect)
        return answer_body(request, await self.batcher.answers(encoded, request.early_exit))

    async def votes(self, scope: Scope, receive: Receive) -> bytes:
        """The answer to `POST /votes`: one text, and what every member says. Raises Refusal, Disconnected."""
        started = time.perf_counter()
        request, encoded = await self.ask(scope, receive, "hub")
        if not request.single or request.early_exit is not None:
            raise Refusal(422, "votes are shown of one text, and of all members: send one, without early_exit")
        ((answer, members),) = await self.batcher.answers(encoded, votes=True)
        milliseconds = 1e3 * (time.perf_counter() - started)
        return votes_body(answer, members, self.ensemble.alphas.tolist(), milliseconds)

    def health(self) -> bytes:
        """Raise Refusal, 503, unless texts are answered, and new ones may come."""
        if self.stopping or not self.batcher.alive:
            raise Refusal(503, "the server is ending" if self.stopping else "the engine's thread has ended")
        return b'{"status":"ok"}'

    def info(self) -> bytes:
        """The model, the engine and the limits as JSON."""
        return self._info

    def openapi(self) -> bytes:
        """The description of all paths as JSON."""
        return self._openapi


class Answering:
    """An ASGI endpoint around a coroutine that returns JSON, or raises Refusal."""

    def __init__(self, service: Service, work: Callable[[Scope, Receive], Awaitable[bytes]], open: bool = False):
        """Open : needs no token."""
        self._service, self._work, self._open = service, work, open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if not self._open:
                self._service.bearer.check(scope["headers"])
            status, body, more = 200, await self._work(scope, receive), {}
        except Refusal as refusal:
            status, body, more = refusal.status, refusal.json(), refusal.headers
        except Disconnected:
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def make_app(service: Service) -> Lingering:
    """The application: every answer JSON but for the page and the metrics, every error one sentence."""

    def hub(scope: Scope, receive: Receive) -> Awaitable[bytes]:
        return service.classify(scope, receive, "hub")

    def tei(scope: Scope, receive: Receive) -> Awaitable[bytes]:
        return service.classify(scope, receive, "tei")

    async def metrics(request: HttpRequest) -> Response:
        try:
            service.bearer.check(request.scope["headers"])
        except Refusal as refusal:
            return Response(refusal.json(), refusal.status, refusal.headers, "application/json")
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    posts = (("/", hub), ("/predict", tei), ("/votes", service.votes))
    gets = (("/health", service.health, True), ("/info", service.info, False), ("/openapi.json", service.openapi, True))
    routes = [
        *(Route(path, Answering(service, work), methods=["POST"]) for path, work in posts),
        *(Route(path, Answering(service, _ready(work), open), methods=["GET"]) for path, work, open in gets),
        Route("/metrics", metrics),
        *page_routes(),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        service.batcher.start()
        yield
        await service.batcher.finish()

    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # a path is right or wrong
    return Lingering(Measured(app, service.metrics, {route.path for route in routes}))


def _ready(work: Callable[[], bytes]) -> Callable[[Scope, Receive], Awaitable[bytes]]:
    async def answer(scope: Scope, receive: Receive) -> bytes:
        return work()

    return answer


class Measured:
    """Counts requests, their status and seconds, around an application; `paths` are those that it has."""

    def __init__(self, app: Starlette, metrics: Metrics, paths: set[str]):
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 499  # as others call it: the client went before there was an answer

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request_done(path, status, time.perf_counter() - started)


async def _http_error(request: HttpRequest, error: HTTPException) -> Response:
    """What the router refuses: unknown paths, other methods."""
    paths: Sequence[str] = sorted(set(_paths(request)))
    sentence = f'there is no "{request.url.path:.80}" here; the paths are {", ".join(paths)}'
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        sentence = f"{request.url.path} takes {allowed}, not {request.method:.20}"
    elif error.status_code != 404:
        sentence = error.detail
    return Response(error_body(error.status_code, sentence), error.status_code, error.headers, "application/json")


def _paths(request: HttpRequest) -> Iterator[str]:
    for route in request.app.routes:
        yield route.path


async def _failed(request: HttpRequest, error: Exception) -> Response:
    """A fault of ours: the traceback goes to the log."""
    return Response(error_body(500, "the server failed; its log says more"), 500, media_type="application/json")
