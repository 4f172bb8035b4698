"""What third-party files expect: decided by one function, for every command alike."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.onnx_models import DIM, write_model
from zoo.cli import main
from zoo.errors import InputError
from zoo.evaluate import evaluate
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.images import encode_png
from zoo.inference.convention import GivenInput, choose_output, first_steps
from zoo.inference.metadata import write_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo
from zoo.recognition import FaceVerifier

Steps = list[tuple[str, list[float]]]


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (6, 112, 112, 3), dtype=np.uint8)


def with_steps(path: Path, steps: Steps, kind: int = TensorProto.FLOAT) -> Path:
    """The linear embedder behind arithmetic on its input, as MXNet's exporters put it there."""
    model = onnx.load(write_model(path))
    name, nodes = "picture", []
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [name], ["cast"], to=TensorProto.FLOAT))
        name = "cast"
    for number, (operator, values) in enumerate(steps):
        if operator == "BatchNormalization":
            parts = [f"{operator}{number}_{part}" for part in range(4)]
            for part, value in zip(parts, values, strict=True):
                model.graph.initializer.append(numpy_helper.from_array(np.full(3, value, np.float32), part))
        else:
            parts = [f"c{number}"]
            constant = np.array(values, np.float32).reshape(1, -1, 1, 1)
            model.graph.initializer.append(numpy_helper.from_array(constant, parts[0]))
        nodes.append(helper.make_node(operator, [name, *parts], [f"step{number}"]))
        name = f"step{number}"
    model.graph.node[0].input[0] = name
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    model.graph.input[0].name = "picture"
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


MXNET: Steps = [("Sub", [127.5]), ("Mul", [0.0078125])]


