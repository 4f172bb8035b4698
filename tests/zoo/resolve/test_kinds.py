"""What each kind of MODEL gives, and what it says where the form that was asked for is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.inference.metadata import read_model_info
from zoo.recognition.threshold import decide, decide_identification
from zoo.resolve import KINDS, Folder, HubFile, HubModel, OnnxFile, find_model, onnx_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run, a model in timm's layout and two ONNX files."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/demo", "timm", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs/demo/config.yaml").touch()
    for name in ("runs/demo/model.onnx", "face.onnx", "timm/config.json", "timm/model.safetensors"):
        (tmp_path / name).touch()
    return tmp_path


def place(text: str) -> object:
    return next((found for kind in KINDS if (found := kind.find(text)) is not None), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("face.onnx", OnnxFile(Path("face.onnx"))),
        ("runs/demo", Folder(Path("runs/demo"))),
        ("demo", Folder(Path("runs/demo"))),
        ("timm", Folder(Path("timm"))),
        ("local-dir:timm", Folder(Path("timm"))),
        ("owner/name", HubModel("owner/name")),
        ("owner/name@v1", HubModel("owner/name@v1")),
        ("hf-hub:owner/name", HubModel("owner/name")),
        ("hf-hub:runs/demo", HubModel("runs/demo")),
        ("owner/name:face.onnx", HubFile("owner/name", "face.onnx")),
        ("owner/name@v1:onnx/model.onnx", HubFile("owner/name@v1", "onnx/model.onnx")),
        ("hf-hub:owner/name:face.pt", HubFile("owner/name", "face.pt")),
        ("runs/demo:face.onnx", None),
        ("runs/nothing", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_every_spelling_is_one_kind(text: str, expected: object) -> None:
    assert place(text) == expected


def test_a_folder_here_comes_before_the_hub(folder: Path) -> None:
    (folder / "owner/name").mkdir(parents=True)
    assert place("owner/name") == Folder(Path("owner/name"))
    assert place("hf-hub:owner/name") == HubModel("owner/name")


def test_a_folder_of_photos_does_not_hide_a_run_of_its_name(folder: Path) -> None:
    (folder / "demo").mkdir()
    assert place("demo") == Folder(Path("runs/demo"))
    assert place("empty") == Folder(Path("empty"))
    (folder / "demo/config.json").touch()
    assert place("demo") == Folder(Path("demo"))


def test_each_form_is_found_where_it_is() -> None:
    assert Folder(Path("runs/demo")).onnx() == Path("runs/demo/model.onnx")
    assert Folder(Path("timm")).folder() == Path("timm")
    assert OnnxFile(Path("face.onnx")).onnx() == Path("face.onnx")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            lambda: OnnxFile(Path("face.onnx")).folder(),
            "expected a model with PyTorch weights, found the file face.onnx",
        ),
        (lambda: Folder(Path("timm")).onnx(), "found none; export it with `zoo export timm --onnx`"),
        (lambda: Folder(Path("empty")).onnx(), "expected a model in the folder empty"),
        (lambda: Folder(Path("empty")).folder(), "found no config.json"),
        (lambda: Folder(Path("runs/demo")).folder(), "never finished an epoch"),
        (lambda: place("local-dir:nowhere"), "expected a folder at nowhere"),
        (lambda: HubModel("a/../b").onnx(), "expected a model on the Hub"),
    ],
)
def test_what_is_missing_is_one_sentence_that_says_what_to_do(wrong, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        wrong()


def test_names_are_those_that_people_use() -> None:
    assert OnnxFile(Path("runs/demo/model.onnx")).name == Folder(Path("runs/demo")).name == "demo"
    assert OnnxFile(Path("face.onnx")).name == "face.onnx"
    assert HubModel("owner/name@v1").name == "owner/name"


def test_a_file_on_the_hub_that_is_no_onnx_file_must_be_adopted_first() -> None:
    place = HubFile("owner/name", "face.pt")
    assert place.name == "owner/name:face.pt"
    with pytest.raises(InputError, match=r"expected an ONNX file, found owner/name:face\.pt; `zoo adopt owner"):
        place.onnx()
    with pytest.raises(InputError, match=r"in timm's layout, found the file owner/name:face\.pt; `zoo adopt"):
        place.folder()


def test_a_checkpoint_of_another_project_is_told_how_it_becomes_a_model() -> None:
    for form in (OnnxFile(Path("face.ckpt")).onnx, OnnxFile(Path("face.ckpt")).folder):
        with pytest.raises(InputError, match=r"found the checkpoint face\.ckpt; `zoo adopt face\.ckpt"):
            form()


def test_a_model_that_comes_with_zoo_is_found_by_its_name_and_gives_no_verdict() -> None:
    file = onnx_file("mobilefacenet-rendered")
    info = read_model_info(file)
    assert info is not None and not info.thresholds and file.stat().st_size <= 4e6
    for decision in (decide(info), decide_identification(info, 10)):
        assert decision.threshold is None and decision.accepts(0.99) is None
        assert "this model gives no verdicts; its similarities are worth AUC 0.8" in str(decision)
    for asked in ({"far": 0.01}, {"threshold": 0.3}):
        with pytest.raises(InputError, match=r"expected no threshold and no rate .* found 0"):
            decide(info, **asked)
    with pytest.raises(InputError, match="expected no threshold and no rate"):
        decide_identification(info, 10, fpir=0.1)
    with pytest.raises(InputError, match=r"did you mean mobilefacenet-rendered\?"):
        find_model("mobilefacenet-rendred")
