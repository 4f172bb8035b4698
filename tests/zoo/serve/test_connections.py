"""Connections that dawdle are closed, and more than allowed are turned down, while everybody else is served."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Server, settings

LIMITS = ("--max-seconds", "1", "--connections", "64", "--max-body", "1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("connections")
    with Server(settings(folder), *LIMITS) as found:
        yield found


def connect(server: Server, first: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(first)
    return connection


def told(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            found += part
    return found


def alive(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.url}/healthz", timeout=20) as answer:
        return bool(answer.status == 200)


HEAD = b"POST /verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SLOW = {
    "says nothing": b"",
    "begins a request line": b"GET /heal",
    "never ends its headers": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n",
}


@pytest.mark.parametrize("what", SLOW)
def test_who_dawdles_over_the_headers_is_closed_without_an_answer(server: Server, what: str) -> None:
    with connect(server, SLOW[what]) as connection:
        assert told(connection) == b""


def test_who_dawdles_over_the_body_is_told_and_closed(server: Server) -> None:
    with connect(server, HEAD + b"Content-Length: 1000\r\n\r\n") as connection:
        for _ in range(4):
            connection.sendall(b"x")
        answer = told(connection)
    assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer.lower()


def test_a_trickle_of_headers_does_not_extend_the_time(server: Server) -> None:
    started = time.monotonic()
    with connect(server, b"GET /healthz HTTP/1.1\r\n") as connection, contextlib.suppress(ConnectionError):
        while time.monotonic() - started < 15:
            connection.sendall(b"X-A: b\r\n")
            time.sleep(0.05)
    assert time.monotonic() - started < 12


def test_a_second_request_on_a_connection_has_its_own_time_and_the_same_limit(server: Server) -> None:
    with connect(server, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal") as connection:
        answer = told(connection)
    assert answer.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://127.0.0.1@evil/ HTTP/1.1\r\nHost: evil\r\n\r\n",
    ],
)
def test_what_is_not_http_as_it_should_be_is_refused(server: Server, request_: bytes) -> None:
    with connect(server, b"") as connection:
        with contextlib.suppress(OSError):  # it may be closed before all has been sent
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
        status = told(connection)[9:12]
    assert status in (b"400", b"421", b""), status
    assert alive(server)


def test_a_thousand_idle_connections_leave_the_server_as_it_was(server: Server) -> None:
    crowd = [connect(server) for _ in range(1000)]
    refused = 0
    for connection in crowd[-50:]:
        refused += told(connection).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1")
    assert refused >= 40
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(urllib.error.HTTPError, ConnectionError):
            if alive(server):
                break
        assert time.monotonic() < deadline
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        counted = {
            line.split()[0]: float(line.split()[1])
            for line in answer.read().decode().splitlines()[1:]
            if "_refused" in line and "#" not in line
        }
    assert counted["zoo_refused_connections_total"] >= 900
