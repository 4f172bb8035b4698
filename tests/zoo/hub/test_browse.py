"""What models there are: pulled ones, whatever nonsense their files hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import HubServer, Repo
from zoo.hub.pull import described, read, short

CONFIG = {
    "architecture": "resnet18",
    "num_classes": 512,
    "zoo": {"head": "arcface(scale=64.0)", "backbone": "resnet18"},
}
REPORT = {"results": [{"accuracy": 0.9, "data": "LFW"}]}

LIST = """
import json
from zoo.hub.pull import cached_models
from zoo.hub.pull import pull
pull("o/one", ["model.onnx"])
print(json.dumps({"cached": cached_models()}))
"""


def test_the_pulled_models_are_listed_with_what_is_known(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/one"] = Repo()
        files = {"config.json": json.dumps(CONFIG).encode(), "report.json": json.dumps(REPORT).encode()}
        card = b"---\ntags: [face-recognition]\n---\n"
        hub.repos["o/one"].commit({**files, "model.onnx": tiny_onnx(), "README.md": card})
        done = hub_client.python(hub, tmp_path, LIST)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
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
