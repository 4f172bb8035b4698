"""Tell whether two pictures show the same person: photos, or aligned face crops.

Exit code 0: the same person; 1: different people; 3: no threshold is known, only the similarity; 2: wrong input.

zoo verify holiday.jpg passport.jpg --model model.onnx --threshold 0.3
zoo verify holiday.jpg passport.jpg --far 0.001
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.evaluate.verify import FaceCrop, Verification

SAME, DIFFERENT, NO_VERDICT = 0, 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a photo or an aligned crop")
    parser.add_argument("b", metavar="B", help="the other one")
    add_model_arguments(parser)
    parser.add_argument(
        "--far",
        type=float,
        help="use the model's stored threshold for this false accept rate, e.g. 0.001; default: the smallest stored",
    )
    parser.add_argument("--threshold", type=float, help="use this cosine similarity as the threshold instead")
    parser.add_argument("--draw", metavar="OUT.png", help="draw both photos, their faces, the score and the verdict")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every command that turns pictures into embeddings."""
    parser.add_argument(
        "--model", metavar="MODEL", help="an ONNX file or a run; default: the newest run with a model.onnx"
    )
    parser.add_argument(
        "--detector", metavar="PATH", help="YuNet's ONNX file; default: the pinned one of the Hugging Face Hub"
    )
    parser.add_argument(
        "--face", choices=("largest", "central", "all"), default="largest", help="which of several faces to take"
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned crops: find no faces")


def model_path(model: str | None) -> Path:
    """The ONNX file of `--model`: a file, a run folder or a run's name; None: the newest run that has one."""
    from zoo.train.runs import find_run, run_folders

    if model is None:
        exported = [folder / "model.onnx" for folder in run_folders() if (folder / "model.onnx").is_file()]
        if not exported:
            raise InputError(
                "expected a model, found no run under runs/ with a model.onnx; pass --model with any ArcFace-style"
                " ONNX file, or make one: `zoo train resnet18` and `zoo export --onnx`"
            )
        return exported[-1]
    path = Path(model)
    if path.is_file():
        return path
    if path.suffix == ".onnx":
        raise InputError(f"expected an ONNX model at {model}, found no such file; check the path")
    file = path / "model.onnx" if path.is_dir() else find_run(model) / "model.onnx"
    if not file.is_file():
        raise InputError(f"expected {file}, found no such file; export the run with `zoo export {file.parent} --onnx`")
    return file


def run(args: argparse.Namespace) -> int:
    from zoo.evaluate.verify import FaceVerifier
    from zoo.formats.photos import read_photo

    model = model_path(args.model)
    verifier = FaceVerifier(
        model,
        args.detector,
        far=args.far,
        threshold=args.threshold,
        face=args.face,
        aligned=args.aligned,
    )
    if args.draw:
        from zoo.evaluate.drawing import draw_verification, require_picture_name, save_picture

        require_picture_name(args.draw)
    answer = verifier.verify(args.a, args.b)
    if args.draw:
        save_picture(args.draw, draw_verification((read_photo(args.a), read_photo(args.b)), answer))
    if args.json:
        print(json.dumps(record(answer, model), indent=2))
    else:
        print(story(answer, model))
    return NO_VERDICT if answer.same is None else SAME if answer.same else DIFFERENT


def story(answer: Verification, model: Path) -> str:
    """What people read."""
    threshold = answer.decision.threshold
    lines = [
        f"A           {sighting(answer.a)}",
        f"B           {sighting(answer.b)}",
        f"model       {model}",
        f"similarity  {answer.similarity:.4f}",
        f"threshold   {'unknown' if threshold is None else f'{threshold:.4f}'}: {answer.decision.origin}",
        *(f"note        {note}" for note in answer.notes),
        f"verdict     {VERDICTS[answer.same]}",
    ]
    return "\n".join(lines)


def sighting(crop: FaceCrop) -> str:
    """One picture and the face taken from it, in a line."""
    if crop.face is None:
        return f"{crop.name}: an aligned crop"
    _, _, width, height = crop.face.box
    eyes = crop.quality.eye_distance or 0
    return f"{crop.name}: a face of {width:.0f}×{height:.0f} pixels, {eyes:.0f} between the eyes"


VERDICTS = {True: "the same person", False: "different people", None: "none: without a threshold there is no verdict"}


def record(answer: Verification, model: Path) -> dict[str, Any]:
    """What scripts read."""
    stored = answer.decision.stored
    return {
        "similarity": answer.similarity,
        "threshold": answer.decision.threshold,
        "far": stored.far if stored else None,
        "origin": answer.decision.origin,
        "same": answer.same,
        "model": str(model),
        "a": _face_record(answer.a),
        "b": _face_record(answer.b),
        "notes": list(answer.notes),
    }


def _face_record(crop: FaceCrop) -> dict[str, Any]:
    face = crop.face
    return {
        "path": crop.name,
        "size": list(crop.size),
        "faces": len(crop.faces),
        "aligned": face is None,
        "box": list(face.box) if face else None,
        "landmarks": face.landmarks.tolist() if face else None,
        "score": face.score if face else None,
        "quality": asdict(crop.quality),
    }
