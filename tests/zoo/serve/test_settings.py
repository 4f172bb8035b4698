"""Settings that would be unsafe are refused, with what to do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.serve import Limits, Settings


def test_a_server_listens_on_loopback_unless_told_otherwise() -> None:
    assert Settings().host == "127.0.0.1" and Settings().is_loopback
    assert all(Settings(host=host).is_loopback for host in ("localhost", "::1", "127.9.9.9"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "faces.example.org"])
def test_another_host_needs_a_token_or_an_explicit_no_auth(host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected --token-file with --host"):
        Settings(host=host)
    assert not Settings(host=host, no_auth=True).is_loopback
    assert not Settings(host=host, token_file=tmp_path / "token").is_loopback


def test_enrolment_needs_a_gallery_and_a_token_even_on_loopback_and_without_auth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected --gallery with --enrol"):
        Settings(enrol=True, token_file=tmp_path / "token")
    for no_auth in (False, True):
        with pytest.raises(InputError, match="every change of the gallery needs a token"):
            Settings(enrol=True, gallery=tmp_path / "g", no_auth=no_auth)


def test_a_missing_token_is_made_for_its_owner_alone_and_stays(tmp_path: Path) -> None:
    wanted = Settings(token_file=tmp_path / "token")
    token = wanted.token()
    assert token and len(token) >= 32 and token == wanted.token()
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [("short", 0o600, "at least 32"), ("x" * 40, 0o644, "chmod 600"), ("x" * 20 + " " * 20, 0o600, "at least 32")],
)
def test_a_short_token_and_one_that_others_may_read_are_refused(
    tmp_path: Path, content: str, mode: int, told: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content + "\n")
    file.chmod(mode)
    with pytest.raises(InputError, match=told):
        Settings(token_file=file).token()


@pytest.mark.parametrize("name", ["max_body", "max_pixels", "max_faces", "max_seconds", "concurrent", "connections"])
def test_no_limit_can_be_switched_off(name: str) -> None:
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}"):
            Limits(**{name: value})
    assert Limits(queue=0).queue == 0


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(InputError, match="--port from 0 to 65535"):
        Settings(port=port)


def test_two_ways_to_choose_a_threshold_contradict_each_other() -> None:
    with pytest.raises(InputError, match="--threshold or --fpir"):
        Settings(fpir=0.1, threshold=0.3)


@pytest.mark.parametrize("given", [{"threads": 0}, {"threads": -1}, {"workers": 0}])
def test_a_server_has_a_worker_and_a_thread(given: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least one worker and one thread"):
        Settings(**given)
    assert Settings(threads=1, workers=1).threads_each == 1


@pytest.mark.parametrize("fpir", [0, 1, 7, -0.1, float("nan")])
def test_an_identification_rate_that_is_none_is_refused_before_the_first_request(fpir: float) -> None:
    with pytest.raises(InputError, match="false positive identification rate between 0 and 1"):
        Settings(fpir=fpir)
    assert Settings(fpir=0.01).fpir == 0.01
