"""Every published layout gives its own network's embeddings; what does not fit is named, and nothing is guessed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.support.official import FULL, SMALL, ArcFaceNet, Case, IRNet, draw, patches
from zoo.backbones import load_timm, model_info
from zoo.backbones.torch_embedder import TorchFolder
from zoo.errors import InputError
from zoo.export.onnx import write_onnx
from zoo.export.parity import differences
from zoo.files import sha256
from zoo.inference.session import OnnxEmbedder
from zoo.published import find
from zoo.published.adopt import adopt
from zoo.published.catalogue import Catalogue, catalogue

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
    monkeypatch.setattr(find, "catalogue", lambda: changed)


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
