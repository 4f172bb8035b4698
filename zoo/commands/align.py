"""Cut aligned face crops out of photos: 112×112, one folder a person, ready for `zoo data pack` and `zoo train`.

The folders below PHOTOS are kept. What was skipped, and why, is in OUT/align.jsonl, a line a photo. An interrupted
run goes on where it stopped: photos whose crop is there are not searched again.

zoo align photos/ crops/ --detector face_detection_yunet_2023mar.onnx
zoo align photos/ crops/ --face all --size 224
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTOS", help="a folder of photos, in sub-folders by person")
    parser.add_argument("output", metavar="OUT", help="the folder for the crops")
    parser.add_argument(
        "--detector", metavar="PATH", help="YuNet's ONNX file; default: the pinned one of the Hugging Face Hub"
    )
    parser.add_argument(
        "--face", choices=("largest", "central", "all"), default="largest", help="which of several faces to cut out"
    )
    parser.add_argument("--size", type=int, default=112, help="the crops' height and width in pixels (default: 112)")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="of the crops (default: png)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read and search photos (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    from zoo.commands.progress import bar
    from zoo.faces.detect import load_detector
    from zoo.recognition.align_folder import Cropper
    from zoo.recognition.batch import pictures_in

    source, target = Path(args.photos), Path(args.output)
    if not source.is_dir():
        raise InputError(f"expected a folder of photos at {source}, found none; check the path")
    if not 16 <= args.size <= 1024:
        raise InputError(f"expected a crop size from 16 to 1024 pixels, found {args.size}")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"expected an output outside {source}, found {target}: crops would be taken for photos")
    photos = list(pictures_in([source]))
    if not photos:
        raise InputError(f"expected photos in {source}, found none")
    cropper = Cropper(source, target, load_detector(args.detector), args.face, (args.size, args.size), args.format)
    with cropper, bar("align", len(photos)) as advance:
        counts = cropper.crop_all(photos, args.workers, advance)
    if args.json:
        print(json.dumps(counts, indent=2))
        return 0
    print(
        f"{target}: {counts['crops']:,} crops of {counts['photos']:,} photos, {counts['skipped']:,} skipped"
        f" (why: {cropper.log})"
    )
    return 0
