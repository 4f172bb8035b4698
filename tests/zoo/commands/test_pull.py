"""zoo pull as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import HubServer, Repo


def test_a_private_model_comes_with_the_token_only(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/n"] = Repo(private=True)
        hub.repos["o/n"].commit({"model.onnx": tiny_onnx()})
        without = hub_client.zoo(hub, tmp_path, "pull", "o/n", "--onnx", token=True)
        assert without.returncode == 2 and "--token" in without.stderr
        assert not [seen for seen in hub.requests if "authorization" in seen.headers]
        with_token = hub_client.zoo(hub, tmp_path, "pull", "o/n", "--onnx", "--token", "--json", token=True)
        assert with_token.returncode == 0, with_token.stderr
        assert json.loads(with_token.stdout)["files"] == ["model.onnx"]


def test_an_unsafe_endpoint_is_never_asked(tmp_path: Path) -> None:
    with HubServer() as hub:
        done = hub_client.zoo(hub, tmp_path, "pull", "o/n", "--onnx", HF_ENDPOINT="http://hub.example")
    assert done.returncode == 2 and "HF_ENDPOINT" in done.stderr
