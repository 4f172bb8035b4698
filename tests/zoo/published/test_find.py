"""A published file is found here, on the Hub, or told where to fetch by hand, and checked before it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import HubServer, Repo
from zoo.errors import InputError
from zoo.published.catalogue import catalogue
from zoo.published.find import find


def test_a_file_here_is_known_by_its_hash_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "face.pt").write_bytes(b"weights")
    found = find(tmp_path / "face.pt")
    assert (found.name, found.known, len(found.sha256)) == ("face.pt", None, 64)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("adaface-r50-ms1mv2", r"adaface-r50-ms1mv2 must be fetched by hand from https://drive\.google\.com/"),
        ("adaface-r50-ms1mv", r"expected a checkpoint file, a name of .*did you mean adaface-r50-ms1mv2\?"),
        ("nothing.pth", r"expected a checkpoint file, .* found 'nothing\.pth'$"),
        ("owner/name", r"expected a checkpoint file"),
    ],
)
def test_what_is_neither_here_nor_on_the_hub_is_told_in_a_sentence(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find(source)


FETCH = """
import logging
from zoo.errors import InputError
from zoo.published.find import find
logging.basicConfig(format="%(message)s")
for source in ("owner/face:nested/weights.pt", "owner/face:missing.pt", "sface", "edgeface-xxs"):
    try:
        found = find(source)
        print(found.name, found.path.read_bytes(), found.known and found.known.name)
    except InputError as error:
        print(error)
import sys
assert "torch" not in sys.modules
"""


def test_a_file_on_the_hub_is_fetched_by_its_name_there_and_must_have_the_known_hash(tmp_path: Path) -> None:
    sface = catalogue().models["sface"]
    with HubServer() as hub:
        for repo in ("owner/face", sface.hub, "Idiap/EdgeFace-XXS"):
            hub.repos[repo] = Repo()
        hub.repos["owner/face"].commit({"nested/weights.pt": b"one", "README.md": b"a card"})
        hub.repos[sface.hub].commit({sface.file: tiny_onnx()})
        hub.repos["Idiap/EdgeFace-XXS"].commit({"edgeface_xxs.pt": b"two"})
        done = hub_client.python(hub, tmp_path, FETCH)
    assert done.returncode == 0, done.stderr
    foreign, missing, forged, unpinned = done.stdout.splitlines()
    assert foreign == "owner/face:nested/weights.pt b'one' None"
    assert missing == "expected missing.pt in owner/face on the Hub, found none; it has nested/weights.pt"
    assert f"{sface.hub}:{sface.file} with the hash {sface.sha256[:12]}…" in forged and "it was not opened" in forged
    assert unpinned == "Idiap/EdgeFace-XXS:edgeface_xxs.pt b'two' edgeface-xxs"
    assert "no hash of Idiap/EdgeFace-XXS:edgeface_xxs.pt is known" in done.stderr
