"""Connections that cost little: a bounded number, and none that dawdles over its headers or its answer."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo.serve.settings import Limits

HEADER_SECONDS = 10.0  #: How long the headers of a request may take to arrive
FLUSH_SECONDS = 10.0  #: How long a client may take to read the last of an answer
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\n\r\n"
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections are open"}'
)


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with the limits; worker processes get it by pickle."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        super().__init__(app, http=Connection, **options)
        self.limits = limits


class Connection(H11Protocol):
    """One connection of a client."""

    config: ServerConfig
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.config.limits.connections:
            if metrics := self.app_state.get("metrics"):
                metrics.event("refused_connections")
            transport.write(FULL)
            self._close()
            return
        self._watch()

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
            seconds = min(HEADER_SECONDS, self.config.limits.max_seconds)
            self._deadline = self.loop.call_later(seconds, self._close)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        self.transport.close()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)
