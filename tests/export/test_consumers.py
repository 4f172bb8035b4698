"""Programs of others load our file as it is and embed a colour crop as zoo does: insightface, uniface, Node.

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
REQUIREMENTS = {
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


def test_node_embeds_as_zoo_does(
    sample: tuple[Path, Path, np.ndarray], request: pytest.FixtureRequest, tmp_path: Path
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
            pytest.skip(f"onnxruntime-node cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(NODE / "embed.cjs", folder)
    (tmp_path / "crop.rgb").write_bytes(np.ascontiguousarray(cv2.imread(str(crop))[..., ::-1]).tobytes())
    done = subprocess.run(
        ["node", str(folder / "embed.cjs"), str(model), str(tmp_path / "crop.rgb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout))[None]
    assert parity.row_cosines(found, expected[:1])[0] > 0.9999
