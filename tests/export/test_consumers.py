"""Programs of others load our file as it is and embed a colour crop as zoo does; which opset each reads, as a table.

insightface and uniface pull in plain onnxruntime over onnxruntime-gpu, so each gets an environment of its own, kept in
pytest's cache. They install through pip and npm, in the versions that are pinned here and in its package.json;
where those cannot, the trial skips and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.support.places import NODE
from zoo.backbones import create_backbone
from zoo.export import parity
from zoo.export.onnx import write_onnx
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo

pytestmark = pytest.mark.soak

PROGRAMS = {
    "insightface": """
import json, sys, cv2
from insightface.model_zoo import get_model
model = get_model(sys.argv[1], providers=["CPUExecutionProvider"])
assert type(model).__name__ == "ArcFaceONNX", type(model)
crop = cv2.imread(sys.argv[2])
print(json.dumps([model.get_feat(crop)[0].tolist(), *model.get_feat([crop, crop[:, ::-1].copy()]).tolist()]))
""",
    "uniface": """
import json, sys, cv2
from uniface.recognition.base import BaseRecognizer, PreprocessConfig

class Ours(BaseRecognizer):
    def __init__(self, path):
        super().__init__(model_path=path, preprocessing=PreprocessConfig(), providers=["CPUExecutionProvider"])

model, crop = Ours(sys.argv[1]), cv2.imread(sys.argv[2])
print(json.dumps([model.get_embedding(c)[0].tolist() for c in (crop, crop, crop[:, ::-1].copy())]))
""",
}
"""Each prints three embeddings: of the crop, of the crop again, of its mirror image. OpenCV reads BGR; they turn it."""
RAW = {
    "onnxruntime": "import onnxruntime as ort\nout = ort.InferenceSession(path).run(None, {'input': x})[0]",
    "openvino": """
import openvino
model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
out = model(x)[0]
""",
    "opencv": """
import cv2
net, rows = cv2.dnn.readNetFromONNX(path), []
for row in x:
    net.setInput(row[None])
    rows.append(net.forward()[0])
out = np.stack(rows)
""",
}
"""Each makes `out`, the embeddings of the inputs `x`, with the file at `path`."""
REQUIREMENTS = {
    "onnxruntime-1.15": ["onnxruntime==1.15.1", "numpy<2"],
    "onnxruntime-1.17": ["onnxruntime==1.17.3", "numpy<2"],
    "openvino": ["openvino==2026.4.1"],
    "opencv": ["opencv-python==5.0.0.93"],
    "insightface": ["insightface==2.1", "onnxruntime==1.32.0"],
    "uniface": ["uniface[cpu]==4.2.1", "onnxruntime==1.32.0", "opencv-python==5.0.0.93"],
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A model, a colour crop as PNG, and zoo's embeddings (3, dim) of the crop, the crop and its mirror image."""
    folder = tmp_path_factory.mktemp("consumers")
    torch.manual_seed(0)
    model = create_backbone("mobilefacenet", 128)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of these crops alone, else an untrained model hardly sees the colours
    model.train()(torch.from_numpy(InputSpec().to_input(parity.crops_for_parity((112, 112), 16))))
    write_onnx(model, folder / "model.onnx", ModelInfo(128, backbone="mobilefacenet"), batches=(1, 2))
    crop = parity.crops_for_parity((112, 112), 1)[0]
    cv2.imwrite(str(folder / "crop.png"), crop[..., ::-1])
    expected = OnnxEmbedder(folder / "model.onnx", device="cpu")(np.stack([crop, crop, crop[:, ::-1]]))
    return folder / "model.onnx", folder / "crop.png", expected


