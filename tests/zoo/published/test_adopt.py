"""Every published layout gives its own network's embeddings; what does not fit is named, and nothing is guessed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.support.official import FULL, SMALL, ArcFaceNet, Case, IRNet, draw, patches
from zoo.backbones import load_timm, model_info
from zoo.backbones.timm_folder import TorchFolder
from zoo.errors import InputError
from zoo.export.onnx import write_onnx
from zoo.export.parity import differences
from zoo.files import sha256
from zoo.inference.metadata import read_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec
from zoo.published import catalogue as module
from zoo.published.adopt import adopt
from zoo.published.catalogue import Catalogue, catalogue

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3), dtype=np.uint8)
FREE = ("n", 3, 16, 12)
FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def written(
    path: Path,
    shape: tuple[object, ...] = FREE,
    kind: int = FLOAT,
    outputs: tuple[str, ...] = ("emb",),
    image: str = "input",
    ir_version: int = 9,
) -> Path:
    """An embedder of 20 numbers that sees every colour and place, with as many of its outputs as are named."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(16 * 12 * 3, 20)).astype(np.float32) / 99, "one": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Cast", [image], ["x"], to=FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["raw"]),
        helper.make_node("Tanh", ["raw"], ["emb"]),
        helper.make_node("ReduceSum", ["emb", "one"], ["norm"], keepdims=1),
        helper.make_node("Neg", ["emb"], ["other"]),
    ]
    values = [helper.make_tensor_value_info(image, kind, shape)]
    if ir_version < 4:
        values += [helper.make_tensor_value_info("w", FLOAT, [16 * 12 * 3, 20])]
        values += [helper.make_tensor_value_info("one", TensorProto.INT64, [1])]
    results = [helper.make_tensor_value_info(name, FLOAT, [shape[0], 1 if name == "norm" else 20]) for name in outputs]
    tensors = [numpy_helper.from_array(tensor, name) for name, tensor in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", values, results, tensors), ir_version=ir_version)
    model.opset_import[0].version = 17
    onnx.save(model, path)
    return path


def embedded(path: Path, tensor: np.ndarray) -> np.ndarray:
    """The file's own answer through ONNX Runtime alone."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    single = session.get_inputs()[0].shape[0] == 1
    parts = [tensor[i : i + 1] for i in range(len(tensor))] if single else [tensor]
    return np.concatenate([session.run(["emb"], {name: np.ascontiguousarray(part)})[0] for part in parts])


NORMAL = (PIXELS.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
FORMS: dict[str, tuple[dict[str, Any], str, np.ndarray]] = {
    "as insightface's": ({}, "insightface", NORMAL),
    "BGR and a norm beside it, as AdaFace's": ({"outputs": ("emb", "norm")}, "adaface", NORMAL[:, ::-1]),
    "one at a time": ({"shape": (1, 3, 16, 12)}, "edgeface", NORMAL),
    "channels last": ({"shape": ("n", 16, 12, 3)}, "insightface", NORMAL.transpose(0, 2, 3, 1)),
    "pixels, as SFace's": ({"image": "data"}, "sface", PIXELS.transpose(0, 3, 1, 2).astype(np.float32)),
    "whole numbers": ({"kind": BYTE, "shape": ("n", 16, 12, 3)}, "sface", PIXELS),
    "float16": ({"kind": HALF}, "lvface", NORMAL.astype(np.float16)),
    "old, its weights among the inputs": ({"ir_version": 3}, "adaface", NORMAL[:, ::-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_adopted_file_gives_its_own_embeddings_and_states_its_input(form: str, tmp_path: Path) -> None:
    options, convention, tensor = FORMS[form]
    path = written(tmp_path / "face.onnx", **options)
    adopted = adopt(path, tmp_path / "model", convention)
    embedder = OnnxEmbedder(adopted.folder / "model.onnx", device="cpu")
    np.testing.assert_array_equal(embedder(PIXELS), embedded(path, tensor))
    assert embedder.info == adopted.info == read_model_info(adopted.folder / "model.onnx")
    assert embedder.input.channel_order == "RGB" and embedder.input.size == (16, 12) and embedder.embedding_dim == 20
    assert embedder.input.scaling == (InputSpec(mean=0.0, std=1.0) if convention == "sface" else InputSpec()).scaling
    session = embedder.session
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["input", "embedding"]
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    assert not [note for note in embedder.notes if "does not state" in note]
    onnx.checker.check_model(str(adopted.folder / "model.onnx"), full_check=True)


def test_another_order_of_colours_gives_other_embeddings(tmp_path: Path) -> None:
    path = written(tmp_path / "face.onnx")
    ours = [OnnxEmbedder(adopt(path, tmp_path / name, name).folder / "model.onnx") for name in ("adaface", "edgeface")]
    assert np.abs(ours[0](PIXELS) - ours[1](PIXELS)).max() > 0.01


@pytest.mark.parametrize(
    ("options", "convention", "message"),
    [
        ({}, None, r"expected --as, as nothing in the layout onnx tells whose it is\. insightface: RGB"),
        ({}, "magface", "no convention called 'magface' is known for the layout onnx"),
        (
            {"outputs": ("raw", "other")},
            "adaface",
            r"the 2 outputs of face\.onnx, found raw \(20\), other \(20\); cut the",
        ),
        (
            {"outputs": ("norm", "raw", "other")},
            "adaface",
            r"found norm \(1\), raw \(20\), other \(20\); cut the others off",
        ),
        ({"shape": ("n", 4, 16, 12)}, "adaface", r"one image input .* found input \[0, 4, 16, 12\]"),
        (
            {"kind": BYTE},
            "adaface",
            r"expected whole numbers from 0 to 255 .*found \(x − 127\.5\) / 127\.5 by --as adaf",
        ),
    ],
)
def test_what_is_not_told_or_no_embedder_is_refused_and_nothing_is_left(
    options: dict[str, Any], convention: str | None, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "face.onnx", **options)
    with pytest.raises(InputError, match=message):
        adopt(path, tmp_path / "model", convention)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_file_whose_embeddings_are_not_finite_leaves_no_model(there: bool, tmp_path: Path) -> None:
    path, folder = written(tmp_path / "face.onnx"), tmp_path / "model"
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))
    onnx.save(proto, str(path))
    if there:
        folder.mkdir()
    with pytest.raises(InputError, match=r"expected finite embeddings of face\.onnx"):
        adopt(path, folder, "insightface")
    assert not folder.exists() if not there else not list(folder.iterdir())


def test_our_own_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    ours = adopt(written(tmp_path / "face.onnx"), tmp_path / "model", "insightface").folder / "model.onnx"
    with pytest.raises(InputError, match=r"found model\.onnx, which zoo wrote; use it as it is"):
        adopt(ours, tmp_path / "again", "insightface")
    (tmp_path / "text.onnx").write_text("no model at all")
    with pytest.raises(InputError, match="expected an ONNX model"):
        adopt(tmp_path / "text.onnx", tmp_path / "again", "insightface")
    assert not (tmp_path / "again").exists()


CROPS = patches(5, seed=1)


def worst_cosine(case: Case, checkpoint: Path, folder: Path, network: torch.nn.Module) -> float:
    """The worst cosine between the official network's embeddings and those of the adopted folder."""
    adopted = adopt(checkpoint, folder, case.convention)
    assert adopted.info.backbone == case.architecture
    assert adopted.info.input.channel_order == "RGB"
    theirs = case.embed(network, CROPS).numpy()
    return differences(theirs, TorchFolder(folder, "cpu")(CROPS.numpy())).cosine


@pytest.mark.parametrize("name", SMALL)
def test_a_published_checkpoint_embeds_as_its_own_network_does(name: str, tmp_path: Path) -> None:
    case = SMALL[name]
    network = draw(case.network())
    torch.save(case.wrap(network.state_dict()), tmp_path / "checkpoint.pth")
    assert worst_cosine(case, tmp_path / "checkpoint.pth", tmp_path / "model", network) >= 0.999999


@pytest.mark.parametrize("name", ["magface", "adaface"])
def test_the_oracle_notices_another_order_of_colours_and_another_epsilon(name: str, tmp_path: Path) -> None:
    case = SMALL[name]
    network = draw(case.network())
    torch.save(case.wrap(network.state_dict()), tmp_path / "checkpoint.pth")
    wrong = dataclasses.replace(case, channel_order="RGB")
    assert worst_cosine(wrong, tmp_path / "checkpoint.pth", tmp_path / "model", network) < 0.999
    if name == "magface":
        as_arcface = adopt(tmp_path / "checkpoint.pth", tmp_path / "other", "arcface_torch").folder
        ours, theirs = load_timm(tmp_path / "model").state_dict(), load_timm(as_arcface).state_dict()
        shift = ours["stem.1.running_var"] - theirs["stem.1.running_var"]
        assert torch.allclose(shift, torch.full_like(shift, 1e-5), atol=1e-7)


@pytest.mark.parametrize("name", ["mbf", "edgeface-low-rank"])
def test_an_adopted_folder_exports_with_proof_and_states_its_input(name: str, tmp_path: Path) -> None:
    case = SMALL[name]
    network = draw(case.network())
    safetensors.torch.save_file(
        {f"model.{key}": tensor for key, tensor in network.state_dict().items()}, tmp_path / "checkpoint.safetensors"
    )
    folder = adopt(tmp_path / "checkpoint.safetensors", tmp_path / "model", case.convention).folder
    write_onnx(load_timm(folder), folder / "model.onnx", model_info(folder), batches=(1, 5))
    embedder = OnnxEmbedder(folder / "model.onnx", device="cpu", threads=1)
    assert embedder.info is not None and embedder.info.origin == model_info(folder).origin
    assert differences(case.embed(network, CROPS).numpy(), embedder(CROPS.numpy())).cosine >= 0.999999


@pytest.mark.soak
@pytest.mark.parametrize("name", FULL)
def test_every_size_of_the_catalogue_embeds_as_its_own_network_and_exports(name: str, tmp_path: Path) -> None:
    case = FULL[name]
    network = draw(case.network())
    torch.save(case.wrap(network.state_dict()), tmp_path / "checkpoint.pth")
    assert worst_cosine(case, tmp_path / "checkpoint.pth", tmp_path / "model", network) >= 0.999999
    write_onnx(load_timm(tmp_path / "model"), tmp_path / "model.onnx", model_info(tmp_path / "model"), batches=(1, 5))
    embeddings = OnnxEmbedder(tmp_path / "model.onnx", device="cpu")(CROPS.numpy())
    assert differences(case.embed(network, CROPS).numpy(), embeddings).cosine >= 0.999999


@pytest.fixture(scope="module")
def adaface() -> dict[str, torch.Tensor]:
    return draw(IRNet()).state_dict()


def saved(state: object, folder: Path) -> Path:
    torch.save(state, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def test_the_same_keys_give_other_embeddings_under_another_name_so_nothing_is_guessed(
    adaface: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = saved(adaface, tmp_path)
    with pytest.raises(InputError, match=r"expected --as.*adaface: BGR.*cvlface: RGB"):
        adopt(path, tmp_path / "model")
    with pytest.raises(InputError, match="no convention called 'magface' is known for the layout ir"):
        adopt(path, tmp_path / "model", "magface")
    first = [
        TorchFolder(adopt(path, tmp_path / name, name).folder, "cpu")(CROPS.numpy()) for name in ("adaface", "cvlface")
    ]
    assert differences(*first).cosine < 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"senet.0.weight": torch.ones(3)}, "found senet.0.weight: parts of another architecture"),
        ({f"senet.{i}.weight": torch.ones(3) for i in range(5)}, "senet.0.weight, .* and 2 more"),
        ({"body.3.res_layer.6.weight": torch.ones(3)}, "found body.3.res_layer.6.weight"),
        ({"output_layer.4.running_var": None}, "expected the tensors of iresnet18, found others in neck.4"),
        ({"input_layer.0.weight": torch.ones(64, 3, 5, 5)}, "others in stem.0.weight"),
        ({"input_layer.0.weight": torch.full((64, 3, 3, 3), torch.nan)}, "expected finite weights"),
        ({"output_layer.3.weight": torch.ones(16)}, "expected the shapes of the layout ir"),
        ({"body.8.res_layer.1.weight": torch.ones(512, 512, 3, 3)}, r"blocks in its stages, found \(2, 2, 2, 3\)"),
    ],
)
def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(
    adaface: dict[str, torch.Tensor], change: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    state = {name: tensor for name, tensor in {**adaface, **change}.items() if tensor is not None}
    with pytest.raises(InputError, match=message) as caught:
        adopt(saved(state, tmp_path), tmp_path / "model", "adaface")
    assert "\n" not in str(caught.value) and not (tmp_path / "model").exists()


def test_keys_of_no_known_layout_and_taken_folders_are_refused(
    adaface: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"expected the keys of one of the layouts arcface_torch, .*a\.weight"):
        adopt(saved({"a.weight": torch.ones(3)}, tmp_path), tmp_path / "model", "adaface")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        adopt(saved(adaface, tmp_path), tmp_path, "adaface")
    with pytest.raises(InputError, match="expected a checkpoint file, a name of"):
        adopt(tmp_path / "nothing.pth", tmp_path / "model", "adaface")
    with pytest.raises(InputError, match=r"adaface-r50-ms1mv2 must be fetched by hand from https://drive"):
        adopt("adaface-r50-ms1mv2", tmp_path / "model")


def test_denormal_weights_are_flushed(tmp_path: Path) -> None:
    state = draw(ArcFaceNet()).state_dict()
    state["fc.weight"][0, :5] = 1e-40
    folder = adopt(saved(state, tmp_path), tmp_path / "model", "arcface_torch").folder
    weights = load_timm(folder).state_dict()["neck.3.weight"]
    assert torch.equal(weights[0, :5], torch.zeros(5)) and torch.equal(weights[0, 5:], state["fc.weight"][0, 5:])


def known_by(path: Path, monkeypatch: pytest.MonkeyPatch, **facts: str) -> None:
    """Makes the catalogue's AdaFace R18 the model in the file at `path`."""
    known = catalogue().named("adaface-r18-webface4m")
    assert known is not None
    entry = dataclasses.replace(known, **{"sha256": sha256(path), **facts})
    changed = Catalogue({entry.name: entry}, catalogue().conventions)
    monkeypatch.setattr(module, "catalogue", lambda: changed)


def test_a_known_hash_sets_the_convention_and_the_card_knows_who_trained_it(
    adaface: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(
        {"state_dict": {**{f"model.{k}": v for k, v in adaface.items()}, "head.kernel": torch.ones(3)}}, tmp_path
    )
    known_by(path, monkeypatch)
    with pytest.raises(InputError, match="expected no --as, or adaface: the file is adaface-r18-webface4m"):
        adopt(path, tmp_path / "model", "cvlface")
    adopted = adopt(path, tmp_path / "model")
    origin = model_info(adopted.folder).origin
    assert origin is not None and adopted.known is not None
    assert (origin.name, origin.authors, origin.leftovers) == (
        "adaface-r18-webface4m",
        adopted.known.authors,
        ("head.kernel",),
    )
    assert origin.stated["LFW"] == 0.9953 and origin.sha256 == sha256(path) and "BGR" not in adopted.info.to_json()
    assert model_info(adopted.folder).training_set == "webface4m" and "web" in origin.consent
