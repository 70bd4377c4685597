"""The body of a request, read within limits of bytes, of time, and of the bytes of all bodies together."""

import asyncio

from bebert_infer.server.linger import Message, Receive, Scope
from bebert_infer.server.refusal import Refusal, overloaded
from bebert_infer.server.settings import Settings


class Disconnected(Exception):
    """The client is gone; nobody waits for an answer."""


class BodyReader:
    """Reads bodies of one server, and knows how many bytes are held."""

    def __init__(self, settings: Settings):
        self._settings, self._held = settings, 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body.

        Raises Refusal: 413 beyond the limit (by its header, before a byte is read, where there is one), 408 for a slow
        sender, 415 for a coded body, 503 where all bodies together are too many bytes. Raises Disconnected.
        """
        self._check_headers(scope["headers"])
        message = await self._next(receive, self._settings.read_timeout)
        if not message.get("more_body", False):  # nearly all: it came with its head
            return bytes(self._checked(message.get("body", b"")))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.read_timeout
        parts = bytearray()
        try:
            while True:
                part = message.get("body", b"")
                self._held += len(part)
                parts += part
                self._checked(parts)
                if self._held > self._settings.held_bytes:
                    raise overloaded("this server holds the bodies of too many requests")
                if not message.get("more_body", False):
                    return bytes(parts)
                message = await self._next(receive, deadline - loop.time())
        finally:
            self._held -= len(parts)

    async def _next(self, receive: Receive, seconds: float) -> Message:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                message = await receive()
        except TimeoutError:
            raise Refusal(
                408, f"the body did not come within {self._settings.read_timeout:g} s; send it faster"
            ) from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        return message

    def _check_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name == b"content-length":
                if int(value) > self._settings.body_bytes:
                    raise self._too_large(f"{int(value):,} bytes")
            elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise Refusal(415, f'the body has the Content-Encoding "{_shown(value)}"; send it as it is')
            elif name == b"content-type":
                _check_charset(value)

    def _checked(self, body: bytes | bytearray) -> bytes | bytearray:
        if len(body) > self._settings.body_bytes:
            raise self._too_large("more bytes")
        return body

    def _too_large(self, size: str) -> Refusal:
        limit = self._settings.body_bytes
        return Refusal(413, f"the body has {size}; accepted are {limit:,} (--max-body): send fewer texts at a time")


def _check_charset(value: bytes) -> None:
    for part in value.lower().split(b";")[1:]:
        key, _, charset = part.partition(b"=")
        if key.strip() == b"charset" and charset.strip(b' "') not in (b"utf-8", b"utf8", b"us-ascii", b""):
            raise Refusal(415, f'the body has the charset "{_shown(charset)}"; JSON is UTF-8')


def _shown(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")[:80]