def installed(name: str, cache: pytest.Cache) -> Path:
    """The Python of an environment that has `name`, made once."""
    folder = Path(cache.mkdir(f"consumer-{name}"))
    python = folder / "bin" / "python"
    ready, wanted = folder / "ready", "\n".join(REQUIREMENTS[name])
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"{name} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
        ready.write_text(wanted)
    return python


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_python_package_embeds_as_zoo_does(
    name: str, sample: tuple[Path, Path, np.ndarray], request: pytest.FixtureRequest
) -> None:
    model, crop, expected = sample
    python = installed(name, request.config.cache)
    done = subprocess.run(
        [str(python), "-c", PROGRAMS[name], str(model), str(crop)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout.strip().splitlines()[-1]))
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, scale)
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (found, expected)]
    assert np.abs(units[0] - units[1]).max() <= 1e-4
    swapped = OnnxEmbedder(model, device="cpu")(cv2.imread(str(crop))[None])
    assert np.abs(swapped / np.linalg.norm(swapped) - units[1][:1]).max() > 1e-3, "the crop must tell the colours apart"


@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_javascript_embeds_as_zoo_does(
    package: str, sample: tuple[Path, Path, np.ndarray], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, crop, expected = sample
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = Path(request.config.cache.mkdir("consumer-node"))
    wanted, had = NODE / "package.json", folder / "package.json"
    if not had.exists() or had.read_text() != wanted.read_text():
        shutil.copy(wanted, had)
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-package-lock", "--prefix", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            had.unlink()
            pytest.skip(f"{package} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(NODE / "embed.cjs", folder)
    (tmp_path / "crop.rgb").write_bytes(np.ascontiguousarray(cv2.imread(str(crop))[..., ::-1]).tobytes())
    done = subprocess.run(
        ["node", str(folder / "embed.cjs"), str(model), str(tmp_path / "crop.rgb"), package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout))[None]
    assert parity.row_cosines(found, expected[:1])[0] > 0.9999


GELU = "vit_tiny_patch16_224"
"""A network with GELU, which opset 20 has as one operator and opset 18 spells with Erf."""
TABLE = {
    ("onnxruntime-1.15", 18): "runs",
    ("onnxruntime-1.15", 20): "refuses",
    ("onnxruntime-1.17", 18): "runs",
    ("onnxruntime-1.17", 20): "runs",
    ("openvino", 18): "runs",
    ("openvino", 20): "runs",
    ("opencv", 18): "crashes",
    ("opencv", 20): "runs",
}
"""What becomes of the network with GELU; docs/export.md has this table. Without GELU, OpenCV runs opset 18 too."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GELU.onnx files of both opsets, three inputs and torch's embeddings of them."""
    folder = tmp_path_factory.mktemp("opsets")
    torch.manual_seed(0)
    model = create_backbone(GELU, 64, neck="native").eval()
    x = InputSpec().to_input(parity.crops_for_parity((112, 112), 3))
    for opset in (18, 20):
        write_onnx(model, folder / f"{opset}.onnx", ModelInfo(64, backbone=GELU), opset=opset, batches=(1, 2))
    np.save(folder / "x.npy", x)
    with torch.inference_mode():
        np.save(folder / "expected.npy", model(torch.from_numpy(x)).numpy())
    return folder


@pytest.mark.parametrize(("consumer", "opset"), TABLE)
def test_the_table_of_consumers_and_opsets_holds(
    consumer: str, opset: int, files: Path, request: pytest.FixtureRequest
) -> None:
    program = "\n".join(
        [
            "import numpy as np",
            f"path, x = {str(files / f'{opset}.onnx')!r}, np.load({str(files / 'x.npy')!r})",
            RAW[consumer.partition("-")[0]],
            f"expected = np.load({str(files / 'expected.npy')!r})",
            "assert np.abs(out - expected).max() <= 1e-4 * np.abs(expected).max()",
        ]
    )
    python = installed(consumer, request.config.cache)
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    found = {0: "runs", 1: "refuses"}.get(done.returncode, "crashes")
    assert "AssertionError" not in done.stderr, "it runs and computes something else"
    assert found == TABLE[consumer, opset], done.stderr
