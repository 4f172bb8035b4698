"""What is checked of a server's answers, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub_models import tiny_onnx
from zoo.errors import InputError
from zoo.hub.checks import require_safe_url, require_weights_beside


@pytest.mark.parametrize(
    "url", ["http://hub.example", "ftp://127.0.0.1", "file:///etc", "http://127.0.0.1.hub.example"]
)
def test_unsafe_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="https"):
        require_safe_url(url, "the Hub")


@pytest.mark.parametrize("url", ["https://hub.example", "http://127.0.0.1:80", "http://localhost:1", "http://[::1]:2"])
def test_safe_addresses_pass(url: str) -> None:
    require_safe_url(url, "the Hub")


@pytest.mark.parametrize("name", ["", "weights/x", "../x", "/etc/passwd", "a\\b", ".hidden", "c:x", "-", "a b"])
def test_external_weights_stay_beside_the_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_onnx(external=name))
    if name == "-":
        assert require_weights_beside(tmp_path / "model.onnx") == ["-"]
        return
    with pytest.raises(InputError, match="do not trust this model"):
        require_weights_beside(tmp_path / "model.onnx")


def test_external_weights_are_found_in_subgraphs_and_attributes(tmp_path: Path) -> None:
    """A constant inside the branch of an If is as dangerous as an initialiser."""
    import onnx
    from onnx import TensorProto, helper

    hidden = TensorProto(name="hidden", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="../../secret")
    branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=hidden)], "branch", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(InputError, match="secret"):
        require_weights_beside(tmp_path / "model.onnx")
