"""What stands before every request: Host, Origin, token and size are checked, the body is read within its limits.

The body is in memory, whole, before anything looks at it, and never on the disk. What is logged and counted of a
request is its method, its path as a pattern, the status, the seconds and the bytes: no name, no picture, no address.
"""

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zoo.messages import log
from zoo.serve.metrics import ROUTES, Metrics
from zoo.serve.problems import Problem, busy
from zoo.serve.settings import LOOPBACK, Limits, Settings

T = TypeVar("T")
READING = ("GET", "HEAD", "OPTIONS")
OPEN = ("/assets/", "/healthz", "/openapi.json")
"""What is read below these, and the page itself, tells nothing about anybody and needs no token."""
METHODS = (*READING, "POST", "PUT", "PATCH", "DELETE")

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """Runs work in `limits.concurrent` threads; `limits.queue` more may wait, each at most `limits.max_seconds`."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.waiting, self.running = limits, 0, 0
        self.mean_seconds = 0.1  #: The moving average of what one piece of work takes
        self._pool = ThreadPoolExecutor(limits.concurrent, "compute")
        self._slots = asyncio.Semaphore(limits.concurrent)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; 503 where the queue is full, and where waiting or computing takes too long.

        Work that takes too long keeps its slot until it ends, as a thread cannot be stopped.
        """
        limits = self.limits
        if self.waiting + self.running >= limits.concurrent + limits.queue:
            raise busy(self.expected_wait, f"{self.waiting} requests are waiting already; try again later")
        self.waiting += 1
        try:
            await asyncio.wait_for(self._slots.acquire(), limits.max_seconds)
        except TimeoutError:
            why = f"no turn came within {limits.max_seconds:g} seconds; try again later"
            raise busy(self.expected_wait, why) from None
        finally:
            self.waiting -= 1
        self.running += 1
        started, future = time.monotonic(), asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(lambda _: self._done(started))
        try:
            return await asyncio.wait_for(asyncio.shield(future), limits.max_seconds)
        except TimeoutError:
            if future.done():  # the work itself ran into a time limit
                raise
            why = f"no answer was ready within {limits.max_seconds:g} seconds; send a smaller picture"
            raise busy(self.expected_wait, why) from None

    @property
    def expected_wait(self) -> float:
        """Seconds until whoever comes now would have a turn."""
        return (self.waiting + 1) * self.mean_seconds / self.limits.concurrent

    def close(self) -> None:
        """Waits for what is being computed."""
        self._pool.shutdown(wait=True)

    def _done(self, started: float) -> None:
        self.running -= 1
        self.mean_seconds += 0.1 * (time.monotonic() - started - self.mean_seconds)
        self._slots.release()


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._token = _hashed(token) if (token := settings.token()) else b""
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, headers = time.monotonic(), Headers(scope=scope)
        body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        seen = SimpleNamespace(status=0, size=0, unread=body)  # size: bytes of the body that have arrived

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                told = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    told.setdefault(name, value)
                if seen.unread:
                    told["Connection"] = "close"
            await send(message)

        try:
            self.check(scope, headers)
            await self.app(scope, await self._read(headers, receive, seen), answer)
        except Problem as problem:
            if seen.unread:
                await _discard(receive, self.settings.limits.body_bytes)
            await problem.response()(scope, receive, answer)
        except ClientDisconnect:
            self.metrics.event("aborted")
        finally:
            self._buffered -= seen.size
            if seen.status:
                seconds, path = time.monotonic() - started, getattr(scope.get("route"), "path", "none")
                route = path if path in ROUTES else "none"
                method = scope["method"] if scope["method"] in METHODS else "-"
                self.metrics.request(route, seen.status, seconds)
                log.info("%s %s %d %.1f ms %d bytes", method, route, seen.status, 1e3 * seconds, seen.size)

    def check(self, scope: MutableMapping[str, Any], headers: Headers) -> None:
        """Problem unless the request names this server, comes from its own page or from a program, and is allowed."""
        # 421: a page elsewhere may have its name resolve to this machine
        hosts, local = headers.getlist("host"), (scope.get("server") or ("",))[0]
        found = _hostname(hosts[0]) if len(hosts) == 1 else None
        if not found or found not in {*LOOPBACK, *map(str.lower, self.settings.allow_host), self.settings.host, local}:
            told = f"expected the name or the address of this server in Host, found {'another' if found else 'none'}"
            advice = "start it with --allow-host NAME for each name it is reached by"
            raise Problem(421 if found else 400, f"{told}; {advice}")
        path, method = scope["path"], scope["method"]
        if method in READING and (path == "/" or path.startswith(OPEN)):
            return
        # what a browser sends on behalf of a page of another origin; programs send neither header
        site, origins = headers.get("sec-fetch-site", "none"), headers.getlist("origin")
        own = all(origin.partition("://")[2].lower() == hosts[0].lower() for origin in origins)
        if site not in ("same-origin", "none") or not own:
            wanted = "expected a request of this server's own page or of a program"
            raise Problem(403, f"{wanted}, found one of another page")
        changes = path.startswith("/people/") and method not in READING
        if changes and not self.settings.enrol:
            raise Problem(403, "this server is read-only: it was started without --enrol")
        if not changes and (self.settings.is_loopback or self.settings.no_auth):
            return
        given = headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if not (hmac.compare_digest(_hashed(token.strip()), self._token) and scheme.lower() == "bearer"):
            self.metrics.event("refused_tokens")
            found = f"found {'another' if token else 'none'}; it is the first line of the file after --token-file"
            told = f"expected the server's token in the header Authorization: Bearer TOKEN, {found}"
            raise Problem(401, told, {"WWW-Authenticate": "Bearer"})

    async def _read(self, headers: Headers, receive: Receive, seen: SimpleNamespace) -> Receive:
        """A `receive` with the whole body; 413, 408 or 503 for one that is too large, too slow or one too many."""
        limits, length = self.settings.limits, headers.get("content-length", "")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "expected a body without Content-Encoding, found a compressed one; send it as it is")
        most = f"at most {limits.max_body:g} MB in a request"
        too_large = Problem(413, f"expected {most}, found more; scale pictures down")
        if length.isdecimal() and int(length) > limits.body_bytes:
            raise too_large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(limits.max_seconds):
                while seen.unread:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part = message.get("body", b"")
                    seen.unread = message.get("more_body", False)
                    seen.size += len(part)
                    self._buffered += len(part)
                    if seen.size > limits.body_bytes:
                        raise too_large
                    if self._buffered > limits.body_bytes * (limits.concurrent + max(8, limits.queue // 4)):
                        raise busy(1, "too many pictures are arriving at once; try again later")
                    parts.append(part)
        except TimeoutError:
            raise Problem(408, f"expected the whole request within {limits.max_seconds:g} seconds") from None
        parts = [b"".join(parts)]

        async def replay() -> Message:
            return {"type": "http.request", "body": parts.pop(), "more_body": False} if parts else await receive()

        return replay


def _hostname(host: str) -> str | None:
    """The name in a Host header, without the port, in lower case; None for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    plain = not (parts.path or parts.query or parts.fragment or "@" in host or host != host.strip())
    return parts.hostname if plain else None


def _hashed(token: str) -> bytes:
    """32 bytes of a token of any length: comparing them takes as long for every wrong one, and tells no length."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def _discard(receive: Receive, most: int) -> None:
    """Reads on for a moment and forgets it, so that the client sees the answer instead of a closed connection."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
