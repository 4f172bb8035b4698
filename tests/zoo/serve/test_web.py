"""The page without a server: in Chromium it embeds and decides as `zoo verify` does, and no request leaves it."""

from __future__ import annotations

import csv
import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.support.browser import Browser, browsing
from tests.support.node_packages import installed
from tests.support.toy_faces import LOOSE, STRICT, crop, write_model
from zoo import FaceVerifier
from zoo.cli import main
from zoo.errors import InputError
from zoo.faces.detect import FaceDetector
from zoo.formats.images import encode_png
from zoo.modelinfo import ModelInfo
from zoo.serve import export_web
from zoo.serve.web import CSP, RUNTIME, with_any_size


@pytest.fixture(scope="module")
def runtime(request: pytest.FixtureRequest) -> Path:
    return installed("onnxruntime-web", request.config.cache)


@pytest.fixture
def photos(shared: Path) -> Path:
    return shared / "photos"


@pytest.fixture
def yunet(shared: Path) -> Path:
    return shared / "models/face_detection_yunet_2026may.onnx"


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder that looks like the npm package."""
    folder = tmp_path / "npm" / "dist"
    folder.mkdir(parents=True)
    for name in RUNTIME:
        (folder / name).write_text(name)
    return folder.parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves folders as a static web server does."""
    running = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browsing((1400, 900)) as found:
        yield found


def asked(browser: Browser, script: str) -> object:
    """What a promise becomes, in the page: `b` is its backend, `get` fetches a picture."""
    start = "const b = await import('./assets/backend.js'); const get = async (n) => (await fetch(n)).blob();"
    told = browser.command(
        "Runtime.evaluate",
        expression=f"(async () => {{ {start} return JSON.stringify(await (async () => {{ {script} }})()) }})()",
        awaitPromise=True,
    )
    assert "exceptionDetails" not in told, told["exceptionDetails"]
    return json.loads(told["result"]["value"])


def test_every_photo_is_embedded_as_zoo_verify_embeds_it(
    opened: Browser,
    serve: Callable[[Path], str],
    runtime: Path,
    tmp_path: Path,
    photos: Path,
    yunet: Path,
    shared: Path,
) -> None:
    """Real photos, a real detector and a real model: cosine at least 0.999, with the same notes and verdicts."""
    model = shared / "models/mobilefacenet.onnx"
    export_web(model, tmp_path / "page", runtime=runtime, detector=yunet, threshold=0.4)
    names = sorted(file.name for file in photos.glob("*.jpg"))
    lying = cv2.rotate(cv2.imread(str(photos / names[2])), cv2.ROTATE_90_CLOCKWISE)
    cv2.imwrite(str(tmp_path / "page" / "lying.png"), lying)
    for name in names:
        (tmp_path / "page" / name).symlink_to(photos / name)
    opened.open(serve(tmp_path / "page") + "/")
    opened.wait("document.getElementById('facts').textContent.includes('threshold 0.4000, given')")
    verifier = FaceVerifier(model, yunet, threshold=0.4)
    script = (
        "const f = (await b.embed(await get(n), n, {rule})).faces; return f.map((x) => [x.embedding, x.box, x.notes])"
    )
    worst = 1.0
    for name in [*names, "lying.png"]:
        for rule in ("largest", "all") if name.startswith("group") else ("largest",):
            found = asked(opened, f"const n = '{name}'; const rule = '{rule}'; {script}")
            crops = verifier.taking(rule).crops(tmp_path / "page" / name, name)
            embeddings = verifier.embed_crops(crops)
            assert len(found) == len(crops), (name, rule)
            for (embedding, box, notes), face, expected in zip(found, crops, embeddings, strict=True):
                worst = min(worst, float(np.dot(embedding, expected)))
                assert np.dot(embedding, expected) >= 0.999, (name, rule, float(np.dot(embedding, expected)))
                np.testing.assert_allclose(box, face.face.box, atol=0.02 * face.face.box[2])
                assert notes == list(face.notes)
    print(f"the lowest cosine to zoo verify is {worst:.6f}")
    with open(photos / "pairs.csv") as file:
        pairs = [(row["a"], row["b"]) for row in csv.DictReader(file)]
    for a, b in pairs[::12]:
        told = asked(
            opened, f"return b.verify(await get('{a}'), await get('{b}'), {{face: 'largest', threshold: null}})"
        )
        expected = verifier.verify(photos / a, photos / b)
        assert told["same"] == expected.same and abs(told["similarity"] - expected.similarity) < 0.002


