"""`zoo export --web`: the page of two photos as static files; ONNX Runtime Web computes in the browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, explained
from zoo.faces import detect, finder, quality
from zoo.faces.align import ARCFACE_TEMPLATE, template
from zoo.faces.detect import FaceDetector, load_detector
from zoo.faces.finder import FaceRule
from zoo.files import new_folder, write_bytes
from zoo.recognition import FaceVerifier
from zoo.serve.page import page_files

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of the npm package onnxruntime-web that the page needs."""
CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'"
)  #: `wasm-unsafe-eval` lets WebAssembly be compiled, and nothing else
SIDES = ("WORKING_SIDE", "SMALL_SIDE", "LARGE_SIDE", "LARGE_FACE", "MAXIMAL_ENLARGEMENT", "OVERLAP", "SMALL_FACE")
SEARCH = (*SIDES, "LOOK_SIDE", "LOOK_WIDTH", "LOOKS", "BOX_SIDE", "SURE", "MARGIN", "SCORE")
LIMITS = ("LEAST_EYE_DISTANCE", "MOST_BLUR", "LEAST_BRIGHTNESS", "MOST_CUT", "MOST_TURN", "NOD_RANGE")
"""What the page's script takes over from `zoo.faces.detect` and `zoo.faces.quality`."""


def export_web(
    model: str | Path | None,
    output: str | Path,
    *,
    runtime: str | Path = "node_modules/onnxruntime-web",
    detector: str | Path | None = None,
    face: FaceRule = "largest",
    aligned: bool = False,
    far: float | None = None,
    threshold: float | None = None,
    force: bool = False,
) -> dict[str, int]:
    """Writes the page into the folder `output`, and returns the bytes of each file by its path below it.

    Any static web server can serve it, and no photo leaves the browser. `model` is whatever `zoo.resolve` understands,
    with float32 input in one file; `runtime` the folder of the npm package onnxruntime-web. `detector` to `threshold`
    are those of `FaceVerifier`; existing files are replaced only with `force`. InputError where a model cannot run in a
    browser, a file is missing, or the folder is in use.
    """
    from zoo.inference.metadata import external_files, load_proto

    folder = Path(output)
    if folder.exists() and not force and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected no files at {folder}, found some; add --force to replace them or name another")
    yunet = load_detector(detector)
    verifier = FaceVerifier(model, yunet, far=far, threshold=threshold, face=face, aligned=aligned)
    embedder = verifier.embedder
    if embedder.precision != "float32" or embedder.batch not in (None, 1):
        wanted = "a model with float32 input for any batch or one crop"
        found = f"found {embedder.precision} and batch {embedder.batch or 'any'} in {embedder.path}"
        raise InputError(f"expected {wanted}, {found}; export it anew with `zoo export --onnx`")
    if external_files(load_proto(embedder.path)):
        raise InputError(f"expected a model in one file, found weights beside {embedder.path}: a browser takes one")
    assets = page_files("browser")
    told = f"expected the npm package onnxruntime-web in {runtime}, cannot read it"
    advice = "run `npm install onnxruntime-web`, or name its folder with --onnxruntime-web"
    with explained(told, OSError, advice=advice):
        assets |= {name: (Path(runtime) / "dist" / name).read_bytes() for name in RUNTIME}
    assets["model.onnx"] = embedder.path.read_bytes()
    assets["detector.onnx"] = with_any_size(yunet)
    assets["facts.json"] = json.dumps(facts(verifier)).encode()
    head = b'<meta charset="utf-8">\n'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CSP}">\n'.encode()
    files = {"index.html": assets.pop("index.html").replace(head, head + policy)}
    files |= {f"assets/{name}": content for name, content in assets.items()}
    with new_folder(folder / "assets"):
        for name, content in files.items():
            write_bytes(folder / name, content)
    return {name: len(content) for name, content in files.items()}


def facts(verifier: FaceVerifier) -> dict[str, Any]:
    """What the page's script must know to answer as `verifier` does."""
    spec, stored = verifier.embedder.input, verifier.decision.stored
    kinds = {"aligned": False, "detected": True}
    conditions = {name: verifier.conditions(stored, kind) if stored else [] for name, kind in kinds.items()}
    known = {name: getattr(quality, name) for name in LIMITS}
    known |= {"CROP_DEVIATION": finder.CROP_DEVIATION, "LYING": finder.LYING}
    return {
        "model": verifier.model.name,
        "model_sha256": verifier.embedder.model_sha256,
        "size": spec.size,
        "template": template(spec.size).tolist(),
        "mean": np.broadcast_to(spec.mean, 3).tolist(),
        "std": np.broadcast_to(spec.std, 3).tolist(),
        "bgr": spec.channel_order == "BGR",
        "flip": verifier.flip,
        "face": verifier.face,
        "aligned": verifier.aligned,
        **verifier.decision.facts(),
        "given": "given with --threshold",
        "notes": verifier.embedder.notes,
        "conditions": conditions,
        "detect": {name: getattr(detect, name) for name in SEARCH},
        "finder": {**known, "ARCFACE_TEMPLATE": ARCFACE_TEMPLATE.tolist()},
    }


def with_any_size(detector: FaceDetector) -> bytes:
    """YuNet's file for pictures of any size, as OpenCV takes it; InputError where ONNX Runtime cannot run it so."""
    import onnx
    import onnxruntime as ort

    proto = onnx.load_from_string(detector.content)
    del proto.graph.value_info[:]
    for value, free in [*((v, (2, 3)) for v in proto.graph.input), *((v, (1,)) for v in proto.graph.output)]:
        for axis in free:
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    content: bytes = proto.SerializeToString()
    try:
        quiet = ort.SessionOptions()
        quiet.log_severity_level = 4
        session = ort.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
        found = session.run(["cls_8", "kps_32"], {proto.graph.input[0].name: np.zeros((1, 3, 96, 64), np.float32)})
        fits = [one.shape for one in found] == [(1, 96, 1), (1, 6, 10)]
    except Exception:  # ONNX Runtime's errors share no type
        fits = False
    if not fits:
        fixed = f"found one of a fixed size in {detector.name}"
        advice = "pass face_detection_yunet_2026may.onnx of opencv/face_detection_yunet with --detector"
        raise InputError(f"expected a detector that takes pictures of any size, {fixed}; {advice}")
    return content
