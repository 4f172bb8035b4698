"""Cut aligned face crops out of photos: 112×112, one folder per person, ready for `zoo data pack` and `zoo train`.

The sub-folders of PHOTOS are kept. OUT/align.jsonl says, one line per photo, what was skipped and why. An interrupted
run is resumed: photos that are done are not searched again.

zoo align photos/ crops/ --detector face_detection_yunet_2023mar.onnx
zoo align photos/ crops/ --face all --size 224
"""

import argparse

from zoo.commands.options import Parser, bar, limit_threads


def add_arguments(parser: Parser) -> None:
    parser.add("photos PHOTOS", "a folder of photos, in sub-folders by person")
    parser.add("output OUT", "the folder for the crops")
    parser.add_detector_arguments()
    parser.add_argument("--size", type=int, default=112, help="the crops' height and width in pixels (default: 112)")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="the crops' file format (default: png)")
    parser.add_batch_arguments()


def run(args: argparse.Namespace) -> None:
    from zoo.recognition import align_photos

    limit_threads(args)
    done = align_photos(args.photos, args.output, args.detector, args.face, args.size, args.format, args.workers, bar)
    told = f"{done.crops:,} crops of {done.photos:,} photos, {done.skipped:,} skipped (why: {done.log})"
    print(done.to_json() if args.json else f"{args.output}: {told}")