def test_aligned_crops_get_the_verdict_threshold_and_notes_of_the_python_api(
    opened: Browser, serve: Callable[[Path], str], runtime: Path, tmp_path: Path, yunet: Path
) -> None:
    model = write_model(tmp_path / "toy.onnx", ModelInfo(48, thresholds=(STRICT, LOOSE)))
    page = tmp_path / "page"
    export_web(model, page, runtime=runtime, detector=yunet, aligned=True, far=0.01)
    for name, picture in (("a", crop(1)), ("b", crop(1, noise=5)), ("c", crop(2, (150, 130)))):
        (tmp_path / "page" / f"{name}.png").write_bytes(encode_png(picture))
    url = serve(page)
    opened.requests()
    opened.log("browser")
    opened.open(f"{url}/")
    opened.wait("document.getElementById('facts').textContent.includes('Model toy.onnx; threshold 0.9000, FAR 0.01')")
    verifier = FaceVerifier(model, yunet, aligned=True, far=0.01)
    for a, b in (("a", "b"), ("a", "c")):
        told = asked(
            opened, f"return b.verify(await get('{a}.png'), await get('{b}.png'), {{face: 'largest', threshold: null}})"
        )
        pictures = [cv2.imread(str(page / f"{name}.png"))[..., ::-1].copy() for name in (a, b)]
        expected = json.loads(verifier.verify(*pictures).to_json())
        assert abs(told["similarity"] - expected["similarity"]) < (1e-4 if b == "b" else 0.01)
        for name in ("threshold", "far", "origin", "same", "notes"):
            assert told[name] == expected[name], name
    opened.type("#file-a", str(page / "a.png"))
    opened.type("#file-b", str(page / "b.png"))
    assert opened.wait("document.querySelector('#verdict .words')?.textContent") == "The same person"
    assert opened.run("return document.getElementById('gallery').hidden")
    assert "no photo and no embedding leaves it" in opened.run("return document.getElementById('where').textContent")
    assert [found for found in opened.requests() if not found.startswith((url, f"blob:{url}"))] == []
    assert [entry["message"] for entry in opened.log("browser") if entry["level"] != "INFO"] == []


def test_the_page_allows_its_own_script_and_webassembly_and_nothing_else(
    stand_in: Path, tmp_path: Path, yunet: Path
) -> None:
    model = write_model(tmp_path / "toy.onnx")
    page = tmp_path / "page"
    files = export_web(model, page, runtime=stand_in, detector=yunet)
    assert CSP in (page / "index.html").read_text()
    assert "unsafe-inline" not in CSP and " 'unsafe-eval'" not in CSP
    assert files == {str(file.relative_to(page)): file.stat().st_size for file in page.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="expected no files at"):
        export_web(model, page, runtime=stand_in, detector=yunet)
    assert export_web(model, page, runtime=stand_in, detector=yunet, force=True) == files


def test_what_a_browser_cannot_run_is_refused_and_nothing_is_left(stand_in: Path, tmp_path: Path, yunet: Path) -> None:
    model = write_model(tmp_path / "toy.onnx")
    with pytest.raises(InputError, match="npm install onnxruntime-web"):
        export_web(model, tmp_path / "page", runtime=tmp_path, detector=yunet)
    fixed = onnx.load(str(model))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, str(tmp_path / "four.onnx"))
    with pytest.raises(InputError, match="for any batch or one crop"):
        export_web(tmp_path / "four.onnx", tmp_path / "page", runtime=stand_in, detector=yunet)
    assert not (tmp_path / "page").exists()


def test_a_detector_of_a_fixed_size_is_freed_or_refused(yunet: Path) -> None:
    proto = onnx.load(str(yunet))
    for axis, side in ((2, 640), (3, 640)):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    freed = with_any_size(FaceDetector(proto.SerializeToString(), "fixed.onnx"))
    shape = onnx.load_from_string(freed).graph.input[0].type.tensor_type.shape
    assert [dim.HasField("dim_param") for dim in shape.dim] == [False, False, True, True]
    for tensor in proto.graph.initializer:
        if list(tensor.dims) == [3] and onnx.numpy_helper.to_array(tensor).tolist() == [1, -1, 1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 6400, 1]), tensor.name))
    frozen = FaceDetector(yunet.read_bytes(), "frozen.onnx")
    frozen.content = proto.SerializeToString()
    with pytest.raises(InputError, match=r"any size.*frozen\.onnx"):
        with_any_size(frozen)


def test_the_command_writes_the_page_and_says_how_to_look_at_it(
    stand_in: Path, tmp_path: Path, yunet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "toy.onnx"))
    words = [
        "export",
        model,
        "--web",
        str(tmp_path / "page"),
        "--onnxruntime-web",
        str(stand_in),
        "--detector",
        str(yunet),
    ]
    assert main([*words, "--json"]) == 0
    assert "assets/vision.js" in json.loads(capsys.readouterr().out)["files"]
    assert main([*words, "--force"]) == 0 and "python -m http.server" in capsys.readouterr().out
    assert main([*words, "--onnx"]) == 2
