"""The HTTP interface as its document promises it, with names of every script and people who come and go."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.testclient import TestClient

from tests.support.serving import AUTH, client, files, photo, settings
from zoo.serve import create_app


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(settings(tmp_path_factory.mktemp("app"))) as found:
        yield found


def enrol(served: TestClient, name: str, seed: int, noise: int = 0) -> dict[str, object]:
    url = f"/people/{quote(name, safe='')}/photos"
    answer = served.post(url, files=files(photo=photo(seed, noise)), headers=AUTH)
    assert answer.status_code in (200, 201), answer.text
    told: dict[str, object] = answer.json()
    return told


NAMES = ["Ada Lovelace", "張偉", "Зоя", "עדה", "عائشة", "ಅದಿತಿ", "นฤมล", "O'Neill; DROP TABLE", "100 %", "a+b&c=d?#"]
NAMES += ["👩‍🔬", "Zoë", "con", "~root"]


def test_people_of_every_script_come_are_found_and_go(served: TestClient) -> None:
    for number, name in enumerate(NAMES):
        assert enrol(served, name, 100 + number)["name"] == name
    listed = [person["name"] for person in served.get("/people").json()["people"]]
    assert listed == NAMES
    for number, name in enumerate(NAMES):
        found = served.post(
            "/identify", files=files(picture=photo(100 + number, noise=4)), data={"threshold": "0.9"}
        ).json()
        assert [face["identified"] for face in found["faces"]] == [name]
        assert served.get(f"/people/{quote(name, safe='')}").json()["name"] == name
    page = served.get("/people", params={"offset": 3, "limit": 2}).json()
    assert [person["name"] for person in page["people"]] == NAMES[3:5] and page["total"] == len(NAMES)
    for name in NAMES:
        assert served.delete(f"/people/{quote(name, safe='')}", headers=AUTH).status_code == 200
    assert served.get("/people").json() == {"total": 0, "people": []}


ASTRAY = ["..", ".", "../../etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "%00", "a%0ab", "%FF", "%20", "x" * 201]


@pytest.mark.parametrize("name", ASTRAY)
def test_a_name_that_is_none_or_leads_elsewhere_changes_nothing(served: TestClient, name: str, tmp_path: Path) -> None:
    answer = served.post(f"/people/{name}/photos", files=files(photo=photo(1)), headers=AUTH)
    assert answer.status_code in (401, 404, 405, 422) and answer.headers["content-type"] == "application/problem+json"
    assert served.get("/people").json()["total"] == 0


def test_two_enrolments_of_one_name_at_once_are_both_there(served: TestClient) -> None:
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda noise: enrol(served, "Twin", 7, noise), range(1, 7)))
    assert served.get("/people").json() == {"total": 1, "people": [{"name": "Twin", "photos": 6}]}
    assert sorted(one["photos"] for one in told) == [1, 2, 3, 4, 5, 6]
    assert {one["photo"] for one in told} == set(served.get("/people/Twin").json()["photos"])
    assert enrol(served, "Twin", 7, 1)["added"] is False
    served.delete("/people/Twin", headers=AUTH)


def test_who_is_removed_while_others_identify_is_never_found_after_the_answer(served: TestClient) -> None:
    enrol(served, "Stays", 21)
    for round_ in range(4):
        enrol(served, "Goes", 22)

        def identify(_: int) -> list[str | None]:
            answer = served.post("/identify", files=files(picture=photo(22)), data={"threshold": "0.9"})
            assert answer.status_code == 200, answer.text
            return [face["identified"] for face in answer.json()["faces"]]

        with ThreadPoolExecutor(4) as pool:
            meanwhile = pool.map(identify, range(8))
            assert served.delete("/people/Goes", headers=AUTH).status_code == 200
            after = identify(0)
            assert {name for names in meanwhile for name in names} <= {"Goes", None} and after == [None], round_
    served.delete("/people/Stays", headers=AUTH)


def test_one_photo_is_removed_by_its_hash(served: TestClient) -> None:
    first, second = enrol(served, "Two", 31)["photo"], enrol(served, "Two", 31, 2)["photo"]
    assert served.delete(f"/people/Two/photos/{first}").status_code == 401
    answer = served.delete(f"/people/Two/photos/{first}", headers=AUTH)
    assert answer.status_code == 200 and answer.json()["photos"] == 1 and answer.json()["audit"]
    assert served.delete(f"/people/Two/photos/{first}", headers=AUTH).status_code == 404
    assert served.get("/people/Two").json()["photos"] == [second]
    served.delete("/people/Two", headers=AUTH)


def test_nobody_twice_and_nobody_unknown_is_removed(served: TestClient) -> None:
    answer = served.delete("/people/Unknown%20Person", headers=AUTH)
    assert answer.status_code == 404 and "Unknown" not in answer.text


def test_the_page_its_files_and_nothing_beside_them_are_served(served: TestClient) -> None:
    assert "<title>" in served.get("/").text
    for name in ("page.js", "style.css", "backend.js", "icon.svg"):
        assert served.get(f"/assets/{name}").status_code == 200
    for name in ("backend-server.js", "__init__.py", "..%2f__init__.py", "%2e%2e/app.py", "page.js%00", "/etc/passwd"):
        assert served.get(f"/assets/{name}").status_code == 404
    assert [served.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]


def test_what_watches_a_service_may_ask_for_headers_alone(served: TestClient) -> None:
    for path in ("/", "/healthz"):
        assert served.head(path).status_code == 200, path


def test_a_fault_of_the_server_is_a_problem_without_its_reason(
    served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.serve.service.FaceVerifier.verify", lambda *_: 1 // 0)
    answer = served.post("/verify", files=files(a=photo(1), b=photo(2)))
    assert answer.status_code == 500 and answer.json()["title"] == "Internal Server Error"
    assert "division" not in answer.text and answer.headers["X-Frame-Options"] == "DENY"


def trial(folder: Path, examples: int) -> int:
    """Requests of every operation, made by schemathesis from the document, and all its checks of the answers.

    No schema can tell pictures from other bytes, so valid requests may be rejected; half of those with a form or an
    object get real pictures in place of what was made. The package's pytest plugin does not know pytest 9: the
    operations are walked through here.
    """
    app = create_app(settings(folder, {"max_body": 1.0}, allow_host=("testserver",)))
    operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    for operation in operations:

        @given(case=operation.as_strategy(), real=st.booleans())
        @hypothesis_settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        def conforms(case: schemathesis.Case, real: bool) -> None:
            left_out = [positive_data_acceptance]
            if isinstance(case.body, dict) and real:
                left_out.append(negative_data_rejection)
                form = case.media_type == "multipart/form-data"
                picture = photo(1) if form else base64.b64encode(photo(1)).decode()
                case.body = {
                    name: picture if name in ("a", "b", "picture", "photo") else v for name, v in case.body.items()
                }
            case.call_and_validate(headers=AUTH, excluded_checks=left_out)

        conforms()
    return len(operations)


def test_whatever_the_document_allows_is_answered_as_it_says(tmp_path: Path) -> None:
    assert trial(tmp_path, 12) >= 10


@pytest.mark.soak
def test_whatever_the_document_allows_is_answered_as_it_says_at_length(tmp_path: Path) -> None:
    assert trial(tmp_path, 1000) >= 10


def test_people_come_are_found_and_go_in_a_shared_collection_and_its_failure_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    QdrantClient = pytest.importorskip("qdrant_client").QdrantClient
    with client(settings(tmp_path, gallery=f"qdrant:{tmp_path}/store/people")) as served:
        for number, name in enumerate(("Ada", "張偉")):
            assert enrol(served, name, 100 + number)["people"] == number + 1
        asked = {"files": files(picture=photo(101, noise=4)), "data": {"threshold": "0.9"}}
        assert [face["identified"] for face in served.post("/identify", **asked).json()["faces"]] == ["張偉"]
        assert len(served.get("/people/Ada").json()["photos"]) == 1
        assert served.delete(f"/people/{quote('張偉')}", headers=AUTH).status_code == 200
        assert [face["identified"] for face in served.post("/identify", **asked).json()["faces"]] == [None]
        assert served.get("/people").json()["people"] == [{"name": "Ada", "photos": 1}]
        assert (tmp_path / "store" / "people.audit.jsonl").read_text().count("\n") == 3
        monkeypatch.setattr(QdrantClient, "retrieve", lambda *args, **options: 1 / 0)
        answer = served.post("/people/Ada/photos", files=files(photo=photo(100, 9)), headers=AUTH)
        assert answer.status_code == 503 and answer.headers["Retry-After"] and "does not answer" in answer.text
