"""Answer so that a client reads it, though it may still be sending.

A connection that is closed while bytes of the client are unread is reset, and the answer is lost with it. So an answer
that comes before the end of the request's body goes out whole, and what still comes is thrown away for a moment before
the connection closes (nginx: lingering close).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

LONGEST, IDLE = 10.0, 2.0  # seconds of listening in all, and between two parts

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Lingering:
    """An ASGI application around another one."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; close after an answer before its end, once its client has had time to read it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = closing = False

        async def heard() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def said(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start":
                closing = not complete and _has_body(scope["headers"])
                if closing:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _throw_away(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, heard, said)


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


async def _throw_away(receive: Receive) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LONGEST
    try:
        while True:
            async with asyncio.timeout(max(0, min(IDLE, deadline - loop.time()))):
                message = await receive()
            if not message.get("more_body", False):  # its end, or the client is gone
                return
    except TimeoutError:
        return