@pytest.mark.parametrize(
    ("steps", "scaling"),
    [
        (MXNET, "(x − 0) / 1"),
        ([("Sub", [127.5]), ("Div", [128.0])], "(x − 0) / 1"),
        ([("Mul", [1 / 255])], "(x − 0) / 1"),
        ([("Div", [255.0]), ("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], "(x − 0) / 1"),
        ([("Add", [-104.0, -117.0, -123.0])], "(x − 0) / 1"),
        ([("BatchNormalization", [1.0, 0.0, 115.0, 4100.0])], "(x − 0) / 1"),
        ([("Mul", [2.0]), ("Sub", [1.0])], "(x − 0) / 255"),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], "(x − 0) / 255"),
        ([("BatchNormalization", [1.0, 0.0, -0.05, 0.24])], "(x − 127.5) / 127.5"),
        ([("Mul", [1.0])], "(x − 127.5) / 127.5"),
        ([], "(x − 127.5) / 127.5"),
    ],
)
def test_what_the_graph_does_to_its_input_tells_what_it_expects(steps: Steps, scaling: str, tmp_path: Path) -> None:
    model = OnnxEmbedder(with_steps(tmp_path / "m.onnx", steps), device="cpu")
    assert model.input.scaling == scaling and not model.stated
    assert ("scales it itself" in model.why_input) == bool(steps) and model.why_input in model.notes


def test_a_file_that_scales_its_input_itself_is_scaled_once(tmp_path: Path, crops: np.ndarray) -> None:
    own, plain = with_steps(tmp_path / "own.onnx", MXNET), write_model(tmp_path / "plain.onnx")
    expected = OnnxEmbedder(plain, device="cpu", input=InputSpec(std=128.0))(crops)
    np.testing.assert_allclose(OnnxEmbedder(own, device="cpu")(crops), expected, atol=1e-4)
    twice = OnnxEmbedder(own, device="cpu", input=GivenInput(mean=127.5, std=127.5))
    assert "yet the graph scales its input itself" in twice.why_input
    same = np.arange(3) < 2
    protocol = PairsProtocol(crops, same, data="colours")
    assert (
        evaluate(own, protocol, device="cpu", cache=False).auc
        == evaluate(plain, protocol, device="cpu", cache=False, std=128.0).auc
    )
    answers = [
        FaceVerifier(model, aligned=True, input=given).verify(crops[0], crops[1]).similarity
        for model, given in ((own, None), (plain, GivenInput(std=128.0)), (own, GivenInput(mean=127.5, std=127.5)))
    ]
    assert answers[0] == pytest.approx(answers[1], abs=1e-5) and abs(answers[2] - answers[0]) > 1e-3


def test_the_facts_of_a_file_come_before_its_arithmetic_and_what_is_given_before_both(tmp_path: Path) -> None:
    path = with_steps(tmp_path / "m.onnx", MXNET)
    write_model_info(path, ModelInfo(DIM, InputSpec(mean=10.0, std=20.0)))
    stated = OnnxEmbedder(path, device="cpu")
    assert stated.input.scaling == "(x − 10) / 20" and stated.stated and not stated.why_input
    given = OnnxEmbedder(path, device="cpu", input=GivenInput(std=5.0, bgr=True))
    assert given.input.scaling == "(x − 10) / 5" and given.input.channel_order == "BGR"


def test_an_input_of_whole_numbers_gets_the_pixels(tmp_path: Path, crops: np.ndarray) -> None:
    path = with_steps(tmp_path / "m.onnx", MXNET, TensorProto.UINT8)
    model = OnnxEmbedder(path, device="cpu")
    np.testing.assert_allclose(model(crops), OnnxEmbedder(with_steps(tmp_path / "f.onnx", MXNET), "cpu")(crops))
    assert "takes whole numbers" in model.why_input
    with pytest.raises(InputError, match="expected no --mean or --std"):
        OnnxEmbedder(path, device="cpu", input=GivenInput(mean=127.5))


def with_norm(path: Path, renamed: str = "embedding") -> Path:
    """As AdaFace is exported: the embedding and its norm."""
    model = onnx.load(write_model(path))
    model.graph.node.append(helper.make_node("ReduceL2", [renamed], ["norm"], axes=None, keepdims=1))
    model.graph.node[1].output[0] = renamed
    model.graph.output[0].name = renamed
    model.graph.output.insert(0, helper.make_tensor_value_info("norm", TensorProto.FLOAT, ["n", "one"]))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("bound", [False, True])
def test_the_embedding_is_found_among_two_outputs(tmp_path: Path, crops: np.ndarray, bound: bool) -> None:
    model = OnnxEmbedder(with_norm(tmp_path / "two.onnx", "e"), device="cpu", bound=bound)
    one = OnnxEmbedder(write_model(tmp_path / "one.onnx"), device="cpu")
    np.testing.assert_allclose(model(crops), one(crops), atol=1e-5)
    assert "of 2 outputs (norm (1), e (5)) e is taken as the embedding" in " ".join(model.notes)
    assert (
        OnnxEmbedder(with_norm(tmp_path / "two.onnx"), device="cpu", input=GivenInput(output="norm")).embedding_dim == 1
    )
    with pytest.raises(InputError, match=r"an output called embeding in .*; did you mean embedding\?"):
        OnnxEmbedder(tmp_path / "two.onnx", device="cpu", input=GivenInput(output="embeding"))


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ({"a": 512, "norm": 1}, "a"),
        ({"box": 4, "landmarks": 10, "face": 512}, "face"),
        ({"logits": 85742, "Embedding": 512}, "Embedding"),
        ({"x": 512, "y": 512}, None),
        ({"fc1": 512, "features": 25088}, None),
        ({"embedding": 7, "map": 343}, "embedding"),
    ],
)
def test_of_many_outputs_one_is_chosen_by_length_or_name_or_none(sizes: dict[str, int], chosen: str | None) -> None:
    for order in itertools.permutations(sizes):
        if chosen is None:
            with pytest.raises(InputError, match="say which with --output"):
                choose_output(Path("m.onnx"), {name: sizes[name] for name in order})
        else:
            assert choose_output(Path("m.onnx"), {name: sizes[name] for name in order})[0] == chosen


def test_a_wrong_output_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"an output called y in m.onnx, found x$"):
        choose_output(Path("m.onnx"), {"x": 0}, "y")


