"""The server as a process: it drains, it loses nothing that it acknowledged, and its workers are of one mind."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn

from tests.support.serving import AUTH, Server, photo, settings
from zoo import Gallery
from zoo.errors import InputError
from zoo.serve.server import _config, listen
from zoo.serve.shelf import check_audit


def ask(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
    headers = {**AUTH, "Content-Type": "multipart/form-data; boundary=b"} if body else AUTH
    request = urllib.request.Request(server.url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def form(**pictures: bytes) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x.png"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in pictures.items()
    ]
    return b"".join(parts) + b"--b--\r\n"


def test_an_answer_is_sent_at_once_whatever_its_size() -> None:
    """Without TCP_NODELAY the second packet of an answer waits for the client's delayed acknowledgement: 40 ms."""

    async def nodelay() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = listen("127.0.0.1", 0)
        async with await asyncio.start_server(met, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await seen
            writer.close()
        return found

    assert asyncio.run(nodelay()) != 0


def test_sigterm_answers_what_has_arrived_and_takes_nothing_more(tmp_path: Path) -> None:
    with Server(settings(tmp_path)) as server:
        body = form(a=photo(1), b=photo(1, 3))
        head = "POST /verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.connect()
        connection.sock.sendall(head.encode() + body[:500])
        while "healthz" not in server.log.read_text():
            ask(server, "GET", "/healthz")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError):
            ask(server, "GET", "/healthz")
        connection.sock.sendall(body[500:])
        answer = http.client.HTTPResponse(connection.sock)
        answer.begin()
        assert answer.status == 200 and json.load(answer)["same"] is True
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_worker_may_take_a_minute_to_load(tmp_path: Path) -> None:
    """uvicorn replaces a worker that is silent for 5 seconds: on a busy machine no worker ever came up."""
    assert _config(None, settings(tmp_path)).timeout_worker_healthcheck >= 60
    assert uvicorn.Config("unused").timeout_worker_healthcheck < 60


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_right_after_the_announcement_is_heeded(tmp_path: Path, workers: int) -> None:
    with Server(settings(tmp_path), "--workers", str(workers)) as server:
        server.process.terminate()
        assert server.process.wait(120) == 0


def test_a_kill_during_enrolment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    acknowledged: list[str] = []
    for round_ in range(2):
        with Server(wanted, "--workers", "2") as server:
            enough = threading.Event()

            def enrol(
                number: int, server: Server = server, enough: threading.Event = enough, round_: int = round_
            ) -> None:
                name = f"p{round_}-{number}"
                try:
                    status, told = ask(
                        server, "POST", f"/people/{name}/photos", form(photo=photo(1000 * round_ + number))
                    )
                except (OSError, http.client.HTTPException):
                    return
                assert status == 201, told
                acknowledged.append(name)
                if len(acknowledged) > 10 * (round_ + 1):
                    enough.set()

            with ThreadPoolExecutor(4) as pool:
                done = [pool.submit(enrol, number) for number in range(60)]
                assert enough.wait(200)
                for child in children(server):
                    os.kill(child, signal.SIGKILL)
                server.process.kill()
                server.process.wait()
                for one in done:
                    one.result()
        gallery = Gallery.open(tmp_path / "people.gallery")
        assert set(acknowledged) <= set(gallery.names())
        lines, _ = check_audit(tmp_path / "people.gallery.audit.jsonl")
        assert lines >= len(gallery)
    assert len(acknowledged) > 20


def children(server: Server) -> list[int]:
    """The worker processes of a server."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_workers_show_every_change_at_once_and_count_together(tmp_path: Path) -> None:
    with Server(settings(tmp_path), "--workers", "2") as server:
        for number in range(6):
            name = f"p{number}"
            assert ask(server, "POST", f"/people/{name}/photos", form(photo=photo(number)))[0] == 201
            for _ in range(6):
                assert ask(server, "GET", f"/people/{name}")[0] == 200
        assert ask(server, "DELETE", "/people/p3")[0] == 200
        for _ in range(12):
            assert ask(server, "GET", "/people/p3")[0] == 404
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            told = answer.read().decode()
        assert "zoo_enrolled_total 6\n" in told and "zoo_removed_total 1\n" in told
        assert 'zoo_requests_total{route="/people/{name}",status="200"} 37\n' in told
        assert len(children(server)) >= 2
        server.process.terminate()
        assert server.process.wait(120) == 0
        assert server.log.read_text().count("POST /people/{name}/photos 201") == 6


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1"):
            listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(InputError, match="choose another"):
        listen("no.such.host.invalid", 80)
    with pytest.raises(InputError, match="cannot listen on"):
        listen("a..b", 80)
