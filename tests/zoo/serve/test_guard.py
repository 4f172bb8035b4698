"""What reaches the application: requests to this server's own name, of its own page or a program, of a sane size."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.support.serving import AUTH, TOKEN, client, files, photo, settings
from zoo.serve.guard import HEADERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[TestClient]:
    with client(settings(folder, {"max_body": 0.2})) as found:
        yield found


READS = ("/model", "/people", "/people/Ada", "/metrics")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", "a@localhost"]
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/model", "/people/Ada/photos"])
def test_a_host_that_is_not_this_server_is_refused_on_every_path(served: TestClient, host: str, path: str) -> None:
    assert served.get(path, headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_loopback_by_any_of_its_names_is_this_server(served: TestClient, host: str) -> None:
    assert served.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_name_is_this_server_once_it_is_allowed(folder: Path) -> None:
    with client(settings(folder, allow_host=("Faces.example.org",))) as named:
        assert named.get("/model", headers={"Host": "faces.example.org"}).status_code == 200
        assert named.get("/model", headers={"Host": "other.example.org"}).status_code == 421


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": "http://127.0.0.1:9999"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_can_neither_read_nor_change_even_with_the_token(
    served: TestClient, headers: dict[str, str]
) -> None:
    for path in READS:
        assert served.get(path, headers={**headers, **AUTH}).status_code == 403
    pair = files(a=photo(1), b=photo(1))
    assert served.post("/verify", files=pair, headers={**headers, **AUTH}).status_code == 403
    answer = served.post("/people/Mallory/photos", files=files(photo=photo(1)), headers={**headers, **AUTH})
    assert answer.status_code == 403 and served.get("/people").json()["total"] == 0
    assert served.delete("/people/Mallory", headers={**headers, **AUTH}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_the_servers_own_page_and_programs_are_heard(served: TestClient, headers: dict[str, str]) -> None:
    assert served.get("/people", headers=headers).status_code == 200
    assert served.post("/verify", files=files(a=photo(1), b=photo(1)), headers=headers).status_code == 200


def test_another_page_gets_no_permission_by_cors(served: TestClient) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"}
    answers = [served.options("/people/Ada", headers=asked), served.get("/", headers=asked)]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)
    assert answers[0].status_code >= 400


WRONG = [
    {},
    {"Authorization": ""},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer " + TOKEN[:-1]},
    {"Authorization": "Bearer " + TOKEN + "x"},
    {"Authorization": "Bearer " + TOKEN.upper()},
    {"Authorization": "Basic " + TOKEN},
    {"Authorization": "Bearer " + "é" * 32},
]


@pytest.mark.parametrize("headers", WRONG)
def test_no_guess_and_no_part_of_the_token_changes_anything(served: TestClient, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for answer in (
        served.post("/people/Ada/photos", files=files(photo=photo(1)), headers=raw),
        served.delete("/people/Ada", headers=raw),
        served.delete("/people/Ada/photos/" + "0" * 64, headers=raw),
    ):
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert served.get("/people").json()["total"] == 0


def test_tokens_are_compared_in_constant_time(served: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    genuine = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: seen.append((len(a), len(b))) or genuine(a, b))
    for guess in ("x", TOKEN[:5], TOKEN):
        served.delete("/people/Nobody", headers={"Authorization": f"Bearer {guess}"})
    assert seen == [(32, 32)] * 3  # hashes: not even the length is told


def test_two_tokens_in_one_request_are_none(served: TestClient) -> None:
    twice = [("Authorization", "Bearer guess"), ("Authorization", f"Bearer {TOKEN}")]
    assert served.delete("/people/Nobody", headers=twice).status_code == 401


def test_beyond_loopback_everything_that_tells_of_somebody_needs_the_token(folder: Path) -> None:
    wanted = settings(folder, host="0.0.0.0", enrol=False)
    with client(wanted) as remote:
        for path in READS:
            assert remote.get(path).status_code == 401
        assert remote.post("/verify", files=files(a=photo(1), b=photo(1))).status_code == 401
        assert remote.post("/verify", files=files(a=photo(1), b=photo(1)), headers=AUTH).status_code == 200
        assert [remote.get(path).status_code for path in ("/", "/assets/page.js", "/healthz")] == [200] * 3
    with client(settings(folder, host="0.0.0.0", no_auth=True)) as unguarded:
        assert unguarded.get("/people").status_code == 200
        assert unguarded.delete("/people/Ada").status_code == 401, "a change needs the token all the same"


def test_nothing_changes_without_enrol(folder: Path) -> None:
    with client(settings(folder)):  # makes the gallery
        pass
    with client(settings(folder, enrol=False)) as reader:
        answer = reader.post("/people/Ada/photos", files=files(photo=photo(1)), headers=AUTH)
        assert answer.status_code == 403 and "--enrol" in answer.json()["detail"]
        assert reader.delete("/people/Ada", headers=AUTH).status_code == 403
        assert reader.get("/model").json()["enrol"] is False


def test_a_body_is_limited_by_what_it_announces_and_by_what_comes(served: TestClient) -> None:
    large = b"x" * 300_000
    assert served.post("/verify", files=files(a=large, b=b"")).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield large[:10_000]

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = served.post("/verify", content=chunks(), headers=headers)
    assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"
    assert served.get("/healthz").status_code == 200


def test_a_compressed_body_is_never_unpacked(served: TestClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert served.post("/verify", content=b"\x1f\x8b", headers=headers).status_code == 415


def test_every_answer_carries_the_headers_that_keep_a_browser_in_bounds(served: TestClient) -> None:
    for path in ("/", "/assets/page.js", "/model", "/nothing", "/people/Ada"):
        answer = served.get(path)
        assert HEADERS.items() <= {name: answer.headers.get(name, "") for name in HEADERS}.items()
    policy = served.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "http" not in policy


def test_the_log_holds_neither_names_nor_pictures_nor_addresses(
    served: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        served.post("/people/Geheimnis/photos", files=files(photo=photo(1)), headers=AUTH)
        served.get("/people/Geheimnis?x=Geheimnis")
        served.get("/Geheimnis")
        served.delete("/people/Geheimnis", headers=AUTH)
        served.request("GEHEIMNIS", "/people/Geheimnis")
    told = "\n".join(record.getMessage() for record in caplog.records if record.name == "zoo")
    assert "POST /people/{name}/photos 201" in told and "DELETE /people/{name} 200" in told and "- none 401" in told
    assert "geheimnis" not in told.lower() and "testclient" not in told and TOKEN not in told