def test_every_command_that_embeds_takes_the_input_and_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = [np.full((112, 112, 3), colour, np.uint8) for colour in ((200, 120, 60), (60, 90, 120))]
    for number, crop in enumerate(crops):
        (tmp_path / "people" / str(number)).mkdir(parents=True)
        (tmp_path / "people" / str(number) / "a.png").write_bytes(encode_png(crop))
    a, b = (str(tmp_path / "people" / str(number) / "a.png") for number in range(2))
    model = str(with_norm(tmp_path / "two.onnx", "e"))
    told = ["--model", model, "--aligned", "--bgr", "--mean", "0", "--std", "255", "--model-output", "e", "--json"]
    rows = OnnxEmbedder(model, "cpu", input=GivenInput(0, 255, True, "e"))(np.stack(crops))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert main(["verify", a, b, *told]) == 3
    assert json.loads(capsys.readouterr().out)["similarity"] == pytest.approx(float(unit[0] @ unit[1]), abs=1e-5)
    assert main(["embed", a, b, "-o", str(tmp_path / "e.npz"), *told]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "e.npz")["embedding"], unit, atol=1e-5)
    gallery = str(tmp_path / "g.gallery")
    assert main(["index", str(tmp_path / "people"), "-o", gallery, *told]) == 0
    capsys.readouterr()
    assert main(["identify", a, "--gallery", gallery, "--threshold", "0.99", *told]) == 0
    assert '"0"' in capsys.readouterr().out
    assert main(["identify", a, "--gallery", gallery, "--model", model, "--aligned"]) == 2
    assert "another input" in capsys.readouterr().err


def saved(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, npt.NDArray[np.generic]]) -> Path:
    """A model of `nodes`, from "input" to "embedding", whose initialisers are `constants`."""
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 4, 4])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 48])
    flat = helper.make_node("Flatten", [nodes[-1].output[0] if nodes else "input"], ["embedding"])
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    onnx.save(helper.make_model(helper.make_graph([*nodes, flat], "g", [picture], [embedding], weights)), path)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("as_node", [False, True])
def test_subtraction_and_scaling_are_told_and_composed(tmp_path: Path, dtype: type, as_node: bool) -> None:
    constants = {"mean": np.array(127.5, dtype), "scale": np.array([0.0078125], dtype)}
    nodes = [helper.make_node("Sub", ["input", "mean"], ["a"]), helper.make_node("Mul", ["a", "scale"], ["b"])]
    if as_node:
        values = {name: numpy_helper.from_array(array) for name, array in constants.items()}
        nodes = [helper.make_node("Constant", [], [name], value=value) for name, value in values.items()] + nodes
    text, factor, shift = first_steps(saved(tmp_path / "m.onnx", nodes, {} if as_node else constants), "input")
    assert text == "− 127.5, × 0.0078125"
    x = np.linspace(0, 255, 5)
    assert np.allclose(x * factor + shift, (x - 127.5) * 0.0078125)


def test_a_batch_norm_on_the_pixels_counts_by_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale, offset, mean, variance = (rng.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    node = helper.make_node("BatchNormalization", ["input", "s", "o", "m", "v"], ["a"], epsilon=1e-5)
    path = saved(tmp_path / "m.onnx", [node], {"s": scale, "o": offset, "m": mean, "v": variance})
    text, factor, shift = first_steps(path, "input")
    assert text == "batch norm"
    assert np.allclose(100 * factor + shift, (100 - mean) / np.sqrt(variance + 1e-5) * scale + offset, rtol=1e-5)


def test_a_graph_that_begins_with_something_else_has_no_steps(tmp_path: Path) -> None:
    text, factor, shift = first_steps(saved(tmp_path / "m.onnx", [], {}), "input")
    assert (text, factor.tolist(), shift.tolist()) == ("", [1.0], [0.0])


def test_a_constant_of_a_whole_picture_is_unknown(tmp_path: Path) -> None:
    node = helper.make_node("Sub", ["input", "mean"], ["a"])
    path = saved(tmp_path / "m.onnx", [node], {"mean": np.zeros((3, 4, 4), np.float32)})
    text, _, shift = first_steps(path, "input")
    assert text == "− a constant"
    assert np.isnan(shift).all()
