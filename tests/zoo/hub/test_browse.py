"""What models there are: pulled ones and an owner's, whatever nonsense their files hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import HubServer, Repo
from zoo.errors import InputError
from zoo.hub.pull import described, owner_models, read, short

CONFIG = {
    "architecture": "resnet18",
    "num_classes": 512,
    "zoo": {"head": "arcface(scale=64.0)", "backbone": "resnet18"},
}
REPORT = {"results": [{"accuracy": 0.9, "data": "LFW"}]}

LIST = """
import json
from zoo.hub.pull import cached_models, owner_models, pull
pull("o/one", ["model.onnx"])
print(json.dumps({"owner": owner_models("o"), "nobody": owner_models("nobody"), "cached": cached_models()}))
"""


def test_an_owners_models_and_the_pulled_ones_are_listed_with_what_is_known(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/one"] = Repo()
        files = {"config.json": json.dumps(CONFIG).encode(), "report.json": json.dumps(REPORT).encode()}
        card = b"---\ntags: [face-recognition]\n---\n"
        hub.repos["o/one"].commit({**files, "model.onnx": tiny_onnx(), "README.md": card})
        done = hub_client.python(hub, tmp_path, LIST)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["nobody"] == []
    (row,) = said["owner"]
    assert row["name"] == "o/one" and row["head"] == "arcface" and row["accuracy"] == 0.9
    (cached,) = said["cached"]
    assert cached["name"].startswith("o/one@") and cached["place"] == "pulled"


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"', "[" * 100_000])
def test_a_file_that_is_no_object_tells_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert read(tmp_path / "config.json") == {}
    assert described(tmp_path, "name", "here")["backbone"] is None


def test_facts_of_other_types_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": ["x"], "num_classes": "many", "zoo": {"head": 3}})
    )
    (tmp_path / "report.json").write_text(json.dumps({"results": [{"accuracy": "good", "data": {}}]}))
    row = described(tmp_path, "name", "here")
    assert {row[key] for key in ("backbone", "dim", "accuracy", "measured_on")} == {None}


def test_control_characters_stay_off_the_terminal() -> None:
    assert short("a\x1b[2Jb\n") == "a [2Jb " and short("x" * 500) == "x" * 80 and short(7) is None


@pytest.mark.parametrize("owner", ["", "a/b", "../x", "a b"])
def test_what_is_no_owner_is_one_sentence(owner: str) -> None:
    with pytest.raises(InputError, match="expected an owner on the Hub"):
        owner_models(owner)
