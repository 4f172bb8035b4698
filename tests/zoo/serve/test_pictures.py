"""What a request carries is bytes: nothing that a client names is opened, and nothing is written down."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.serving import client, files, photo, settings

FORM = "multipart/form-data; boundary=b"
WATCHED: list[tuple[str, Any]] = []
WATCHING = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and event in ("open", "socket.connect", "socket.getaddrinfo", "tempfile.mkstemp", "tempfile.mkdtemp"):
        WATCHED.append((event, arguments[0] if event != "socket.connect" else arguments[1]))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(settings(tmp_path_factory.mktemp("pictures"))) as found:
        yield found


@pytest.fixture
def opened() -> Iterator[list[tuple[str, Any]]]:
    """What the process opens while the test runs."""
    global WATCHING
    if watch not in HOOKED:
        sys.addaudithook(watch)
        HOOKED.append(watch)
    WATCHED.clear()
    WATCHING = True
    yield WATCHED
    WATCHING = False


HOOKED: list[Any] = []


def as_json(**pictures: bytes) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in pictures.items()}


def test_a_form_and_json_with_base64_or_a_data_url_are_the_same_question(served: TestClient) -> None:
    a, b = photo(1), photo(1, noise=2)
    form = served.post("/verify", files=files(a=a, b=b), data={"far": "0.1"})
    plain = served.post("/verify", json={**as_json(a=a, b=b), "far": 0.1})
    urls = {name: f"data:image/png;base64,{text}" for name, text in as_json(a=a, b=b).items()}
    assert form.status_code == 200
    assert form.json() == plain.json() == served.post("/verify", json={**urls, "far": 0.1}).json()


@pytest.mark.parametrize(
    "address",
    ["/etc/hostname", "/etc/hosts", "../../../etc/hosts", "file:///etc/hosts", "http://127.0.0.1:1/a.png", "~"],
)
def test_a_path_or_an_address_in_place_of_a_picture_is_never_opened(
    served: TestClient, opened: list[tuple[str, Any]], address: str
) -> None:
    good = as_json(b=photo(1))
    answers = [
        served.post("/verify", json={"a": address, **good}),
        served.post("/verify", files={"a": (address, b"", "image/png"), "b": (address, b"x", "image/png")}),
        served.post("/verify", data={"a": address, "b": address}, files=files(c=b"x")),
        served.post("/verify", json={"a": {"path": address}, **good}),
        served.post("/verify", json={"a": base64.b64encode(address.encode()).decode(), **good}),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    assert not [event for event in opened if "host" in str(event[1]) or event[0].startswith("socket")], opened


def test_a_file_that_is_opened_is_seen_by_that_guard(opened: list[tuple[str, Any]]) -> None:
    Path("/etc/hostname").exists() and open("/etc/hostname").close()
    assert not Path("/etc/hostname").exists() or ("open", "/etc/hostname") in opened


def test_no_photo_however_large_touches_the_disk(served: TestClient, opened: list[tuple[str, Any]]) -> None:
    large = photo(1, size=(900, 900)) + b"\0" * 3_000_000  # beyond the megabyte that form parsers keep in memory
    assert served.post("/verify", files=files(a=large, b=large)).status_code == 200
    written = [event for event in opened if event[0].startswith("tempfile") or str(event[1]).startswith("/tmp")]
    assert not written, written


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"a": 1, "b": 2}', "application/json", 422),
        (b"x", "multipart/form-data", 400),
        (b"x", FORM, 400),
        (b"--b\r\n" * 50, FORM, 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n',
            FORM,
            422,
        ),
    ],
)
def test_a_damaged_request_is_told_so(served: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = served.post("/verify", content=content, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["status"] == status and told["detail"].startswith("expected") and told["type"] == "about:blank"


def test_a_form_of_a_thousand_fields_is_refused(served: TestClient) -> None:
    many = {f"f{number}": str(number) for number in range(1000)}
    assert served.post("/verify", data=many, files=files(a=photo(1), b=photo(2))).status_code == 400


def test_each_option_is_checked_and_an_unknown_one_named(served: TestClient) -> None:
    pair = files(a=photo(1), b=photo(2))
    for wrong in ({"far": "2"}, {"threshold": "nan"}, {"face": "prettiest"}, {"thresold": "0.3"}, {"crops": "maybe"}):
        answer = served.post("/verify", files=pair, data=wrong)
        assert answer.status_code == 422 and next(iter(wrong)) in answer.json()["detail"]
    both = served.post("/verify", files=pair, data={"far": "0.1", "threshold": "0.3"})
    assert both.status_code == 422 and "found both" in both.json()["detail"]
    twice = [("a", ("a", photo(1))), ("a", ("a", photo(2))), ("b", ("b", photo(2)))]
    assert "once" in served.post("/verify", files=twice).json()["detail"]


def test_a_picture_that_announces_too_many_pixels_is_never_unpacked(served: TestClient) -> None:
    header = photo(1)
    bomb = bytearray(header)
    bomb[16:24] = (9_000).to_bytes(4) + (9_000).to_bytes(4)  # the sides in a PNG's header
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4)
    answer = served.post("/verify", files=files(a=bytes(bomb), b=photo(1)))
    assert answer.status_code == 422 and "at most 50,000,000 pixels in the first picture" in answer.json()["detail"]


def test_what_is_no_picture_is_told_by_the_products_sentence(served: TestClient) -> None:
    answer = served.post("/detect", files=files(picture=b"GIF89a nonsense"))
    assert answer.status_code == 422 and json.loads(answer.text)["detail"].startswith("expected a picture")
