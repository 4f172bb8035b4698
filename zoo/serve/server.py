"""`zoo serve` from Python: workers, signals and sockets around the application; a bounded number of connections."""

import asyncio
import functools
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from zoo.errors import explained
from zoo.messages import Lines, log
from zoo.resolve import onnx_file
from zoo.serve.app import create_app
from zoo.serve.settings import Settings

HEADER_SECONDS = 10.0  #: How long the headers of a request may take to arrive
FLUSH_SECONDS = 10.0  #: How long a client may take to read the last of an answer
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\n\r\n"
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections are open"}'
)
DRAIN_SECONDS = 5  #: Beyond a request's time limit, how long a worker told to stop waits for those under way
START_SECONDS = 60  #: How long a worker may take to load, or not answer; in uvicorn's 5 a busy machine loads no model
BACKLOG = 1024  #: Connections that the system keeps until a worker takes them


class Connection(H11Protocol):
    """One connection of a client."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) <= self.app_state["limits"].connections:
            self._watch()
            return
        self.app_state["metrics"].event("refused_connections")
        transport.write(FULL)
        self._close()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)

    def _watch(self) -> None:
        """Sets the deadline for a request's headers while they are awaited, and clears it once they are whole."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._deadline is None:
            seconds = min(HEADER_SECONDS, self.app_state["limits"].max_seconds)
            self._deadline = self.loop.call_later(seconds, self._close)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        self.transport.close()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; requests that have arrived by then are answered first.

    InputError where the model, the gallery, the token or the port cannot be used.
    """
    settings = replace(settings, model=onnx_file(settings.model).resolve())
    cv2.setNumThreads(settings.threads_each)
    listening = listen(settings.host, settings.port)
    with listening, tempfile.TemporaryDirectory(prefix="zoo-serve-") as counts:
        app = create_app(settings, Path(counts))
        if settings.workers == 1:
            server = uvicorn.Server(_config(app, settings))
            for number in (signal.SIGTERM, signal.SIGINT):  # before uvicorn looks, and once more after the last answer
                signal.signal(number, lambda *_: setattr(server, "should_exit", True))
            run: Callable[[], None] = functools.partial(server.run, [listening])
        else:
            del app  # each worker has its own
            factory = functools.partial(worker_app, settings, Path(counts), log.getEffectiveLevel())
            run = Workers(_config(factory, settings, factory=True), [listening]).run
        host, port = listening.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        log.info("serving %s at http://%s:%d/", Path(str(settings.model)).name, where, port)
        run()


class Workers(Multiprocess):
    """Worker processes that share a listening socket."""

    def terminate_all(self) -> None:
        """Tells the workers to stop; the parent's socket closes, or new connections would wait for nobody."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def worker_app(settings: Settings, counts: Path, level: int) -> ASGIApp:
    """The application in a process of its own, which logs as its parent does."""
    log.addHandler(Lines())
    log.setLevel(level)
    cv2.setNumThreads(settings.threads_each)
    return create_app(settings, counts)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; InputError where the address is not to be had."""
    wrong, advice = (OSError, OverflowError, UnicodeError), "choose another --port or --host"
    with explained(f"cannot listen on {host} port {port}", *wrong, advice=advice):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio sends small answers at once only over what is stated to be TCP; else they wait 40 ms for a reply
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


def _config(app: Any, settings: Settings, factory: bool = False) -> uvicorn.Config:
    options: dict[str, Any] = {"factory": factory, "workers": settings.workers, "backlog": BACKLOG, "ws": "none"}
    options |= {"access_log": False, "log_level": "warning", "proxy_headers": False, "server_header": False}
    options |= {"timeout_keep_alive": 5, "timeout_worker_healthcheck": START_SECONDS}
    options["timeout_graceful_shutdown"] = int(2 * settings.limits.max_seconds) + DRAIN_SECONDS
    return uvicorn.Config(app, http=Connection, **options)
