"""Start a server, and end it so that no request is lost."""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.server.app import Service, make_app
from bebert_infer.server.protocol import Connections, Protocol, protocol_of
from bebert_infer.server.settings import Settings

QUIET = 0.25  # seconds without a byte after which an idle connection is closed at the end
TOKEN = "BEBERT_TOKEN"


def serve(
    ensemble: Ensemble, settings: Settings, host: str, port: int, started: Callable[[str], None] = lambda url: None
) -> None:
    """Answer on host and port (0: any free one) until SIGTERM or SIGINT, then finish what was taken, and return.

    `started` is told the URL once requests are answered. Raises InputError for an address that cannot be taken.
    """
    listener = listen(host, port)
    _allow_files(2 * settings.connections + 64)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    connections = Connections(settings)
    service = Service(ensemble, settings)
    config = uvicorn.Config(
        make_app(service),
        http=protocol_of(connections),
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.grace,  # type: ignore[arg-type]
    )
    server = Server(config, service, connections, lambda: started(_url(listener)))
    # uvicorn gives the signal that ended it to the handlers from before: here nobody is to end by it any more.
    before = {number: signal.signal(number, _nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Server(uvicorn.Server):
    """uvicorn's server, with an end that gives every client its answer."""

    def __init__(self, config: uvicorn.Config, service: Service, connections: Connections, started: Callable[[], None]):
        super().__init__(config)
        self._service, self._connections, self._started = service, connections, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, answer what is under way, close what is idle; then as the base.

        A client with an open connection may have sent a request that is not read yet, so connections are closed only
        after an answer that says so, or once they have been quiet for a moment.
        """
        self._service.stopping = self._connections.stopping = True
        await asyncio.sleep(0)  # connections that the system has taken for us already are ours
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        began, deadline = loop.time(), loop.time() + self._connections.settings.grace
        for connection in self._open():
            connection.end()
        while self._open() and loop.time() < deadline and not self.force_exit:
            for connection in self._open():
                if connection.idle and loop.time() - max(began, connection.last_bytes) > QUIET:
                    connection.transport.close()
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _open(self) -> list[Protocol]:
        return [one for one in self.server_state.connections if isinstance(one, Protocol)]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError where the address cannot be taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}; choose another --host "
            "or --port"
        ) from None
    return found


def _allow_files(count: int) -> None:
    """Let this process open so many files, as far as the system lets it: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def read_token(file: Path | None) -> str | None:
    """The token of a file, without the end of its line, else of BEBERT_TOKEN, else None. Raises InputError."""
    if file is None:
        token = os.environ.get(TOKEN)
        if token is not None and not token.strip():
            raise InputError(f"{TOKEN} is empty; set it to a token, or leave it out")
        return token
    text = file.read_text("utf-8").strip()
    if not text or "\n" in text:
        raise InputError(f'"{file}" holds {"several lines" if text else "no token"}; accepted is one line')
    return text


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _nothing(number: int, frame: FrameType | None) -> None:
    """For signals that have done their work."""
