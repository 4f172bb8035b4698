"""The demo of a model as a Gradio Space: pushed as one commit, started, and asked about two photos."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import hub_client
from tests.support.hub_server import HubServer
from tests.support.places import ROOT
from tests.support.toy_faces import write_model
from zoo import FaceVerifier
from zoo.errors import InputError
from zoo.modelinfo import ModelInfo
from zoo.publish import License
from zoo.publish.push import REQUIREMENTS, stage_space

LICENSE = License("apache-2.0")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip wheel` packs: the packages under their import names."""
    file = tmp_path_factory.mktemp("wheel") / "timm_face_zoo-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as packed:
        for folder in ("zoo", "heads", "export", "evaluate"):
            name = folder if folder == "zoo" else f"zoo/{folder}"
            for source in sorted((ROOT / folder).rglob("*.*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    packed.write(source, f"{name}/{source.relative_to(ROOT / folder)}")
    return file


@pytest.fixture
def yunet(shared: Path) -> Path:
    return shared / "models/face_detection_yunet_2026may.onnx"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "toy.onnx", ModelInfo(48, parity={"1": {"cosine": 1.0, "max_abs": 0.0}}))


@pytest.fixture
def staged(tmp_path: Path, model: Path, wheel: Path, yunet: Path) -> Path:
    folder = tmp_path / "space"
    folder.mkdir()
    stage_space(model, folder, "o/demo", LICENSE, wheel, detector=yunet, threshold=0.4)
    return folder


def test_a_space_has_its_app_ten_requirements_the_model_and_the_wheel(staged: Path, wheel: Path, yunet: Path) -> None:
    names = {"README.md", "app.py", "requirements.txt", "model.onnx", "detector.onnx", wheel.name}
    assert {file.name for file in staged.iterdir()} == names
    assert (staged / "requirements.txt").read_text().splitlines() == list(REQUIREMENTS) and len(REQUIREMENTS) == 10
    card = (staged / "README.md").read_text()
    assert card.startswith("---\ntitle: demo\nsdk: gradio\n") and "license: apache-2.0\n" in card
    assert (staged / "detector.onnx").read_bytes() == yunet.read_bytes()
    assert "No liveness detection" in (staged / "app.py").read_text()


ASK = """
import sys, types, json
sys.path[:] = [p for p in sys.path if p != ROOT]
gr = types.ModuleType("gradio")
for name in ("Interface", "Image", "Gallery", "Markdown"):
    setattr(gr, name, lambda *a, **k: None)
gr.Error = ValueError
sys.modules["gradio"] = gr
sys.path.insert(0, SPACE)
import app, cv2, zoo
pictures = [cv2.imread(path)[..., ::-1].copy() for path in PATHS]
crops, told = app.compare(*pictures)
try:
    app.compare(pictures[0] * 0, pictures[1])
except ValueError as error:
    refused = str(error)
print(json.dumps([zoo.__file__, [crop.shape for crop in crops], told, refused, "torch" in sys.modules]))
"""


def test_the_app_answers_as_zoo_verify_out_of_the_wheel_and_without_torch(
    staged: Path, model: Path, yunet: Path, shared: Path
) -> None:
    paths = [str(shared / "photos" / name) for name in ("person_a_1.jpg", "person_a_2.jpg")]
    values = {"ROOT": str(ROOT), "SPACE": str(staged), "PATHS": paths}
    program = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + ASK
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=staged, check=False
    )
    assert done.returncode == 0, done.stderr
    home, shapes, told, refused, torch = json.loads(done.stdout)
    assert str(ROOT) not in home and shapes == [[112, 112, 3]] * 2 and not torch
    expected = FaceVerifier(model, yunet, threshold=0.4).verify(*paths)
    assert f"Similarity {expected.similarity:.4f}; threshold {expected.decision}" in told
    assert ("The same person" if expected.same else "Different people") in told
    assert "expected a face in the first picture" in refused


@pytest.fixture
def gradio(request: pytest.FixtureRequest) -> Path:
    """A folder with gradio in pytest's cache; it takes no Pillow 13, which the project itself is tested with."""
    folder = Path(request.config.cache.mkdir("gradio"))  # type: ignore[union-attr]
    if not (folder / "gradio").is_dir():
        pinned = (ROOT / "constraints.txt").read_text().splitlines()
        constraints = folder.with_name("gradio-constraints.txt")
        constraints.write_text("\n".join(line for line in pinned if not line.startswith("pillow==")))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "gradio>=5"]
        command += ["--constraint", str(constraints)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"gradio cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


DRIVE = """
import json
from gradio_client import Client, handle_file
client = Client(URL, verbose=False)
photos = [handle_file(path) for path in PATHS]
crops, told = client.predict(*photos, api_name="/compare")
try:
    client.predict(photos[0], None, api_name="/compare")
except Exception as error:
    refused = str(error)
print(json.dumps([len(crops), told, refused]))
"""


@pytest.mark.soak
def test_the_app_starts_under_gradio_and_is_driven_by_its_client(staged: Path, shared: Path, gradio: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(gradio), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    program = "import app; print(app.demo.launch(prevent_thread_lock=True)[1], flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=staged, env=environment, **pipes) as app:  # type: ignore[call-overload]
        try:
            url = next(found[0] for line in app.stdout if (found := re.search(r"http://\S+", line)))
            values = {"URL": url, "PATHS": [str(shared / "photos" / f"person_{name}_1.jpg") for name in "ab"]}
            drive = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + DRIVE
            done = subprocess.run(
                [sys.executable, "-c", drive], capture_output=True, text=True, env=environment, check=False
            )
        finally:
            app.terminate()
    assert done.returncode == 0, done.stderr
    crops, told, refused = json.loads(done.stdout)
    assert crops == 2 and "Similarity" in told and "threshold 0.4000" in told
    assert "expected two photos" in refused


PUSH = """
from zoo.publish import License
from zoo.publish.push import publish_space
sizes, pushed = publish_space(MODEL, "o/demo", License("apache-2.0"), WHEEL, detector=YUNET, dry_run=False)
print(sorted(sizes), pushed.changed, pushed.commit)
"""


def test_a_push_makes_the_space_and_one_commit_with_every_file(
    tmp_path: Path, model: Path, wheel: Path, yunet: Path, staged: Path
) -> None:
    values = {"MODEL": str(model), "WHEEL": str(wheel), "YUNET": str(yunet)}
    program = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + PUSH
    with HubServer() as hub:
        done = hub_client.python(hub, tmp_path, program, token=True)
        assert re.search(r"True [0-9a-f]{40}\n", done.stdout), done.stdout + done.stderr
        tree = hub.repos["o/demo"].tree(hub.repos["o/demo"].branches["main"])
        assert {file.name for file in staged.iterdir()} <= set(tree)
        assert tree[wheel.name] == wheel.read_bytes()


def test_what_is_no_wheel_or_no_proven_model_is_refused(tmp_path: Path, model: Path, wheel: Path, yunet: Path) -> None:
    with pytest.raises(InputError, match="expected zoo's wheel"):
        stage_space(model, tmp_path, "o/demo", LICENSE, tmp_path / "other-1.0-py3-none-any.whl", detector=yunet)
    bare = write_model(tmp_path / "bare.onnx")
    folder = tmp_path / "space"
    folder.mkdir()
    with pytest.raises(InputError, match=r"proof|facts"):
        stage_space(bare, folder, "o/demo", LICENSE, wheel, detector=yunet)
