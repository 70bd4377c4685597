"""HTTP on one connection: uvicorn's, with bounds on a request's head, and an end that loses nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bebert_infer.server.linger import IDLE
from bebert_infer.server.refusal import Refusal, overloaded
from bebert_infer.server.settings import Settings

HEAD_BYTES = 32768  # of the first line and all headers


class Connections:
    """What the connections of one server share."""

    def __init__(self, settings: Settings):
        self.settings, self.stopping = settings, False


class Protocol(HttpToolsProtocol):
    """One connection. `connections` is set by `protocol_of`."""

    connections_state: Connections
    _late: asyncio.TimerHandle | None = None
    _head = 0  # bytes since the end of the request before, or of its head
    _in_body = False
    _refused = False  # answered without the application; what comes now is thrown away
    last_bytes = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet a client, unless there are too many."""
        super().connection_made(transport)
        self.last_bytes = self.loop.time()
        self._wait_for_head()
        most = self.connections_state.settings.connections
        if len(self.connections) > most:
            self._refuse(overloaded(f"{most:,} clients are connected already (--max-connections)"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was waited for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client; in pieces, so that no head is parsed that is much longer than it may be."""
        self.last_bytes = self.loop.time()
        for start in range(0, len(data), HEAD_BYTES):
            if self._refused or self.transport.is_closing():
                return
            self._take(data[start : start + HEAD_BYTES])

    def _take(self, data: bytes) -> None:
        if not self._in_body:
            self._head += len(data)
        super().data_received(data)
        if self._in_body or self._refused:
            return
        if self._head > HEAD_BYTES:
            self._refuse(Refusal(431, f"the request's head has more than {HEAD_BYTES:,} bytes; send fewer headers"))
        elif self._head and self._late is None:
            self._wait_for_head()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a client that sends nothing more and may still read. True: the connection stays open for it."""
        if self._refused:
            return None
        if self._in_body and not self.cycle.response_complete:
            self._refuse(Refusal(400, "the body ended before the bytes that its head had announced"))
        elif self._head:
            self._refuse(Refusal(400, "the request ended in the middle of its head"))
        elif not self.idle:
            self.end()
            return True
        return None

    def on_headers_complete(self) -> None:
        """The head is there; the body has its own time (`body.py`)."""
        self._stop_waiting()
        self._head, self._in_body = 0, True
        super().on_headers_complete()
        if self.connections_state.stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is there."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """For what the parser refuses."""
        self._refuse(Refusal(400, "this is no HTTP request that the server understands"))

    def end(self) -> None:
        """The server ends: the answer that is due is the last one on this connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    @property
    def idle(self) -> bool:
        """Whether no request is under way, not even its head."""
        return not self._head and not self._in_body and (self.cycle is None or self.cycle.response_complete)

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(self.connections_state.settings.read_timeout, self._too_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        seconds = self.connections_state.settings.read_timeout
        self._refuse(Refusal(408, f"no request came within {seconds:g} s; send it faster"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close once the client has had time to read; only close within an answer.

        What comes until then is thrown away: a connection with unread bytes would be reset, and the answer lost.
        """
        self._refused = True
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application has nothing more to say
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        body = refusal.json()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{name}: {value}\r\n".encode() for name, value in (headers | refusal.headers).items()]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))
        self.transport.write_eof()
        self._late = self.loop.call_later(IDLE, self.transport.close)


def protocol_of(connections: Connections) -> type[Protocol]:
    """The protocol of one server, as uvicorn wants it: a class."""
    shared: dict[str, Any] = {"connections_state": connections}
    return type("ServerProtocol", (Protocol,), shared)
